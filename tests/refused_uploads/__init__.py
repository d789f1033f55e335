"""Refused uploads as four HTTP clients see them; see ``__main__``."""

"""Wrapped keys and what they seal."""

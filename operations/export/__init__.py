"""Anonymised exports."""

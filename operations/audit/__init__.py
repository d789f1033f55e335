"""Verifying and exporting the audit log."""

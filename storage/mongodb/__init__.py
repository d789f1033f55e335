"""Adapters over MongoDB: audit log, extended metadata."""

"""Rows, object store and GED compared, and put right."""

"""Tools that are no domain."""

"""The demonstration that proves a stack end to end."""

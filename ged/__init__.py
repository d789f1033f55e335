"""Adapters to the GED (ECM) that keeps validated documents for years."""

"""Stores of signed checkpoints."""

"""Ports that stand failures: circuit breakers, a keyring that checks itself."""

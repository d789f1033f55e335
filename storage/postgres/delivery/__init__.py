"""Outbox, inbox, dead letters."""

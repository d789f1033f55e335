"""Adapters that write and send mails."""

"""Dashboards for Grafana, a module each, in the words of ``description``; ``generate`` writes them as JSON."""

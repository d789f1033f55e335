"""Dashboards for Grafana: described in ``description``, written as JSON by ``generate`` into ``deploy/observability/grafana``."""

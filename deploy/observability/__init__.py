"""What watches a site, as code: rules and alerts, dashboards, the way of logs."""

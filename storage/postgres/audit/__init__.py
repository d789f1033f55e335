"""The audit log's working copy in PostgreSQL: chains and trees."""

"""How long documents are kept: retention, legal holds, purge, erasure."""

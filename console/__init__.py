"""The operators' console: pages made on the server, for operators and auditors."""

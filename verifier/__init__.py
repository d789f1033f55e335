"""The single-file verifier of exported audit logs and receipts; it stands alone."""

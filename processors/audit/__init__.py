"""The audit log: chains, checkpoints, receipts, an auditor's reading."""

"""What a restore means, looked at across all stores, and the steps that put it right."""

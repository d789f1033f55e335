"""Object stores: a folder, S3."""

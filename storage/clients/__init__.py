"""What the clients of several stores share: threads for vendors that block, and the meaning of S3 errors."""

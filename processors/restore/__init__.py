"""What follows from a restore, put right."""

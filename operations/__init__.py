"""What an operator runs: topics, lag, services, and the demonstration that proves a stack end to end."""

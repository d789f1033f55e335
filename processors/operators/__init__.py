"""What operators do: dead letters, held events, keys."""

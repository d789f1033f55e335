"""Topics, lag, dead letters, stalls."""

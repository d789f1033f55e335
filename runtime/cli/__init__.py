"""``dpj``: the command line."""

"""How late the whole pipeline is, and why: one look that console, command line, metrics and history share."""

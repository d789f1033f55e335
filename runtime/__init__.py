"""Where settings become running processes; the only package that sees all others."""

"""The local stack: the real servers the pipeline works with, as processes of this machine, without containers."""

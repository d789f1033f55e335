"""The composition root: which adapter serves which port."""

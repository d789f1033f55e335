"""Documents as portals see them: taken in, read, decided about, linked to, looked up."""

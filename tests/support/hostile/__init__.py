"""Files and attempts that mean harm, made on the spot: nothing hostile lies in the repository."""

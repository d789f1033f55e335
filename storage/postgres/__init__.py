"""Adapters over PostgreSQL: French tables and columns meet English fields here, and nowhere else."""

"""The relational schema, as Alembic revisions written by hand in SQL; ``storage.migrate`` runs them."""

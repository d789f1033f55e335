"""A key-encryption key per tenant: what is wrapped under which version, and versions under which nothing may be kept any more.

``keyring_floors`` is what makes retiring a version sure: whoever writes a wrapped key is held to it by a trigger, so that an
upload that was under way can't leave a key under a version that was retired meanwhile (SQLSTATE DPJ01).
"""

from __future__ import annotations

from alembic import op

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    op.execute("ALTER TABLE keyring_canaries ADD COLUMN tenant varchar(64)")
    op.execute(
        """
        CREATE TABLE keyring_floors (
            scheme text NOT NULL,
            key_name text NOT NULL,
            min_version integer NOT NULL,
            retired_at timestamptz NOT NULL DEFAULT now(),
            PRIMARY KEY (scheme, key_name)
        )
        """
    )
    # In the order in which rewrapping walks; counting reads nothing but the index.
    op.execute(
        "CREATE INDEX documents_cles ON documents (cle_schema, cle_nom, cle_version, tenant, id) "
        "WHERE cle_version IS NOT NULL"
    )
    for table, scheme, name, version in (
        ("documents", "cle_schema", "cle_nom", "cle_version"),
        ("keyring_canaries", "scheme", "key_name", "key_version"),
    ):
        op.execute(
            f"""
            CREATE FUNCTION {table}_cle_en_vigueur() RETURNS trigger LANGUAGE plpgsql AS $$
            BEGIN
                IF EXISTS (
                    SELECT FROM keyring_floors AS f
                    WHERE f.scheme = NEW.{scheme} AND f.key_name = NEW.{name} AND f.min_version > NEW.{version}
                ) THEN
                    RAISE EXCEPTION 'key version retired' USING ERRCODE = 'DPJ01';
                END IF;
                RETURN NEW;
            END $$
            """
        )
        op.execute(
            f"""
            CREATE TRIGGER {table}_cle_en_vigueur BEFORE INSERT OR UPDATE OF {scheme}, {name}, {version} ON {table}
            FOR EACH ROW WHEN (NEW.{version} IS NOT NULL) EXECUTE FUNCTION {table}_cle_en_vigueur()
            """
        )

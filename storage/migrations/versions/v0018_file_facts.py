"""Texts of files leave the extended metadata: their names were kept as the files spell them, and a file may spell anything.

What is written from now on is a word of ours (``domain.file_facts``). What stands there is taken out, not mapped: the table of known
programs is not the database's. Sites that keep these facts in MongoDB do the same there (docs/OPERATIONS.md).
"""

from __future__ import annotations

from alembic import op

revision = "0018"
down_revision = "0017"

STATEMENTS = (
    # A jsonb string is what had no form that a jsonb holds: the file's oddity, text and all.
    """
    UPDATE metadonnees_etendues
    SET metadonnees = CASE jsonb_typeof(metadonnees)
        WHEN 'object' THEN
            metadonnees #- '{producer}' #- '{creator_tool}' #- '{creation_date}'
                #- '{exif,make}' #- '{exif,model}' #- '{exif,date_time_original}'
        ELSE '{}'::jsonb
    END
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)

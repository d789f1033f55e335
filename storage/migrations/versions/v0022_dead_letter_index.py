"""An index of dead letters (lettres_mortes): one row for each record that a consumer gave up, written with the letter itself.

    origine_*           the record that was given up; with consumer and event_id it is what a row is about
    rejoue_event_id     the event of the letter whose redriven record this one gave up, where the record can't be decoded
    outbox_id           the letter's row in the outbox, until its place in Kafka (lettre_*) is known here
    reglement           REDRIVEN or DISCARDED: what an operator did with it

``lettres_mortes_lues``: up to which offset the topics of dead letters were read for letters that an earlier release wrote.
"""

from __future__ import annotations

from alembic import op

revision = "0022"
down_revision = "0021"

STATEMENTS = (
    """
    CREATE TABLE lettres_mortes (
        numero bigserial PRIMARY KEY,
        consumer varchar(64) NOT NULL,
        event_id uuid NOT NULL,
        tenant varchar(64),
        document_id uuid,
        code varchar(64) NOT NULL,
        error_class varchar(128) NOT NULL,
        origine_topic varchar(249) NOT NULL,
        origine_partition integer NOT NULL,
        origine_offset bigint NOT NULL,
        tentatives integer NOT NULL,
        rejeux integer NOT NULL,
        rejoue_event_id uuid,
        ecrite_a timestamptz NOT NULL DEFAULT now(),
        outbox_id bigint,
        lettre_partition integer,
        lettre_offset bigint,
        reglement varchar(16) CHECK (reglement IN ('REDRIVEN', 'DISCARDED')),
        reglee_par varchar(128),
        reglee_a timestamptz,
        UNIQUE (consumer, event_id, origine_topic, origine_partition, origine_offset),
        CHECK ((reglement IS NULL) = (reglee_a IS NULL)),
        CHECK ((lettre_partition IS NULL) = (lettre_offset IS NULL))
    )
    """,
    # Groups, and the pages of one, from the index alone.
    """
    CREATE INDEX lettres_mortes_ouvertes ON lettres_mortes (consumer, code, error_class, ecrite_a, numero)
    INCLUDE (tenant) WHERE reglement IS NULL
    """,
    "CREATE INDEX lettres_mortes_age ON lettres_mortes (ecrite_a)",
    "CREATE INDEX lettres_mortes_sans_place ON lettres_mortes (outbox_id) WHERE lettre_offset IS NULL",
    "CREATE INDEX lettres_mortes_document ON lettres_mortes (document_id) WHERE document_id IS NOT NULL",
    """
    CREATE INDEX lettres_mortes_rejouees ON lettres_mortes (consumer, rejoue_event_id)
    WHERE rejoue_event_id IS NOT NULL
    """,
    """
    CREATE TABLE lettres_mortes_lues (
        topic varchar(249) NOT NULL,
        partition integer NOT NULL,
        jusqu_a bigint NOT NULL,
        PRIMARY KEY (topic, partition)
    )
    """,
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)

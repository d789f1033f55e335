"""Batches of operators' acts (lots) with the result of each item (lots_lignes), and consumers that are paused (pauses).

lots.demande        which act on what, as it was asked for: codes, ids and numbers
lots.empreinte      hash of the plan that was confirmed
lots.tenants        the only tenants whose things it may touch; NULL: all
lots.eprouvettes    so many items first, then a person looks; NULL: all at once
lots.arret_apres    so many equal failures stop it
lots.a_deux         it takes a second person, and none of it is done before he has confirmed it
lots_lignes.prevu   what the plan said of the item; NULL resultat: still to be done
pauses              the consumer takes no event until ``jusqu_a``; one that was ended early has ``levee_a``
"""

from __future__ import annotations

from alembic import op

revision = "0023"
down_revision = "0022"

STATEMENTS = (
    """
    CREATE TABLE lots (
        id uuid PRIMARY KEY,
        acte varchar(32) NOT NULL,
        demande jsonb NOT NULL,
        empreinte varchar(64) NOT NULL,
        tenants varchar(64)[],
        acteur varchar(128) NOT NULL,
        motif varchar(64) NOT NULL,
        etat varchar(16) NOT NULL CHECK (etat IN ('ORDERED', 'CANARY', 'LOOK', 'RUNNING', 'STOPPED', 'DONE')),
        arret varchar(64),
        eprouvettes integer,
        arret_apres integer NOT NULL,
        a_deux boolean NOT NULL DEFAULT false,
        second varchar(128),
        cree_a timestamptz NOT NULL DEFAULT now(),
        change_a timestamptz NOT NULL DEFAULT now(),
        CHECK (second IS NULL OR second <> acteur)
    )
    """,
    "CREATE INDEX lots_en_cours ON lots (cree_a) WHERE etat IN ('CANARY', 'RUNNING')",
    "CREATE INDEX lots_age ON lots (cree_a)",
    """
    CREATE TABLE lots_lignes (
        lot uuid NOT NULL REFERENCES lots ON DELETE CASCADE,
        rang integer NOT NULL,
        objet varchar(200) NOT NULL,
        prevu varchar(16) NOT NULL,
        resultat varchar(16),
        note varchar(200) NOT NULL,
        faite_a timestamptz,
        PRIMARY KEY (lot, rang)
    )
    """,
    "CREATE INDEX lots_lignes_a_faire ON lots_lignes (lot, rang) WHERE resultat IS NULL",
    """
    CREATE TABLE pauses (
        numero bigserial PRIMARY KEY,
        consumer varchar(64) NOT NULL,
        demandee_par varchar(128) NOT NULL,
        motif varchar(64) NOT NULL,
        demandee_a timestamptz NOT NULL DEFAULT now(),
        jusqu_a timestamptz NOT NULL,
        levee_a timestamptz,
        levee_par varchar(128),
        CHECK (jusqu_a <= demandee_a + interval '24 hours 1 minute'),
        CHECK ((levee_a IS NULL) = (levee_par IS NULL))
    )
    """,
    "CREATE INDEX pauses_en_cours ON pauses (consumer, jusqu_a) WHERE levee_a IS NULL",
)


def upgrade() -> None:
    for statement in STATEMENTS:
        op.execute(statement)

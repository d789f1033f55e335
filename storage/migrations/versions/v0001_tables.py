"""Tables of the platform (DOSSIERS, ETAPES_PARCOURS, TYPES_DOCUMENTS, DOCUMENTS, dossier_events, notifications) and of delivery.

Names and columns in French are the platform's own, known to its DBAs. Columns that the pipeline adds to DOCUMENTS:

    tenant, langue, courriel_scelle    whose it is; the depositor's language and sealed e-mail address
    sequence, correlation_id           number of the last event; the conversation it came in
    bail_expire_a                      lease of an upload under way (PENDING)
    etag_objet, taille_objet           version and sealed size of the stored object
    cle_schema, cle_nom, cle_version, cle_enveloppee    the wrapped data key and what wrapped it
    decision_en_attente                a decision taken before the document was verified
    archivage_prevu, duree_conservation_annees          what the type's rule says of archiving
    code_echec, note_vignette          why it is QUARANTINED or ARCHIVE_FAILED; why there is no thumbnail
"""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

STATUSES = (
    "'PENDING','ABANDONED','STORED','VERIFIED','QUARANTINED','VALIDATED',"
    "'REJECTED','ARCHIVED','ARCHIVE_FAILED','ERASING','ERASED'"
)

TABLES = (
    """
    CREATE TABLE types_documents (
        id uuid PRIMARY KEY DEFAULT gen_random_uuid(),
        code_type varchar(64) NOT NULL UNIQUE,
        libelle varchar(200) NOT NULL,
        description text NOT NULL DEFAULT '',
        formats_autorises varchar(127)[] NOT NULL,
        taille_max_mb integer NOT NULL CHECK (taille_max_mb > 0),
        est_actif boolean NOT NULL DEFAULT true,
        regles_validation jsonb NOT NULL DEFAULT '{}',
        template_metadata jsonb NOT NULL DEFAULT '{}',
        est_archive boolean NOT NULL DEFAULT true,
        duree_conservation_annees integer NOT NULL DEFAULT 10 CHECK (duree_conservation_annees > 0),
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    """
    CREATE TABLE dossiers (
        id uuid PRIMARY KEY,
        tenant varchar(64) NOT NULL,
        numero_dossier varchar(64) NOT NULL,
        client_id varchar(128) NOT NULL,
        type_parcours varchar(64) NOT NULL,
        statut varchar(32) NOT NULL,
        etape_courante varchar(64),
        priorite integer NOT NULL DEFAULT 0,
        date_creation timestamptz NOT NULL,
        date_modification timestamptz NOT NULL,
        date_echeance timestamptz,
        collaborateur_id varchar(128),
        commentaire_interne text,
        metadata jsonb NOT NULL DEFAULT '{}',
        version integer NOT NULL DEFAULT 1,
        created_by varchar(128) NOT NULL,
        updated_by varchar(128),
        UNIQUE (tenant, numero_dossier)
    )
    """,
    """
    CREATE TABLE etapes_parcours (
        id uuid PRIMARY KEY,
        dossier_id uuid NOT NULL REFERENCES dossiers,
        nom_etape varchar(255) NOT NULL,
        code_etape varchar(64) NOT NULL,
        ordre_etape integer NOT NULL,
        statut varchar(32) NOT NULL,
        date_debut timestamptz,
        date_fin timestamptz,
        duree_estimee_heures integer,
        documents_obligatoires jsonb NOT NULL DEFAULT '[]',
        documents_optionnels jsonb NOT NULL DEFAULT '[]',
        regles_validation jsonb NOT NULL DEFAULT '{}',
        created_at timestamptz NOT NULL DEFAULT now(),
        updated_at timestamptz NOT NULL DEFAULT now(),
        UNIQUE (dossier_id, ordre_etape)
    )
    """,
    f"""
    CREATE TABLE documents (
        id uuid PRIMARY KEY,
        tenant varchar(64) NOT NULL,
        dossier_id uuid NOT NULL REFERENCES dossiers,
        etape_id uuid REFERENCES etapes_parcours,
        nom_fichier varchar(255) NOT NULL,
        nom_original varchar(255) NOT NULL,
        type_document varchar(64) NOT NULL REFERENCES types_documents (code_type),
        categorie_document varchar(64),
        mime_type varchar(127),
        taille_fichier bigint CHECK (taille_fichier > 0),
        checksum_sha256 varchar(64),
        chemin_stockage varchar(255) NOT NULL,
        statut varchar(16) NOT NULL CHECK (statut IN ({STATUSES})),
        est_obligatoire boolean NOT NULL DEFAULT false,
        deposant_id varchar(128) NOT NULL,
        validateur_id varchar(128),
        motif_rejet text,
        commentaire_validation text,
        numero_version integer NOT NULL DEFAULT 1,
        document_parent_id uuid REFERENCES documents,
        metadata jsonb NOT NULL DEFAULT '{{}}',
        tags varchar(64)[] NOT NULL DEFAULT '{{}}',
        ged_id varchar(255),
        date_archivage timestamptz,
        chemin_ged varchar(1024),
        source_ged_id varchar(255),
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        date_depot timestamptz,
        date_validation timestamptz,
        date_expiration timestamptz,
        langue varchar(2) NOT NULL,
        courriel_scelle text NOT NULL,
        sequence bigint NOT NULL DEFAULT 0,
        correlation_id uuid NOT NULL,
        bail_expire_a timestamptz,
        etag_objet varchar(255),
        taille_objet bigint,
        cle_schema varchar(32),
        cle_nom varchar(128),
        cle_version integer,
        cle_enveloppee text,
        decision_en_attente jsonb,
        archivage_prevu boolean,
        duree_conservation_annees integer,
        code_echec varchar(64),
        note_vignette varchar(64),
        CHECK (statut <> 'PENDING' OR bail_expire_a IS NOT NULL),
        CHECK (statut IN ('PENDING', 'ABANDONED', 'ERASED') OR (
            taille_fichier IS NOT NULL AND checksum_sha256 IS NOT NULL AND cle_enveloppee IS NOT NULL
            AND etag_objet IS NOT NULL AND taille_objet IS NOT NULL))
    ) WITH (fillfactor = 85)
    """,
    "CREATE INDEX documents_liste ON documents (tenant, created_at DESC, id DESC)",
    "CREATE INDEX documents_statut ON documents (tenant, statut, created_at DESC, id DESC)",
    # Operators ask for one rare state across all tenants.
    "CREATE INDEX documents_statut_tous ON documents (statut, created_at DESC, id DESC)",
    "CREATE INDEX documents_type ON documents (tenant, type_document, created_at DESC, id DESC)",
    "CREATE INDEX documents_dossier ON documents (dossier_id, created_at DESC, id DESC)",
    "CREATE INDEX documents_tous ON documents (created_at DESC, id DESC)",
    "CREATE INDEX documents_baux ON documents (bail_expire_a) WHERE statut = 'PENDING'",
    "CREATE UNIQUE INDEX documents_objet ON documents (chemin_stockage)",
    "CREATE INDEX documents_parent ON documents (document_parent_id) WHERE document_parent_id IS NOT NULL",
    "CREATE INDEX dossiers_liste ON dossiers (tenant, date_creation DESC, id DESC)",
    "CREATE INDEX dossiers_tous ON dossiers (date_creation DESC, id DESC)",
    """
    CREATE TABLE vignettes (
        document_id uuid NOT NULL REFERENCES documents,
        role varchar(32) NOT NULL,
        chemin_stockage varchar(300) NOT NULL,
        mime_type varchar(127) NOT NULL,
        largeur integer NOT NULL,
        hauteur integer NOT NULL,
        taille integer NOT NULL,
        checksum_sha256 varchar(64) NOT NULL,
        etag_objet varchar(255) NOT NULL,
        taille_objet integer NOT NULL,
        PRIMARY KEY (document_id, role)
    )
    """,
    # The journal grows without end: hash partitions keep each index small and need no upkeep.
    "CREATE SEQUENCE dossier_events_rang",
    """
    CREATE TABLE dossier_events (
        id uuid NOT NULL DEFAULT gen_random_uuid(),
        document_id uuid NOT NULL,
        dossier_id uuid NOT NULL,
        type varchar(64) NOT NULL,
        payload_json jsonb NOT NULL DEFAULT '{}',
        auteur_id varchar(128) NOT NULL,
        horodatage timestamptz NOT NULL,
        rang bigint NOT NULL DEFAULT nextval('dossier_events_rang'),
        PRIMARY KEY (document_id, rang)
    ) PARTITION BY HASH (document_id)
    """,
    """
    CREATE TABLE notifications (
        id uuid PRIMARY KEY,
        document_id uuid NOT NULL REFERENCES documents,
        dossier_id uuid NOT NULL,
        event_id uuid NOT NULL,
        canal varchar(16) NOT NULL,
        template varchar(64) NOT NULL,
        langue varchar(2) NOT NULL,
        payload_json jsonb NOT NULL DEFAULT '{}',
        message_id varchar(255) NOT NULL UNIQUE,
        statut varchar(16) NOT NULL,
        tentative integer NOT NULL DEFAULT 0,
        sent_at timestamptz,
        created_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX notifications_document ON notifications (document_id)",
)

DELIVERY = (
    """
    CREATE TABLE outbox (
        id bigserial PRIMARY KEY,
        topic varchar(249) NOT NULL,
        key bytea,
        body bytea,
        headers jsonb NOT NULL,
        event_id uuid,
        created_at timestamptz NOT NULL DEFAULT now(),
        published_at timestamptz
    ) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0)
    """,
    "CREATE INDEX outbox_unpublished ON outbox (id) WHERE published_at IS NULL",
    """
    CREATE TABLE inbox (
        consumer varchar(64) NOT NULL,
        event_id uuid NOT NULL,
        document_key varchar(128) NOT NULL,
        state varchar(8) NOT NULL CHECK (state IN ('CLAIMED', 'DONE', 'DEAD')),
        owner uuid NOT NULL,
        lease_until timestamptz NOT NULL,
        claims integer NOT NULL DEFAULT 1,
        updated_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (consumer, event_id)
    ) WITH (fillfactor = 80, autovacuum_vacuum_scale_factor = 0.02)
    """,
    # One event of a document at a time, per consumer.
    "CREATE UNIQUE INDEX inbox_one_per_document ON inbox (consumer, document_key) WHERE state = 'CLAIMED'",
    "CREATE INDEX inbox_age ON inbox (updated_at) WHERE state <> 'CLAIMED'",
    """
    CREATE TABLE idempotency_keys (
        tenant varchar(64) NOT NULL,
        caller varchar(128) NOT NULL,
        key varchar(128) NOT NULL,
        document_id uuid NOT NULL,
        object_key varchar(255) NOT NULL,
        metadata_fingerprint varchar(128) NOT NULL,
        content_sha256 varchar(64),
        done boolean NOT NULL DEFAULT false,
        response json,  -- not jsonb, which would change the order of the members of an answer
        lease_until timestamptz NOT NULL,
        created_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (tenant, caller, key)
    )
    """,
    "CREATE INDEX idempotency_keys_age ON idempotency_keys (created_at)",
    """
    CREATE TABLE audit_heads (
        tenant varchar(64) PRIMARY KEY,
        seq bigint NOT NULL,
        hash varchar(64) NOT NULL,
        updated_at timestamptz NOT NULL
    ) WITH (fillfactor = 50)
    """,
    """
    CREATE TABLE audit_pending (
        tenant varchar(64) NOT NULL,
        seq bigint NOT NULL,
        event_id uuid NOT NULL UNIQUE,
        entry bytea NOT NULL,
        hash varchar(64) NOT NULL,
        recorded_at timestamptz NOT NULL DEFAULT now(),
        PRIMARY KEY (tenant, seq)
    )
    """,
    """
    CREATE TABLE audit_chained (
        event_id uuid PRIMARY KEY,
        tenant varchar(64) NOT NULL,
        seq bigint NOT NULL,
        chained_at timestamptz NOT NULL DEFAULT now()
    )
    """,
    "CREATE INDEX audit_chained_age ON audit_chained (chained_at)",
)

PARTITIONS = 16


def upgrade() -> None:
    for statement in (*TABLES, *DELIVERY):
        op.execute(statement)
    for number in range(PARTITIONS):
        op.execute(
            f"CREATE TABLE dossier_events_{number} PARTITION OF dossier_events "
            f"FOR VALUES WITH (MODULUS {PARTITIONS}, REMAINDER {number})"
        )
    op.execute("CREATE INDEX dossier_events_dossier ON dossier_events (dossier_id, rang)")

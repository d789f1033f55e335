"""The settings by concern. Each field is the environment variable ``DPJ_`` and its name in capitals.

Times in seconds, sizes in bytes unless the name says otherwise.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final, Literal

from pydantic import BaseModel, Field, SecretStr

from domain.documents import Role


class SiteSettings(BaseModel):
    """Which site this is, and what its processes say and prove about themselves."""

    environment: Literal["development", "production"] = "development"
    profile: Literal["embedded", "full"] = "embedded"
    stack_name: str = "default"
    drain_seconds: float = Field(default=15.0, ge=0, le=3600)
    worker_port_base: int = 0
    log_format: Literal["json", "console"] = "json"
    log_level: Literal["DEBUG", "INFO", "WARNING", "ERROR"] = "INFO"
    crash_point: str | None = None


class TracingSettings(BaseModel):
    """Where spans go, if anywhere. ``tracing_ratio``: the part of the traces that begin here which are recorded."""

    tracing_endpoint: str = Field(default="", pattern=r"^(https?://[^\s/@?#]+(/[^\s@?#]*)?)?$")
    tracing_ratio: float = Field(default=0.05, ge=0, le=1)
    tracing_follow_callers: bool = True


class TlsSettings(BaseModel):
    """What connections to servers are verified with."""

    tls_ca_file: Path | None = None
    tls_minimum: Literal["1.2", "1.3"] = "1.3"


class DatabaseSettings(BaseModel):
    """PostgreSQL, the database behind MongoDB's protocol, and Redis where it is used."""

    postgres_dsn: SecretStr
    postgres_pool_size: int = Field(default=10, ge=1, le=100)
    audit_store: Literal["mongodb", "postgresql"] = "mongodb"
    mongo_url: SecretStr = SecretStr("")
    mongo_database: str = "dpj"
    redis_url: SecretStr | None = None


class KafkaSettings(BaseModel):
    """The broker, its topics and the schemas."""

    kafka_bootstrap: str
    kafka_security_protocol: Literal["plaintext", "ssl"] = "plaintext"
    schema_registry: Literal["server", "repository"] = "server"
    registry_url: str = ""
    topic_partitions: int = Field(default=6, ge=1, le=1000)
    topic_replication: int = Field(default=1, ge=1, le=7)
    topic_retention_days: int = Field(default=30, ge=1, le=30)


class ObjectStoreSettings(BaseModel):
    """Where sealed content is kept."""

    object_store: Literal["filesystem", "minio"] = "filesystem"
    objects_dir: Path | None = None
    minio_endpoint: str = ""
    minio_access_key: SecretStr = SecretStr("")
    minio_secret_key: SecretStr = SecretStr("")
    minio_bucket: str = "dpj-documents"
    minio_secure: bool = False


class KeySettings(BaseModel):
    """Who wraps data keys and signs, and the keys of personal data."""

    keyring: Literal["local", "vault"] = "local"
    keyring_file: Path | None = None
    vault_addr: str = ""
    vault_role_id: SecretStr = SecretStr("")
    vault_secret_id: SecretStr = SecretStr("")
    vault_wrapped_secret_id_file: Path | None = None
    vault_operator_file: Path | None = None
    vault_mount: str = "transit"
    vault_tenant_prefix: str = Field(default="dpj-tenant-", pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]{0,62}$")
    vault_transit_key: str = "dpj-documents"
    vault_timeout: float = Field(default=5.0, gt=0, le=60)
    signer: Literal["local", "vault"] = "local"
    signing_key_file: Path | None = None
    vault_signing_key: str = "dpj-proofs"
    personal_key_file: Path
    pseudonym_key_file: Path
    column_key_file: Path
    lookup_key_file: Path
    columns_sealed_only: bool = True


class CheckpointSettings(BaseModel):
    """How often the audit log is signed, and where checkpoints are kept. ``checkpoint_entries``: audit lines between two."""

    checkpoint_store: Literal["folder", "s3"] = "folder"
    checkpoints_dir: Path | None = None
    checkpoint_endpoint: str = ""
    checkpoint_access_key: SecretStr = SecretStr("")
    checkpoint_secret_key: SecretStr = SecretStr("")
    checkpoint_bucket: str = "dpj-checkpoints"
    checkpoint_secure: bool = False
    checkpoint_lock_days: int = Field(default=3_650, ge=1)
    checkpoint_entries: int = Field(default=10_000, ge=1)
    checkpoint_seconds: float = Field(default=300.0, gt=0)


class GedSettings(BaseModel):
    """The archive. ``ged_settle``: how long a call whose answer was lost may still take effect there."""

    ged_url: str
    ged_repository: str = "A1"
    ged_user: str = "dpj"
    ged_password: SecretStr = SecretStr("")
    ged_settle: float = Field(default=20.0, gt=0)


class MailSettings(BaseModel):
    """The mail server, and who writes to whom."""

    smtp_host: str = "127.0.0.1"
    smtp_port: int = 25
    smtp_user: str | None = None
    smtp_password: SecretStr | None = None
    smtp_tls: Literal["none", "starttls", "implicit"] = "none"
    smtp_maildir: Path | None = None
    mail_from: str = "documents@dpj.banque.example"
    mail_from_name: str = "DPJ"
    mail_time_zone: str = "Europe/Paris"
    operators_mail: str = ""
    operators_language: Literal["fr", "en"] = "fr"


#: Scheme, host and port of pages (RFC 6454).
_ORIGIN: Final = r"https?://[A-Za-z0-9.\[\]:-]+"


class ApiSettings(BaseModel):
    """The HTTP server: its address, its bounds on clients, uploads and links."""

    api_host: str = "127.0.0.1"
    api_port: int = 8082
    api_metrics_host: str = "127.0.0.1"
    api_metrics_port: int = Field(default=0, ge=0, le=65_535)
    api_cors_origins: str = Field(default="", pattern=rf"^({_ORIGIN}( *, *{_ORIGIN})*)?$")
    api_public_url: str = Field(
        default="", pattern=r"^(https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~/-]*[A-Za-z0-9._~-])?)?$"
    )
    api_tls_cert_file: Path | None = None
    api_tls_key_file: Path | None = None
    api_connections: int = Field(default=500, ge=1, le=100_000)
    api_connections_per_address: int = Field(default=100, ge=0, le=100_000)
    body_timeout: float = Field(default=30.0, gt=0)
    header_timeout: float = Field(default=10.0, gt=0)
    send_timeout: float = Field(default=60.0, gt=0)
    trusted_proxies: str = ""
    upload_lease: float = 60.0
    upload_match_extension: bool = False
    link_key_file: Path | None = None
    link_longest_seconds: int = Field(default=86_400, ge=1, le=30 * 86_400)


class ConsoleSettings(BaseModel):
    """The operators' console. ``console_port`` 0: there is none. ``console_sign_in`` development asks nobody who he is."""

    console_host: str = "127.0.0.1"
    console_port: int = Field(default=0, ge=0, le=65_535)
    console_public_url: str = Field(default="", pattern=rf"^({_ORIGIN})?$")
    console_sign_in: Literal["oidc", "development"] = "oidc"
    console_client_id: str = ""
    console_client_secret: SecretStr = SecretStr("")
    console_scope: str = Field(default="openid", pattern=r"^openid( [!-~]+)*$")
    console_runbook_url: str = Field(default="", pattern=r"^(https?://[^\s#]+)?$")
    console_session_hours: float = Field(default=8.0, gt=0, le=24)
    console_idle_minutes: float = Field(default=30.0, gt=0, le=24 * 60)
    console_step_up_minutes: float = Field(default=5.0, gt=0, le=60)
    console_step_up_acr: str = Field(default="", pattern=r"^[!-~]{0,255}$")


class AccessSettings(BaseModel):
    """Tokens, their revocation, and quotas per window."""

    jwt_issuer: str
    jwt_audience: str = "dpj"
    jwks: str
    jwks_ca_file: Path | None = None
    jwks_copy_file: Path | None = None
    jwks_keep_hours: float = Field(default=24.0, gt=0)
    jwt_private_key_file: Path | None = None
    jwt_algorithms: str = "RS256,ES256,EdDSA"
    jwt_tenant_claim: str = Field(default="tenant", min_length=1)
    jwt_roles_claim: str = Field(default="roles", min_length=1)
    jwt_role_names: dict[str, Role] | None = None
    jwt_tenants_claim: str = Field(default="tenants", min_length=1)
    operators_bound: bool = False
    operator_tenants: dict[str, tuple[str, ...]] | None = None
    jwt_longest_hours: float = Field(default=720.0, gt=0)
    jwt_session_hours: float = Field(default=720.0, gt=0, le=10 * 8_766)
    jwt_require_id: bool = True
    revocation_store: Literal["postgresql", "redis"] = "postgresql"
    rate_client: int = Field(default=100, ge=0)
    rate_documents: int = Field(default=50, ge=0)
    rate_failures: int = Field(default=10, ge=0)
    rate_tokens: int = Field(default=10, ge=0)
    rate_store: Literal["memory", "redis"] = "memory"


class DutySettings(BaseModel):
    """What one person may not do alone. ``separation_of_duties`` None: as production is. Orders wait ``order_hours`` for their second
    person."""

    separation_of_duties: bool | None = None
    erasure_second_person: bool = False
    #: Discarding dead letters, giving up held events and dropping refused rows take a second person.
    operations_second_person: bool = False
    key_retirement_second_person: bool = False
    order_hours: float = Field(default=72.0, gt=0, le=720)


class DeliverySettings(BaseModel):
    """Lanes, leases and retries of events; when a group counts as stalled."""

    lane_size: int = Field(default=32, ge=1, le=1024)
    lane_concurrency: int = Field(default=4, ge=1, le=64)
    event_lease: float = 60.0
    event_deadline: float = 900.0
    group_session: float = Field(default=15.0, ge=1, le=300)
    bug_retries: int = Field(default=3, ge=0, le=20)
    retry_base: float = 0.2
    retry_cap: float = 30.0
    #: Longer than a claim that a killed worker left and its group's session: who waits for those is no stall.
    stall_seconds: float = Field(default=90.0, gt=0)
    stall_restart: bool = False
    relay_batch: int = Field(default=2_000, ge=1, le=10_000)
    #: Longer than a rebalance and a retry of the relay; what a consumer holds is not lost, however long it is held.
    events_lost_after: float = Field(default=120.0, ge=10)
    events_re_emit: bool = True


class RetentionSettings(BaseModel):
    """How long rows, documents and backups are kept, and how often stores are compared."""

    outbox_keep_hours: float = 24.0
    inbox_keep_days: int = Field(default=60, ge=31)
    idempotency_keep_hours: float = Field(default=72.0, gt=0)
    abandoned_keep_hours: float = Field(default=24.0, gt=0)
    reconcile_interval: float = Field(default=3600.0, ge=0)
    reconcile_grace: float = Field(default=3600.0, gt=0)
    reconcile_ged_hours: float = Field(default=24.0, ge=0)
    backup_keep_days: int = Field(default=30, ge=0, le=36500)
    purge_interval: float = Field(default=0.0, ge=0)
    purge_rate: float = Field(default=5.0, gt=0, le=1000)


class UntrustedFileSettings(BaseModel):
    """What opens and scans files from outside."""

    render_children: int = Field(default=2, ge=1, le=32)
    render_timeout: float = 20.0
    render_memory: int = Field(default=1 << 30, ge=256 << 20, le=16 << 30)
    render_confinement: Literal["preferred", "required"] = "preferred"
    antivirus: Literal["off", "clamd"] = "off"
    clamd_address: str = "127.0.0.1:3310"
    clamd_piece_timeout: float = Field(default=30.0, gt=0)
    clamd_verdict_timeout: float = Field(default=180.0, gt=0)


class SettingGroups(
    SiteSettings,
    TracingSettings,
    TlsSettings,
    DatabaseSettings,
    KafkaSettings,
    ObjectStoreSettings,
    KeySettings,
    CheckpointSettings,
    GedSettings,
    MailSettings,
    ApiSettings,
    ConsoleSettings,
    AccessSettings,
    DutySettings,
    DeliverySettings,
    RetentionSettings,
    UntrustedFileSettings,
):
    """All of them."""

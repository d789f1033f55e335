"""What would cross a network in clear if the settings were followed."""

from __future__ import annotations

from collections.abc import Iterator

from runtime.config.addresses import (
    all_are_here,
    http_is_safe,
    is_here,
    mongo_is_safe,
    postgres_is_safe,
    redis_is_safe,
)
from runtime.config.groups import SettingGroups


def in_clear(settings: SettingGroups) -> list[str]:
    """The settings by which something would cross a network unencrypted, or to a server that nobody verifies."""
    return [name for name, protected in _ways(settings) if not protected]


def _ways(settings: SettingGroups) -> Iterator[tuple[str, bool]]:
    yield "DPJ_POSTGRES_DSN", postgres_is_safe(settings.postgres_dsn.get_secret_value())
    if settings.audit_store == "mongodb":
        yield "DPJ_MONGO_URL", mongo_is_safe(settings.mongo_url.get_secret_value())
    ssl_to_kafka = settings.kafka_security_protocol == "ssl"
    yield "DPJ_KAFKA_BOOTSTRAP", ssl_to_kafka or all_are_here(settings.kafka_bootstrap.split(","))
    if settings.schema_registry == "server":
        yield "DPJ_REGISTRY_URL", http_is_safe(settings.registry_url)
    yield "DPJ_GED_URL", http_is_safe(settings.ged_url)
    if "vault" in {settings.keyring, settings.signer}:
        yield "DPJ_VAULT_ADDR", http_is_safe(settings.vault_addr)
    if settings.object_store == "minio":
        yield "DPJ_MINIO_ENDPOINT", settings.minio_secure or all_are_here([settings.minio_endpoint])
    if settings.checkpoint_store == "s3":
        yield "DPJ_CHECKPOINT_ENDPOINT", settings.checkpoint_secure or all_are_here([settings.checkpoint_endpoint])
    yield "DPJ_SMTP_HOST", settings.smtp_tls != "none" or is_here(settings.smtp_host)
    if settings.redis_url is not None:
        yield "DPJ_REDIS_URL", redis_is_safe(settings.redis_url.get_secret_value())
    if settings.antivirus == "clamd":
        address = settings.clamd_address
        yield "DPJ_CLAMD_ADDRESS", address.startswith("unix:") or all_are_here([address])
    if settings.tracing_endpoint:
        yield "DPJ_TRACING_ENDPOINT", http_is_safe(settings.tracing_endpoint)
    # The console speaks no TLS itself: a proxy on its machine does.
    yield "DPJ_CONSOLE_HOST", is_here(settings.console_host)
    yield "DPJ_API_HOST", settings.api_tls_cert_file is not None or is_here(settings.api_host)

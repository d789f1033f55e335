"""What would cross a network in clear if the settings were followed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_address
from typing import TYPE_CHECKING, Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

if TYPE_CHECKING:
    from runtime.config.settings import Settings

#: Options of MongoDB's address that have its client take any certificate.
_UNVERIFIED: Final = ("tlsinsecure", "tlsallowinvalidcertificates", "tlsallowinvalidhostnames")
#: How Redis's client spells true.
_TRUE: Final = frozenset({"true", "yes", "y", "t", "1"})


def in_clear(settings: Settings) -> list[str]:
    """The settings by which something would cross a network unencrypted, or to a server that nobody verifies."""
    return [name for name, protected in _ways(settings) if not protected]


def _ways(settings: Settings) -> Iterator[tuple[str, bool]]:
    yield "DPJ_POSTGRES_DSN", _postgres(settings.postgres_dsn.get_secret_value())
    if settings.audit_store == "mongodb":
        yield "DPJ_MONGO_URL", _mongo(settings.mongo_url.get_secret_value())
    ssl_to_kafka = settings.kafka_security_protocol == "ssl"
    yield "DPJ_KAFKA_BOOTSTRAP", ssl_to_kafka or _all_here(settings.kafka_bootstrap.split(","))
    if settings.schema_registry == "server":
        yield "DPJ_REGISTRY_URL", _https(settings.registry_url)
    yield "DPJ_GED_URL", _https(settings.ged_url)
    if "vault" in {settings.keyring, settings.signer}:
        yield "DPJ_VAULT_ADDR", _https(settings.vault_addr)
    if settings.object_store == "minio":
        yield "DPJ_MINIO_ENDPOINT", settings.minio_secure or _all_here([settings.minio_endpoint])
    if settings.checkpoint_store == "s3":
        yield "DPJ_CHECKPOINT_ENDPOINT", settings.checkpoint_secure or _all_here([settings.checkpoint_endpoint])
    yield "DPJ_SMTP_HOST", settings.smtp_tls != "none" or _is_here(settings.smtp_host)
    if settings.redis_url is not None:
        yield "DPJ_REDIS_URL", _redis(settings.redis_url.get_secret_value())
    if settings.antivirus == "clamd":
        address = settings.clamd_address
        yield "DPJ_CLAMD_ADDRESS", address.startswith("unix:") or _all_here([address])
    yield "DPJ_API_HOST", settings.api_tls_cert_file is not None or _is_here(settings.api_host)


def _postgres(dsn: str) -> bool:
    parts = urlsplit(dsn)
    options = dict(parse_qsl(parts.query))
    hosts = options.get("host", "").split(",") if "host" in options else _hosts(parts)
    return options.get("sslmode") == "verify-full" or _all_here(hosts)


def _mongo(url: str) -> bool:
    parts = urlsplit(url)
    options = {name.lower(): value.lower() for name, value in parse_qsl(parts.query)}
    asked = options.get("tls", options.get("ssl", "true" if parts.scheme == "mongodb+srv" else "false")) == "true"
    lax = any(options.get(name) == "true" for name in _UNVERIFIED)
    return (asked and not lax) or _all_here(_hosts(parts))


def _redis(url: str) -> bool:
    parts = urlsplit(url)
    options = {name.lower(): value.lower() for name, value in parse_qsl(parts.query)}
    verified = options.get("ssl_cert_reqs", "required") == "required"
    named = options.get("ssl_check_hostname", "true") in _TRUE
    return parts.scheme == "unix" or (parts.scheme == "rediss" and verified and named) or _all_here(_hosts(parts))


def _https(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or _is_here(parts.hostname or "")


def _hosts(parts: SplitResult) -> list[str]:
    """Those of an address that may name several; none named is this machine's socket."""
    return [unquote(one) for one in parts.netloc.rpartition("@")[2].split(",")] if parts.netloc else ["/"]


def _all_here(addresses: Iterable[str]) -> bool:
    return all(_is_here(_without_port(address.strip())) for address in addresses)


def _without_port(address: str) -> str:
    """``host``, ``host:port``, ``[address]:port`` or a socket's path."""
    if address.startswith("/"):
        return address
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.rpartition(":")[0] if address.count(":") == 1 else address


def _is_here(host: str) -> bool:
    """Whether what is sent there stays on this machine: loopback, or a socket's path."""
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

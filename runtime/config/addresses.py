"""Addresses of servers: whether what is sent there stays on this machine, or goes over TLS to a server that is verified."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, parse_qsl, unquote, urlsplit

#: Options of MongoDB's address that have its client take any certificate.
_UNVERIFIED: Final = ("tlsinsecure", "tlsallowinvalidcertificates", "tlsallowinvalidhostnames")
#: How Redis's client spells true.
_TRUE: Final = frozenset({"true", "yes", "y", "t", "1"})


def postgres_is_safe(dsn: str) -> bool:
    parts = urlsplit(dsn)
    options = dict(parse_qsl(parts.query))
    hosts = options.get("host", "").split(",") if "host" in options else _hosts(parts)
    return options.get("sslmode") == "verify-full" or all_are_here(hosts)


def mongo_is_safe(url: str) -> bool:
    parts = urlsplit(url)
    options = {name.lower(): value.lower() for name, value in parse_qsl(parts.query)}
    asked = options.get("tls", options.get("ssl", "true" if parts.scheme == "mongodb+srv" else "false")) == "true"
    lax = any(options.get(name) == "true" for name in _UNVERIFIED)
    return (asked and not lax) or all_are_here(_hosts(parts))


def redis_is_safe(url: str) -> bool:
    parts = urlsplit(url)
    options = {name.lower(): value.lower() for name, value in parse_qsl(parts.query)}
    verified = options.get("ssl_cert_reqs", "required") == "required"
    named = options.get("ssl_check_hostname", "true") in _TRUE
    return parts.scheme == "unix" or (parts.scheme == "rediss" and verified and named) or all_are_here(_hosts(parts))


def http_is_safe(url: str) -> bool:
    parts = urlsplit(url)
    return parts.scheme == "https" or is_here(parts.hostname or "")


def _hosts(parts: SplitResult) -> list[str]:
    """Those of an address that may name several; none named is this machine's socket."""
    return [unquote(one) for one in parts.netloc.rpartition("@")[2].split(",")] if parts.netloc else ["/"]


def all_are_here(addresses: Iterable[str]) -> bool:
    return all(is_here(_without_port(address.strip())) for address in addresses)


def _without_port(address: str) -> str:
    """``host``, ``host:port``, ``[address]:port`` or a socket's path."""
    if address.startswith("/"):
        return address
    if address.startswith("["):
        return address[1:].partition("]")[0]
    return address.rpartition(":")[0] if address.count(":") == 1 else address


def is_any_address(host: str) -> bool:
    """Whether a server that listens there listens on all addresses of the machine."""
    try:
        return not host or ip_address(host).is_unspecified
    except ValueError:
        return False


def is_here(host: str) -> bool:
    """Whether what is sent there stays on this machine: loopback, or a socket's path."""
    if host == "localhost" or host.startswith("/"):
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False

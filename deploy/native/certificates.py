"""The certificate authority of a stack with TLS, and its servers' certificates (RFC 5280).

The authority is good for this machine alone: it is constrained to 127.0.0.0/8 and ``localhost``, so that who steals its key can
pose as nobody else. Its key is in ``keys/`` and no server reads it. Certificates are short-lived and made anew by ``up`` in time.
"""

from __future__ import annotations

import ssl
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from deploy.native import files
from deploy.native.site import StackSite

AUTHORITY: Final = "ca"
#: The pipeline's own server, which is no part of the stack.
API: Final = "api"
AUTHORITY_LIFE: Final = timedelta(days=365)
SERVER_LIFE: Final = timedelta(days=30)
#: With less than this left, a server's certificate is made anew.
RENEWED_BEFORE: Final = timedelta(days=10)
#: For clocks that are slow; nobody else's clock is asked on one machine.
BACKDATED: Final = timedelta(hours=1)

_KEY_USES: Final = (
    *("digital_signature", "content_commitment", "key_encipherment", "data_encipherment", "key_agreement"),
    *("key_cert_sign", "crl_sign", "encipher_only", "decipher_only"),
)


@dataclass(frozen=True, slots=True)
class Pair:
    """The PEM files of a certificate and its key (PKCS #8, not encrypted, mode 0600)."""

    certificate: Path
    key: Path


@dataclass(frozen=True, slots=True)
class _Loaded:
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def authority_file(site: StackSite) -> Path:
    """Whom clients of the stack trust."""
    return site.folder / "tls" / f"{AUTHORITY}.pem"


def pair(site: StackSite, name: str) -> Pair:
    """The files of the server ``name``."""
    folder = site.folder / "tls"
    return Pair(folder / f"{name}.pem", folder / f"{name}.key")


def ensure(site: StackSite, servers: Iterable[str], now: datetime | None = None) -> None:
    """Make what is missing, unreadable, not of this authority, or nearly over (at ``now``). Repeatable, and safe to interrupt."""
    files.private_folder(site.folder / "tls")
    now = now or datetime.now(UTC)
    authority = _authority(site, now)
    for name in servers:
        files_of = pair(site, name)
        if not _is_good(_load(files_of), authority, now + RENEWED_BEFORE):
            _store(files_of, _server(name, authority, now))


def changed_at(site: StackSite, server: str) -> float:
    """When the certificate of ``server`` was made, in Unix seconds; 0 if it has none."""
    try:
        return pair(site, server).certificate.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def trusting(site: StackSite) -> ssl.SSLContext | None:
    """TLS 1.3 to servers of this stack and to nobody else; None for a stack without TLS."""
    if not site.tls:
        return None
    context = ssl.create_default_context(cafile=authority_file(site))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context


def for_librdkafka(site: StackSite) -> dict[str, str]:
    """What librdkafka is told beside the address; nothing for a stack without TLS."""
    return {"security.protocol": "ssl", "ssl.ca.location": str(authority_file(site))} if site.tls else {}


def _authority(site: StackSite, now: datetime) -> _Loaded:
    place = Pair(authority_file(site), site.folder / "keys" / "tls-ca.key")
    found = _load(place)
    # It has to outlive the certificates that it signs.
    if found is not None and _is_good(found, found, now + SERVER_LIFE + RENEWED_BEFORE):
        return found
    key = ec.generate_private_key(ec.SECP256R1())
    name = _name(f"DPJ stack {site.name} {now:%Y-%m-%d} {site.id}")
    builder = (
        _builder(name, name, key.public_key(), now, AUTHORITY_LIFE)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_key_usage("key_cert_sign", "crl_sign"), critical=True)
        .add_extension(
            x509.NameConstraints(
                permitted_subtrees=[x509.DNSName("localhost"), x509.IPAddress(IPv4Network("127.0.0.0/8"))],
                excluded_subtrees=None,
            ),
            critical=True,
        )
    )
    made = _Loaded(builder.sign(key, hashes.SHA256()), key)
    _store(place, made)
    return made


def _server(name: str, authority: _Loaded, now: datetime) -> _Loaded:
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    builder = (
        _builder(_name(name), issuer.subject, key.public_key(), now, SERVER_LIFE)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage("digital_signature"), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.SERVER_AUTH]), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(IPv4Address("127.0.0.1"))]),
            critical=False,
        )
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False)
    )
    return _Loaded(builder.sign(authority.key, hashes.SHA256()), key)


def _builder(
    subject: x509.Name, issuer: x509.Name, public: ec.EllipticCurvePublicKey, now: datetime, life: timedelta
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED)
        .not_valid_after(now + life)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
    )


def _name(common: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common[:64])])  # RFC 5280: ub-common-name


def _key_usage(*uses: str) -> x509.KeyUsage:
    return x509.KeyUsage(**{use: use in uses for use in _KEY_USES})


def _is_good(found: _Loaded | None, authority: _Loaded, until: datetime) -> bool:
    if found is None or found.certificate.not_valid_after_utc < until:
        return False
    try:
        found.certificate.verify_directly_issued_by(authority.certificate)
    except (ValueError, TypeError, InvalidSignature):
        return False
    return found.key.public_key() == found.certificate.public_key()


def _load(place: Pair) -> _Loaded | None:
    try:
        certificate = x509.load_pem_x509_certificate(place.certificate.read_bytes())
        key = serialization.load_pem_private_key(place.key.read_bytes(), None)
    except (OSError, ValueError, TypeError):
        return None
    return _Loaded(certificate, key) if isinstance(key, ec.EllipticCurvePrivateKey) else None


def _store(place: Pair, made: _Loaded) -> None:
    """The key first: a certificate without its key would be taken for a whole pair."""
    encoding, form = serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8
    key = made.key.private_bytes(encoding, form, serialization.NoEncryption())
    files.write_private(place.key, key.decode("ascii"))
    files.write_private(place.certificate, made.certificate.public_bytes(encoding).decode("ascii"))

"""What the pipeline is told of a stack: ``settings.env``, and the keys that no server keeps."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import secrets
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from crypto.local_keyring import LocalKeyring
from crypto.local_signer import LocalSigner
from deploy.native import certificates, files
from deploy.native.parts import (
    clamd,
    collector,
    ferretdb,
    ged,
    keycloak,
    minio,
    observability,
    postgres,
    redis,
    registry,
    smtp,
    vault,
)
from deploy.native.ports import LOOPBACK
from deploy.native.site import Profile, StackSite

KEY_BYTES = 32
KEYRING = "keyring.json"
SIGNING_KEY = "signing.json"
PLAIN = re.compile(r"[A-Za-z0-9_@%+=:,./?-]*\Z")
AUDIT_STORES: Final[Mapping[Profile, str]] = {"embedded": "postgresql", "full": "mongodb"}
SEALED_ONLY = "DPJ_COLUMNS_SEALED_ONLY"
JWT_ISSUER = "https://login.dpj.example"


def path(site: StackSite) -> Path:
    return site.folder / "settings.env"


def audit_store(site: StackSite) -> str | None:
    """Where the stack's audit log is, by the settings that were written last; None if there are none yet."""
    written = _written(site)
    # Earlier releases had it in MongoDB whatever the profile, and no such line.
    return None if written is None else written.get("DPJ_AUDIT_STORE", "mongodb")


def _written(site: StackSite) -> dict[str, str] | None:
    """The settings that were written last, as they stand there; None if there are none yet."""
    try:
        lines = path(site).read_text("utf-8").splitlines()
    except FileNotFoundError:
        return None
    return {name: value.strip("'\"") for name, _, value in (line.partition("=") for line in lines)}


def write(site: StackSite) -> Path:
    """Create the missing keys and write all settings the stack decides. Returns the file's path."""
    _create_keys(site)
    lines = [f"{name}={_quoted(value)}\n" for name, value in values(site).items()]
    files.write_private(path(site), "".join(lines))
    return path(site)


def values(site: StackSite) -> dict[str, str]:
    """Every setting of ``runtime.config.settings.Settings`` that depends on the stack."""
    keys = site.folder / "keys"
    found = {
        "DPJ_PROFILE": site.profile,
        "DPJ_STACK_NAME": site.name,
        "DPJ_POSTGRES_DSN": postgres.Postgres().dsn(site),
        "DPJ_AUDIT_STORE": AUDIT_STORES[site.profile],
        "DPJ_KAFKA_BOOTSTRAP": site.address("kafka"),
        "DPJ_SCHEMA_REGISTRY": "server" if site.profile == "full" else "repository",
        "DPJ_OBJECT_STORE": "minio" if site.profile == "full" else "filesystem",
        "DPJ_OBJECTS_DIR": str(site.folder / "objects"),
        "DPJ_KEYRING": "vault" if site.profile == "full" else "local",
        "DPJ_KEYRING_FILE": str(keys / KEYRING),
        "DPJ_SIGNER": "vault" if site.profile == "full" else "local",
        "DPJ_SIGNING_KEY_FILE": str(keys / SIGNING_KEY),
        "DPJ_CHECKPOINT_STORE": "s3" if site.profile == "full" else "folder",
        "DPJ_CHECKPOINTS_DIR": str(site.folder / "checkpoints"),
        # Who tries things out has a receipt soon.
        "DPJ_CHECKPOINT_SECONDS": "10",
        "DPJ_PERSONAL_KEY_FILE": str(keys / "personal.key"),
        "DPJ_PSEUDONYM_KEY_FILE": str(keys / "pseudonym.key"),
        "DPJ_COLUMN_KEY_FILE": str(keys / "column.key"),
        "DPJ_LOOKUP_KEY_FILE": str(keys / "lookup.key"),
        "DPJ_LINK_KEY_FILE": str(keys / "link.key"),
        "DPJ_GED_URL": ged.Ged().url(site),
        "DPJ_GED_REPOSITORY": ged.REPOSITORY,
        "DPJ_GED_USER": ged.USER,
        "DPJ_GED_PASSWORD": site.secret("ged"),
        "DPJ_SMTP_HOST": LOOPBACK,
        "DPJ_SMTP_PORT": str(site.ports["smtp"]),
        "DPJ_SMTP_MAILDIR": str(smtp.Smtp().maildir(site)),
        "DPJ_MAIL_FROM": "documents@dpj.banque.example",
        "DPJ_OPERATORS_MAIL": "operators@dpj.banque.example",
        "DPJ_API_HOST": LOOPBACK,
        "DPJ_API_PORT": str(site.ports["api"]),
        "DPJ_CONSOLE_HOST": LOOPBACK,
        "DPJ_CONSOLE_PORT": str(site.ports["console"]),
        "DPJ_CONSOLE_SIGN_IN": "development",
        "DPJ_WORKER_PORT_BASE": str(site.ports["workers"]),
        "DPJ_JWT_ISSUER": JWT_ISSUER,
        "DPJ_JWKS": str(keys / "jwks.json"),
        "DPJ_JWT_PRIVATE_KEY_FILE": str(keys / "jwt.pem"),
    }
    written = _written(site)
    # A stack of an earlier release may have texts that are not sealed: whoever has sealed them says so there.
    found[SEALED_ONLY] = "true" if written is None else written.get(SEALED_ONLY, "false")
    if site.tls:
        api = certificates.pair(site, certificates.API)
        found |= {
            "DPJ_TLS_CA_FILE": str(certificates.authority_file(site)),
            "DPJ_KAFKA_SECURITY_PROTOCOL": "ssl",
            "DPJ_SMTP_TLS": "implicit",
            "DPJ_API_TLS_CERT_FILE": str(api.certificate),
            "DPJ_API_TLS_KEY_FILE": str(api.key),
        }
    if redis.NAME in site.extras:
        found |= {
            "DPJ_REDIS_URL": redis.Redis().url(site),
            "DPJ_REVOCATION_STORE": "redis",
            "DPJ_RATE_STORE": "redis",
        }
    if observability.NAME in site.extras and _makes_spans():
        found |= {"DPJ_TRACING_ENDPOINT": collector.Collector().url(site), "DPJ_TRACING_RATIO": "1"}
    if keycloak.NAME in site.extras:
        found |= _identity(site)
        del found["DPJ_JWT_PRIVATE_KEY_FILE"]  # nobody would take what it signs
    if site.profile == "full":
        found |= {
            "DPJ_MONGO_URL": ferretdb.FerretDB().url(site),
            "DPJ_MONGO_DATABASE": "dpj",
            "DPJ_REGISTRY_URL": registry.Registry().url(site),
            "DPJ_MINIO_ENDPOINT": site.address("minio"),
            "DPJ_MINIO_ACCESS_KEY": minio.USER,
            "DPJ_MINIO_SECRET_KEY": site.secret("minio"),
            "DPJ_MINIO_BUCKET": minio.BUCKET,
            "DPJ_MINIO_SECURE": str(site.tls).lower(),
            "DPJ_CHECKPOINT_ENDPOINT": site.address("minio"),
            "DPJ_CHECKPOINT_ACCESS_KEY": minio.CHECKPOINT_USER,
            "DPJ_CHECKPOINT_SECRET_KEY": site.secret("minio_checkpoints"),
            "DPJ_CHECKPOINT_BUCKET": minio.CHECKPOINT_BUCKET,
            "DPJ_CHECKPOINT_SECURE": str(site.tls).lower(),
            "DPJ_VAULT_ADDR": vault.Vault().url(site),
            "DPJ_VAULT_ROLE_ID": site.secret("vault_role_id"),
            "DPJ_VAULT_SECRET_ID": site.secret("vault_secret_id"),
            "DPJ_VAULT_OPERATOR_FILE": str(vault.operator_file(site)),
            "DPJ_VAULT_TRANSIT_KEY": vault.TRANSIT_KEY,
            "DPJ_RENDER_CONFINEMENT": "required",
            "DPJ_VAULT_SIGNING_KEY": vault.SIGNING_KEY,
        }
    if site.profile == "full" and clamd.NAME not in site.left_out:
        found |= {"DPJ_ANTIVIRUS": "clamd", "DPJ_CLAMD_ADDRESS": clamd.Clamd().reached_at(site)}
    return found


def _makes_spans() -> bool:
    """Whether the packages of the extra ``tracing`` are there."""
    return find_spec("opentelemetry") is not None


def _identity(site: StackSite) -> dict[str, str]:
    """Whose tokens count, and how the console is known there, in a stack with an identity provider."""
    issuer = keycloak.Keycloak().issuer(site)
    return {
        "DPJ_JWT_ISSUER": issuer,
        "DPJ_JWKS": f"{issuer}/protocol/openid-connect/certs",
        "DPJ_JWT_LONGEST_HOURS": "1",
        "DPJ_CONSOLE_SIGN_IN": "oidc",
        "DPJ_CONSOLE_CLIENT_ID": keycloak.CONSOLE_CLIENT,
        "DPJ_CONSOLE_CLIENT_SECRET": site.secret("identity_console"),
        "DPJ_CONSOLE_STEP_UP_ACR": keycloak.STEP_UP_ACR,
    }


def _create_keys(site: StackSite) -> None:
    keys = site.folder / "keys"
    for name in ("personal.key", "pseudonym.key", "column.key", "lookup.key", "link.key"):
        if not (keys / name).exists():
            text = base64.urlsafe_b64encode(secrets.token_bytes(KEY_BYTES)).decode("ascii")
            files.write_private(keys / name, text + "\n")
    if not (keys / KEYRING).exists():
        LocalKeyring.create(keys / KEYRING)
    if not (keys / SIGNING_KEY).exists():
        LocalSigner.create(keys / SIGNING_KEY)
    if not (keys / "jwt.pem").exists():
        pem = Ed25519PrivateKey.generate().private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
        files.write_private(keys / "jwt.pem", pem.decode("ascii"))
    files.write_json(keys / "jwks.json", _jwks(keys / "jwt.pem"))


def _jwks(private_key: Path) -> dict[str, list[dict[str, str]]]:
    """The public half as a JSON Web Key Set (RFC 8037); the key id is its thumbprint (RFC 7638)."""
    key = serialization.load_pem_private_key(private_key.read_bytes(), None)
    public = key.public_key().public_bytes(serialization.Encoding.Raw, serialization.PublicFormat.Raw)
    thumbprint = {"crv": "Ed25519", "kty": "OKP", "x": _base64url(public)}
    digest = hashlib.sha256(json.dumps(thumbprint, separators=(",", ":"), sort_keys=True).encode("ascii")).digest()
    return {"keys": [thumbprint | {"kid": _base64url(digest), "alg": "EdDSA", "use": "sig"}]}


def _base64url(value: bytes) -> str:
    return base64.urlsafe_b64encode(value).rstrip(b"=").decode("ascii")


def _quoted(value: str) -> str:
    """As dotenv reads it; a shell agrees unless the text holds a quote or a backslash."""
    return value if PLAIN.match(value) else "'" + value.replace("\\", "\\\\").replace("'", "\\'") + "'"

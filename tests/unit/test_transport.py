"""What settings make of TLS: whom clients trust, what the API shows, what production refuses, and what is said of a bad certificate."""

from __future__ import annotations

import json
import os
import ssl
from pathlib import Path
from typing import Any

import pytest
from confluent_kafka import KafkaError
from cryptography import x509
from pydantic import ValidationError
from structlog.testing import capture_logs

from deploy.native import certificates, site
from deploy.native.certificates import Pair
from domain.errors import GedUnavailable, RegistryUnavailable
from runtime.cli.failures import describe
from runtime.cli.main import main
from runtime.config.certificate_errors import CertificateUnusable, certificate_error
from runtime.config.transport import (
    ServerCertificate,
    client_tls,
    https_tls,
    kafka_security,
    kafka_tls,
    server_certificate,
)
from runtime.observability.dependencies import Dependencies
from runtime.processes.serving import api_server
from streams.librdkafka import log_tls_error
from tests.support.settings import BASE, settings_of
from tests.support.tls_handshakes import serving, shake_hands, trusting


def issue(folder: Path, name: str, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, Pair]:
    """An authority of its own, and a certificate of it."""
    monkeypatch.setenv("DPJ_HOME", str(folder))
    here = site.load_or_create(name, "full")
    certificates.ensure(here, ["api"])
    return certificates.authority_file(here), certificates.pair(here, "api")


# --- production ------------------------------------------------------------------------------------------------------

REMOTE = "db.bank.example"
VERIFIED = "sslmode=verify-full&sslrootcert=/ca.pem"

IN_CLEAR = [
    ("DPJ_POSTGRES_DSN", {"postgres_dsn": f"postgresql://u:p@{REMOTE}:5432/dpj"}),
    ("DPJ_POSTGRES_DSN", {"postgres_dsn": f"postgresql://u:p@{REMOTE}/dpj?sslmode=require"}),
    ("DPJ_POSTGRES_DSN", {"postgres_dsn": f"postgresql://u:p@{REMOTE}/dpj?sslmode=verify-ca&sslrootcert=/ca.pem"}),
    ("DPJ_POSTGRES_DSN", {"postgres_dsn": f"postgresql://u:p@127.0.0.1:5432,{REMOTE}:5432/dpj"}),
    ("DPJ_POSTGRES_DSN", {"postgres_dsn": f"postgresql://u:p@/dpj?host={REMOTE}"}),
    ("DPJ_MONGO_URL", {"mongo_url": f"mongodb://u:p@{REMOTE}:27017"}),
    ("DPJ_MONGO_URL", {"mongo_url": f"mongodb://127.0.0.1:1,{REMOTE}:27017/?tls=false"}),
    ("DPJ_MONGO_URL", {"mongo_url": f"mongodb://{REMOTE}/?tls=true&tlsAllowInvalidHostnames=true"}),
    ("DPJ_MONGO_URL", {"mongo_url": f"mongodb+srv://{REMOTE}/?tls=false"}),
    ("DPJ_KAFKA_BOOTSTRAP", {"kafka_bootstrap": f"127.0.0.1:9092,{REMOTE}:9092"}),
    ("DPJ_REGISTRY_URL", {"registry_url": f"http://{REMOTE}:8081"}),
    ("DPJ_TRACING_ENDPOINT", {"tracing_endpoint": f"http://{REMOTE}:4318"}),
    ("DPJ_GED_URL", {"ged_url": f"http://{REMOTE}/cmis"}),
    ("DPJ_VAULT_ADDR", {"keyring": "vault", "vault_addr": f"http://{REMOTE}:8200"}),
    ("DPJ_VAULT_ADDR", {"signer": "vault", "vault_addr": f"http://{REMOTE}:8200"}),
    ("DPJ_MINIO_ENDPOINT", {"object_store": "minio", "minio_endpoint": f"{REMOTE}:9000"}),
    ("DPJ_CHECKPOINT_ENDPOINT", {"checkpoint_store": "s3", "checkpoint_endpoint": f"{REMOTE}:9000"}),
    ("DPJ_SMTP_HOST", {"smtp_host": REMOTE}),
    ("DPJ_REDIS_URL", {"redis_url": f"redis://:p@{REMOTE}:6379/0"}),
    ("DPJ_REDIS_URL", {"redis_url": f"rediss://:p@{REMOTE}:6379/0?ssl_cert_reqs=none"}),
    ("DPJ_REDIS_URL", {"redis_url": f"rediss://:p@{REMOTE}:6379/0?ssl_check_hostname=false"}),
    ("DPJ_CLAMD_ADDRESS", {"antivirus": "clamd", "clamd_address": f"{REMOTE}:3310"}),
    ("DPJ_API_HOST", {"api_host": "0.0.0.0"}),  # noqa: S104
]

PROTECTED: list[dict[str, Any]] = [
    {},
    {"postgres_dsn": f"postgresql://u:p@{REMOTE}:5432/dpj?{VERIFIED}"},
    {"postgres_dsn": "postgresql://u:p@localhost/dpj"},
    {"postgres_dsn": "postgresql://u:p@[::1]:5432/dpj"},
    {"postgres_dsn": "postgresql:///dpj?host=/var/run/postgresql"},
    {"postgres_dsn": "postgresql:///dpj"},
    {"mongo_url": f"mongodb://u:p@{REMOTE}:27017/?tls=true&tlsCAFile=/ca.pem"},
    {"mongo_url": f"mongodb+srv://u:p@{REMOTE}/"},
    {"mongo_url": "mongodb://u:p@%2Frun%2Fmongodb.sock/"},
    {"kafka_bootstrap": f"{REMOTE}:9093", "kafka_security_protocol": "ssl"},
    {"kafka_bootstrap": "127.0.0.1:9092,[::1]:9092"},
    {"registry_url": f"https://{REMOTE}:8081", "ged_url": f"https://{REMOTE}/cmis"},
    {"audit_store": "postgresql", "mongo_url": f"mongodb://{REMOTE}"},  # nothing is asked of them
    {"schema_registry": "repository", "registry_url": f"http://{REMOTE}"},
    {"keyring": "vault", "vault_addr": f"https://{REMOTE}:8200"},
    {"vault_addr": f"http://{REMOTE}:8200"},  # nothing is asked of it
    {"object_store": "minio", "minio_endpoint": f"{REMOTE}:9000", "minio_secure": True},
    {"checkpoint_store": "s3", "checkpoint_endpoint": f"{REMOTE}:9000", "checkpoint_secure": True},
    {"smtp_host": REMOTE, "smtp_tls": "starttls"},
    {"redis_url": f"rediss://:p@{REMOTE}:6379/0?ssl_ca_certs=/ca.pem"},
    {"redis_url": "unix:///run/redis.sock"},
    {"antivirus": "clamd", "clamd_address": "unix:/run/clamd.sock"},
    {"api_host": "0.0.0.0", "api_tls_cert_file": "/api.pem", "api_tls_key_file": "/api.key"},  # noqa: S104
]


@pytest.mark.parametrize(("named", "changes"), IN_CLEAR)
def test_production_refuses_what_would_cross_a_network_unprotected(named: str, changes: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=f"{named}: not over a network"):
        settings_of(environment="production", **changes)
    assert settings_of(**changes).environment == "development"


@pytest.mark.parametrize("changes", PROTECTED)
def test_production_takes_what_is_protected_or_stays_here(changes: dict[str, Any]) -> None:
    assert settings_of(environment="production", **changes).environment == "production"


def test_it_is_one_line_at_the_start_and_says_no_password(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    word = "hunter2"
    lines = {**BASE, "environment": "production", "postgres_dsn": f"postgresql://u:{word}@{REMOTE}/dpj"}
    (tmp_path / "settings.env").write_text("".join(f"DPJ_{name.upper()}={value}\n" for name, value in lines.items()))
    for name in [name for name in os.environ if name.startswith("DPJ_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("DPJ_SETTINGS", str(tmp_path / "settings.env"))
    assert main(["worker", "audit"]) == 1
    told = capsys.readouterr()
    assert "DPJ_POSTGRES_DSN: not over a network without TLS and verified certificates in production" in told.err
    assert word not in told.err + told.out
    assert "DPJ_MONGO_URL" not in told.err


# --- clients ---------------------------------------------------------------------------------------------------------


def test_clients_trust_the_named_authorities_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, pair = issue(tmp_path, "ours", monkeypatch)
    other, _ = issue(tmp_path, "other", monkeypatch)
    server = serving(pair.certificate, pair.key)
    assert shake_hands(client_tls(settings_of(tls_ca_file=ours)), server).version() == "TLSv1.3"
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(client_tls(settings_of(tls_ca_file=other)), server)
    with pytest.raises(ssl.SSLCertVerificationError):  # the system's
        shake_hands(client_tls(settings_of()), server)
    assert shake_hands(client_tls(settings_of(tls_ca_file=other), ca_file=ours), server).version() == "TLSv1.3"


@pytest.mark.parametrize(("minimum", "agreed"), [("1.3", None), ("1.2", "TLSv1.2")])
def test_older_tls_only_where_it_is_allowed(
    minimum: str, agreed: str | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ca, pair = issue(tmp_path, "ours", monkeypatch)
    client = client_tls(settings_of(tls_ca_file=ca, tls_minimum=minimum))
    server = serving(pair.certificate, pair.key, newest=ssl.TLSVersion.TLSv1_2)
    if agreed is None:
        with pytest.raises(ssl.SSLError, match="unsupported protocol"):
            shake_hands(client, server)
    else:
        assert shake_hands(client, server).version() == agreed


@pytest.mark.parametrize("content", [None, "", "no certificate"])
def test_authorities_that_can_not_be_read_are_named(content: str | None, tmp_path: Path) -> None:
    if content is not None:
        (tmp_path / "ca.pem").write_text(content)
    with pytest.raises(CertificateUnusable, match="DPJ_TLS_CA_FILE") as refused:
        client_tls(settings_of(tls_ca_file=tmp_path / "ca.pem"))
    assert describe(refused.value).code == "certificate_unusable"


def test_plain_addresses_need_no_context() -> None:
    unused = https_tls(settings_of(tls_ca_file="/nonexistent"), "http://127.0.0.1:1")
    assert unused.verify_mode is ssl.CERT_REQUIRED
    assert unused.get_ca_certs() == []
    assert kafka_tls(settings_of(tls_ca_file="/nonexistent")) is None
    assert kafka_security(settings_of(tls_ca_file="/nonexistent")) == {}


def test_both_clients_of_kafka_are_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca, _ = issue(tmp_path, "ours", monkeypatch)
    told = settings_of(kafka_security_protocol="ssl", tls_ca_file=ca)
    assert kafka_security(told) == {
        "security.protocol": "ssl",
        "ssl.ca.location": str(ca),
        "ssl.endpoint.identification.algorithm": "https",
    }
    faust_is_told = kafka_tls(told)
    assert faust_is_told is not None
    assert (faust_is_told.check_hostname, faust_is_told.verify_mode) == (True, ssl.CERT_REQUIRED)
    assert "ssl.ca.location" not in kafka_security(settings_of(kafka_security_protocol="ssl"))


# --- the API's certificate -------------------------------------------------------------------------------------------


def shown(certificate: ServerCertificate, *trusted: Path) -> int:
    """Serial number of what a client sees that trusts these authorities."""
    client = trusting(trusted[0])
    for more in trusted[1:]:
        client.load_verify_locations(more)
    seen = shake_hands(client, certificate.context).getpeercert(binary_form=True)
    assert seen is not None
    return x509.load_der_x509_certificate(seen).serial_number


def serial(pair: Pair) -> int:
    return x509.load_pem_x509_certificate(pair.certificate.read_bytes()).serial_number


async def test_a_new_certificate_is_taken_up_whole_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first_ca, first = issue(tmp_path, "first", monkeypatch)
    second_ca, second = issue(tmp_path, "second", monkeypatch)
    place = Pair(tmp_path / "api.pem", tmp_path / "api.key")
    place.certificate.write_bytes(first.certificate.read_bytes())
    place.key.write_bytes(first.key.read_bytes())
    certificate = server_certificate(settings_of(api_tls_cert_file=place.certificate, api_tls_key_file=place.key))
    assert certificate is not None
    both = (first_ca, second_ca)
    with capture_logs() as logs:
        await certificate.refresh()
        assert logs == []
        place.key.write_bytes(second.key.read_bytes())  # whoever renews writes one file after the other
        await certificate.refresh()
        assert shown(certificate, *both) == serial(first)
        place.certificate.unlink()
        await certificate.refresh()
        assert shown(certificate, *both) == serial(first)
        place.certificate.write_bytes(second.certificate.read_bytes())
        await certificate.refresh()
        assert shown(certificate, *both) == serial(second)
    assert [line["event"] for line in logs] == ["api_certificate_unusable"] * 2 + ["api_certificate_renewed"]


def test_the_api_speaks_no_older_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ca, pair = issue(tmp_path, "ours", monkeypatch)
    certificate = ServerCertificate(pair.certificate, pair.key)
    server = api_server(
        lambda *_: None, host="127.0.0.1", port=1, head_seconds=1, connections=1, tls=certificate.context
    )
    assert server.config.ssl is certificate.context
    with pytest.raises(ssl.SSLError):
        shake_hands(trusting(ca, newest=ssl.TLSVersion.TLSv1_2), certificate.context)


def test_a_certificate_that_can_not_be_used_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    _, pair = issue(tmp_path, "ours", monkeypatch)
    _, other = issue(tmp_path, "other", monkeypatch)
    for key in (other.key, tmp_path / "none"):
        with pytest.raises(CertificateUnusable, match="DPJ_API_TLS_CERT_FILE"):
            ServerCertificate(pair.certificate, key)
    with pytest.raises(ValidationError, match="DPJ_API_TLS_CERT_FILE and DPJ_API_TLS_KEY_FILE go together"):
        settings_of(api_tls_cert_file=pair.certificate)
    assert server_certificate(settings_of()) is None


def test_the_apis_address_follows_its_certificate() -> None:
    assert settings_of().api_url == "http://127.0.0.1:8082"
    assert settings_of(api_tls_cert_file="/a.pem", api_tls_key_file="/a.key").api_url == "https://127.0.0.1:8082"


# --- what is said of a bad certificate -------------------------------------------------------------------------------


def refused(folder: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLError:
    _, pair = issue(folder, "ours", monkeypatch)
    other, _ = issue(folder, "other", monkeypatch)
    with pytest.raises(ssl.SSLCertVerificationError) as error:
        shake_hands(trusting(other), serving(pair.certificate, pair.key))
    return error.value


def unavailable(cause: OSError) -> RegistryUnavailable:
    """As adapters raise it: the vendor's error is out of sight, not out of the chain."""
    try:
        try:
            raise cause
        except OSError:
            raise RegistryUnavailable("The schema registry does not answer.") from None
    except RegistryUnavailable as error:
        return error


def test_the_reason_is_found_behind_our_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours = unavailable(refused(tmp_path, monkeypatch))
    assert certificate_error(ours) == "unable to get local issuer certificate"
    told = describe(ours)
    assert told.code == "registry_unavailable"
    assert "certificate is refused: unable to get local issuer certificate" in told.message
    assert "DPJ_TLS_CA_FILE" in told.next_step


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: certificate has expired (_ssl.c:1006)", True),
        ("127.0.0.1:1: SSL handshake failed: certificate verify failed: certificate has expired (x), Timeout", True),
        ("connection refused", False),
    ],
)
def test_clients_that_pass_on_words_are_understood(text: str, reason: bool) -> None:
    assert certificate_error(unavailable(OSError(text))) == ("certificate has expired" if reason else "")


def test_a_chain_that_bites_its_tail_comes_to_an_end() -> None:
    first, second = ValueError("a"), ValueError("b")
    first.__cause__, second.__cause__ = second, first
    assert certificate_error(first) == ""


async def test_the_log_says_that_it_is_the_certificate(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    dependencies, ours = Dependencies(), unavailable(refused(tmp_path, monkeypatch))

    async def check() -> None:
        raise ours

    async def away() -> None:
        raise GedUnavailable

    dependencies.add("registry", check)
    dependencies.add("ged", away)
    with capture_logs() as logs:
        for name in ("registry", "ged"):
            dependencies._note(name, *await dependencies._run_check(name))
    registry, ged = logs
    assert (registry["code"], registry["certificate"]) == (
        "registry_unavailable",
        "unable to get local issuer certificate",
    )
    assert "certificate" not in ged


def test_what_librdkafka_says_of_tls_is_logged_without_addresses() -> None:
    text = (
        "ssl://10.1.2.3:9093/bootstrap: SSL handshake failed: x.c:1889: certificate verify failed: broker certificate"
    )
    with capture_logs() as logs:
        log_tls_error(KafkaError(KafkaError._SSL, text))
        log_tls_error(KafkaError(KafkaError._TRANSPORT, "ssl://10.1.2.3:9093: Connection refused"))
    assert logs == [{"event": "kafka_tls_failed", "log_level": "warning", "reason": "certificate verify failed"}]
    assert "10.1.2.3" not in json.dumps(logs)

"""A stack's own authority and its servers' certificates: whom they convince, whom not, and when they are made anew."""

from __future__ import annotations

import ssl
import stat
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from deploy.native import certificates, site
from deploy.native.certificates import Pair
from deploy.native.site import StackSite
from tests.support.tls_handshakes import serving, shake_hands, trusting

NAMES = ("api", "kafka")


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DPJ_HOME", str(tmp_path / "it's a home"))
    return tmp_path


def made(name: str = "mine", now: datetime | None = None) -> StackSite:
    here = site.load_or_create(name, "full")
    here.identity["tls"] = True
    certificates.ensure(here, NAMES, now)
    return here


def server(here: StackSite, name: str = "kafka") -> ssl.SSLContext:
    ours = certificates.pair(here, name)
    return serving(ours.certificate, ours.key)


def contents(here: StackSite) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in sorted((here.folder / "tls").iterdir())}


def loaded(place: Pair) -> x509.Certificate:
    return x509.load_pem_x509_certificate(place.certificate.read_bytes())


@pytest.mark.parametrize("name", ["127.0.0.1", "localhost"])
def test_a_client_of_the_stack_is_convinced(name: str) -> None:
    here = made()
    client = certificates.trusting(here)
    assert client is not None
    assert shake_hands(client, server(here), name).version() == "TLSv1.3"


def test_a_client_of_another_stack_is_not() -> None:
    here, other = made(), made("other")
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(trusting(certificates.authority_file(other)), server(here))


@pytest.mark.parametrize("name", ["db.bank.example", "127.0.0.2", "10.0.0.1"])
def test_another_name_is_refused(name: str) -> None:
    here = made()
    with pytest.raises(ssl.SSLCertVerificationError, match=r"[Mm]ismatch"):
        shake_hands(trusting(certificates.authority_file(here)), server(here), name)


def test_a_client_of_the_stack_speaks_no_older_tls() -> None:
    here = made()
    ours = certificates.pair(here, "kafka")
    client = certificates.trusting(here)
    assert client is not None
    with pytest.raises(ssl.SSLError, match="unsupported protocol"):
        shake_hands(client, serving(ours.certificate, ours.key, newest=ssl.TLSVersion.TLSv1_2))


def test_whoever_steals_the_authoritys_key_can_pose_as_no_other_host() -> None:
    here = made()
    authority = x509.load_pem_x509_certificate(certificates.authority_file(here).read_bytes())
    stolen = serialization.load_pem_private_key((here.folder / "keys" / "tls-ca.key").read_bytes(), None)
    assert isinstance(stolen, ec.EllipticCurvePrivateKey)
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    forged = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "forged")]))
        .issuer_name(authority.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName("bank.example"), x509.IPAddress(IPv4Address("10.0.0.1"))]),
            critical=False,
        )
        .sign(stolen, hashes.SHA256())
    )
    place = Pair(here.folder / "forged.pem", here.folder / "forged.key")
    place.certificate.write_bytes(forged.public_bytes(serialization.Encoding.PEM))
    form = (serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    place.key.write_bytes(key.private_bytes(*form))
    with pytest.raises(ssl.SSLCertVerificationError, match="permitted subtree"):
        shake_hands(trusting(certificates.authority_file(here)), serving(place.certificate, place.key), "bank.example")


def test_files_are_private_and_the_authoritys_key_is_apart() -> None:
    here = made()
    for path in [here.folder / "tls", *(here.folder / "tls").iterdir(), here.folder / "keys" / "tls-ca.key"]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    assert set(contents(here)) == {"ca.pem", *(f"{name}.{what}" for name in NAMES for what in ("pem", "key"))}
    authority = loaded(Pair(certificates.authority_file(here), Path()))
    usage = authority.extensions.get_extension_for_class(x509.KeyUsage).value
    assert usage.key_cert_sign
    assert not usage.digital_signature


def test_certificates_are_short_lived_and_stay_while_they_are_good() -> None:
    here = made()
    lives = loaded(certificates.pair(here, "api"))
    assert lives.not_valid_after_utc - datetime.now(UTC) <= timedelta(days=30)
    before = contents(here)
    certificates.ensure(here, NAMES)
    certificates.ensure(here, NAMES, datetime.now(UTC) + timedelta(days=19))
    assert contents(here) == before


def test_what_is_nearly_over_is_made_anew_under_the_same_authority() -> None:
    here = made()
    before = contents(here)
    certificates.ensure(here, ["kafka"], datetime.now(UTC) + timedelta(days=21))
    after = contents(here)
    assert {name for name in after if after[name] != before[name]} == {"kafka.pem", "kafka.key"}
    loaded(certificates.pair(here, "kafka")).verify_directly_issued_by(x509.load_pem_x509_certificate(before["ca.pem"]))


def test_a_new_authority_comes_in_time_and_brings_new_certificates() -> None:
    here = made()
    before = contents(here)
    certificates.ensure(here, NAMES, datetime.now(UTC) + timedelta(days=326))
    after = contents(here)
    assert all(after[name] != before[name] for name in before)


@pytest.mark.parametrize("damage", ["", "no certificate", "another's"])
def test_what_can_not_be_used_is_made_anew(damage: str) -> None:
    here = made()
    kafka, api = certificates.pair(here, "kafka"), certificates.pair(here, "api")
    if damage == "another's":  # as after a crash between key and certificate
        kafka.key.write_bytes(api.key.read_bytes())
    else:
        kafka.certificate.write_text(damage)
    certificates.ensure(here, NAMES)
    client = certificates.trusting(here)
    assert client is not None
    shake_hands(client, server(here))


def test_a_stack_without_tls_has_none_of_this() -> None:
    here = site.load_or_create("plain", "full")
    assert certificates.trusting(here) is None
    assert certificates.for_librdkafka(here) == {}
    assert certificates.changed_at(here, "kafka") == 0.0

"""A stack with TLS from outside: what each port speaks and what it refuses, whom our clients believe, and renewal."""

from __future__ import annotations

import asyncio
import os
import smtplib
import socket
import ssl
import stat
from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextlib import asynccontextmanager, closing, suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import asyncpg
import httpx
import pytest
from confluent_kafka import KafkaException
from confluent_kafka.admin import AdminClient
from dotenv import dotenv_values
from pymongo import MongoClient
from pymongo.errors import PyMongoError
from structlog.testing import capture_logs

from deploy.native import certificates, site
from deploy.native import stack as native
from deploy.native.certificates import Pair
from deploy.native.parts.toxiproxy import listening_port
from deploy.native.site import StackSite
from deploy.native.supervisor import Supervisor
from domain.errors import BrokerUnavailable, DPJError, KeyringUnavailable, RegistryUnavailable
from notifications.email_smtp import SmtpMailSender, Tls
from operations.kafka.lag import measure
from runtime.config.certificate_errors import certificate_error
from runtime.config.settings import Settings
from runtime.config.transport import client_tls, https_tls, kafka_security, kafka_tls
from runtime.wiring.site import Site
from schemas.registry import SchemaRegistry
from storage.redis.rate_limit_counts import RedisCallCounter
from streams.apps import ConsumerSettings
from streams.consumer import ConsumerRunner
from streams.librdkafka import create_producer
from tests.support.programs import needs_full_tls_stack, needs_redis
from tests.support.tls_handshakes import POSTGRES_ASKS_FOR_TLS, serving, speak, trusting

NAME = f"tls-{os.getpid()}"
LOOPBACK = "127.0.0.1"
#: Every port of the stack on which a server listens; PostgreSQL's protocol asks for TLS first.
PORTS = {
    **dict.fromkeys(
        (
            "kafka",
            "kafka_proxied",
            "kafka_controller",
            "registry",
            "ferretdb",
            "ged",
            "smtp",
            "minio",
            "vault",
            "redis",
        ),
        b"",
    ),
    **dict.fromkeys(("postgres", "mongo"), POSTGRES_ASKS_FOR_TLS),
}
#: Those that can't be told a lowest version.
TAKE_OLDER = {"minio"}


@dataclass(frozen=True, slots=True)
class Running:
    here: StackSite
    values: Mapping[str, str]

    @property
    def ca(self) -> Path:
        return certificates.authority_file(self.here)

    def port(self, name: str) -> int:
        return self.here.ports[name]

    def settings(self, **changes: Any) -> Settings:
        given = {name.removeprefix("DPJ_").lower(): value for name, value in self.values.items()}
        return Settings(**{**given, **changes}, _env_file=None)  # type-checked by pydantic


@pytest.fixture(scope="module")
def running() -> Iterator[Running]:
    needs_full_tls_stack()
    needs_redis()
    try:
        up = native.up(NAME, "full", extras=["redis", "toxiproxy"], tls=True)
        here = site.load(NAME)
        assert here is not None
        yield Running(here, {name: value or "" for name, value in dotenv_values(up.settings).items()})
    finally:
        native.down(NAME, wipe=True)


@pytest.fixture(scope="module")
def strangers_ca(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An authority that none of the stack's servers is of."""
    folder = tmp_path_factory.mktemp("stranger")
    (folder / "keys").mkdir()
    stranger = StackSite("stranger", folder, "full", {"id": "x", "tls": True})
    certificates.ensure(stranger, [])
    return certificates.authority_file(stranger)


def test_no_part_is_left_out(running: Running) -> None:
    status = native.status(NAME)
    assert status is not None
    assert {row.part: row.state for row in status.rows} == dict.fromkeys((row.part for row in status.rows), "ready")
    listening = {name for name, port in running.here.ports.items() if _listens(port)}
    # Toxiproxy's own API has no TLS; the lines that it holds are looked at below.
    assert listening == {*PORTS, "toxiproxy", "toxiproxy_listeners"}


def _listens(port: int) -> bool:
    with closing(socket.socket()) as line:
        line.settimeout(2)
        return line.connect_ex((LOOPBACK, port)) == 0


@pytest.mark.parametrize("name", PORTS)
def test_tls_1_3_under_the_stacks_authority(running: Running, name: str) -> None:
    for called in (LOOPBACK, "localhost"):
        assert speak(running.port(name), trusting(running.ca), first=PORTS[name], name=called) == "TLSv1.3"


@pytest.mark.parametrize("name", PORTS)
def test_nothing_older(running: Running, name: str) -> None:
    older = trusting(running.ca, newest=ssl.TLSVersion.TLSv1_2)
    if name in TAKE_OLDER:
        assert speak(running.port(name), older, first=PORTS[name]) == "TLSv1.2"
        return
    with pytest.raises(OSError):  # noqa: PT011 - an alert, or a line that is cut
        speak(running.port(name), older, first=PORTS[name])


@pytest.mark.parametrize("name", PORTS)
def test_a_client_of_another_authority_goes_away(running: Running, name: str, strangers_ca: Path) -> None:
    with pytest.raises(ssl.SSLCertVerificationError):
        speak(running.port(name), trusting(strangers_ca), first=PORTS[name])


@pytest.mark.parametrize("name", ["registry", "ged", "minio", "vault"])
def test_http_in_clear_gets_nothing(running: Running, name: str) -> None:
    path = {"ged": "/cmis/browser", "minio": "/minio/health/ready", "vault": "/v1/sys/health"}.get(name, "/subjects")
    try:
        answer = httpx.get(f"http://{LOOPBACK}:{running.port(name)}{path}", timeout=10, trust_env=False)
    except httpx.HTTPError:
        return
    assert answer.status_code == 400
    assert answer.text.strip() in {"", "Client sent an HTTP request to an HTTPS server."}


@pytest.mark.parametrize("name", ["kafka", "kafka_controller"])
def test_kafka_in_clear_gets_nothing(running: Running, name: str) -> None:
    plain = AdminClient({"bootstrap.servers": f"{LOOPBACK}:{running.port(name)}", "log_level": 0})
    with pytest.raises(KafkaException):
        plain.list_topics(timeout=4)


@pytest.mark.parametrize("name", ["postgres", "mongo"])
async def test_postgresql_lets_nobody_in_in_clear(running: Running, name: str) -> None:
    role = {"postgres": "dpj", "mongo": "ferretdb"}[name]
    with pytest.raises(asyncpg.InvalidAuthorizationSpecificationError, match="no encryption"):
        await asyncpg.connect(
            host=LOOPBACK,
            port=running.port(name),
            user=role,
            password=running.here.secret(name),
            database=role,
            ssl=False,
        )


def test_mongodb_in_clear_gets_nothing(running: Running) -> None:
    url = f"mongodb://{LOOPBACK}:{running.port('ferretdb')}/"
    client: MongoClient[dict[str, Any]] = MongoClient(url, serverSelectionTimeoutMS=3000, directConnection=True)
    with client, pytest.raises(PyMongoError):
        client.admin.command("ping")


def test_mail_in_clear_gets_nothing(running: Running) -> None:
    with pytest.raises((smtplib.SMTPException, OSError)):
        smtplib.SMTP(LOOPBACK, running.port("smtp"), timeout=5)


def test_redis_in_clear_gets_nothing(running: Running) -> None:
    with socket.create_connection((LOOPBACK, running.port("redis")), timeout=5) as line:
        line.sendall(b"PING\r\n")
        with suppress(ConnectionError):
            assert b"PONG" not in line.recv(64)


def test_clamd_has_no_port_and_a_private_socket(running: Running) -> None:
    assert not _listens(running.port("clamd"))
    place = Path(running.values["DPJ_CLAMD_ADDRESS"].removeprefix("unix:"))
    assert stat.S_ISSOCK(place.stat().st_mode)
    assert stat.S_IMODE(place.stat().st_mode) & 0o077 == 0
    assert stat.S_IMODE(place.parent.stat().st_mode) == 0o700


def test_toxiproxy_hands_tls_on_as_it_comes(running: Running) -> None:
    for server in ("postgres", "registry", "vault", "minio", "smtp", "ged", "ferretdb"):
        port = listening_port(running.here, server)
        assert speak(port, trusting(running.ca), first=PORTS[server]) == "TLSv1.3"
    assert not _listens(listening_port(running.here, "clamd"))
    through = {"bootstrap.servers": f"{LOOPBACK}:{listening_port(running.here, 'kafka')}", "log_level": 0}
    told = AdminClient(through | kafka_security(running.settings())).list_topics(timeout=10)
    assert {broker.port for broker in told.brokers.values()} == {listening_port(running.here, "kafka")}


# --- our clients, by settings alone ----------------------------------------------------------------------------------

Check = Callable[[Site], Awaitable[object]]

CHECKS: dict[str, Check] = {
    "postgresql": lambda made: made.postgres.check(),
    "registry": lambda made: _register_nothing(made.settings),
    "object store": lambda made: made.object_store.check(),
    "checkpoints": lambda made: made.signing.checkpoints.check(),
    "keyring": lambda made: made._keyring.check(),
    "mongodb": lambda made: made._mongo.check(),
    "ged": lambda made: made.ged_repository.check(),
    "revocations": lambda made: made.revocations.version(),
    "mail": lambda made: _mail(made),
    "kafka": lambda made: _kafka(made.settings),
}


async def _register_nothing(settings: Settings) -> None:
    url = settings.registry_url
    async with SchemaRegistry(url, tls=https_tls(settings, url)) as registry:
        await registry.register("tls-test-value", '"string"')


async def _mail(made: Site) -> None:
    given = made.settings
    sender = SmtpMailSender(
        given.smtp_host,
        given.smtp_port,
        sender=given.mail_from,
        tls=Tls(given.smtp_tls),
        context=client_tls(given),
        deadline=10,
    )
    await sender.check()


async def _kafka(settings: Settings) -> None:
    security = kafka_security(settings)
    await asyncio.to_thread(measure, settings.kafka_bootstrap, {}, deadline=4.0, security=security)


@asynccontextmanager
async def wired(settings: Settings) -> Any:
    made = Site(settings)
    try:
        yield made
    finally:
        await made.aclose()


@pytest.mark.parametrize("name", CHECKS)
async def test_our_clients_come_in(running: Running, name: str) -> None:
    async with wired(running.settings()) as made:
        await CHECKS[name](made)


@pytest.mark.parametrize("name", CHECKS)
async def test_a_wrong_authority_is_an_outage_that_says_why(running: Running, name: str, strangers_ca: Path) -> None:
    ours, theirs = str(running.ca), str(strangers_ca)
    addresses = ("postgres_dsn", "mongo_url", "redis_url")
    changed = {each: running.values[f"DPJ_{each.upper()}"].replace(ours, theirs) for each in addresses}
    async with wired(running.settings(tls_ca_file=strangers_ca, **changed)) as made:
        with pytest.raises(DPJError) as refused:
            await CHECKS[name](made)
        await asyncio.sleep(0.05)  # transports of failed handshakes close at the loop's next turns
    assert refused.value.code.endswith("_unavailable")
    if name != "kafka":  # whose client says it to its log alone
        assert certificate_error(refused.value) in {
            "unable to get local issuer certificate",
            "self-signed certificate in certificate chain",
        }


async def test_kafkas_clients_wait_and_log_that_it_is_the_certificate(running: Running, strangers_ca: Path) -> None:
    astray = running.settings(tls_ca_file=strangers_ca)
    told = ConsumerSettings(
        bootstrap=astray.kafka_bootstrap, scratch="", security=kafka_security(astray), tls=kafka_tls(astray)
    )
    runner = ConsumerRunner(
        "audit", ("dpj.audit.recorded",), told, create_delivery=lambda *_: pytest.fail("it came in")
    )
    stopping = asyncio.Event()
    wanted = {"event": "kafka_tls_failed", "log_level": "warning", "reason": "certificate verify failed"}
    with capture_logs() as logs:
        consuming = asyncio.create_task(runner.run(stopping))
        async with asyncio.timeout(20):
            while wanted not in logs:
                await asyncio.sleep(0.1)
        assert runner.state == "waiting_for_broker"
        stopping.set()
        await consuming
        logs.clear()
        producer = create_producer(astray.kafka_bootstrap, kafka_security(astray))
        with pytest.raises(KafkaException):
            await asyncio.to_thread(producer.list_topics, timeout=4)
        producer.poll(0)
        assert wanted in logs


async def test_a_client_told_to_speak_in_clear_is_not_let_in(running: Running) -> None:
    plain = running.settings(
        kafka_security_protocol="plaintext",
        minio_secure=False,
        vault_addr=running.values["DPJ_VAULT_ADDR"].replace("https:", "http:"),
    )
    async with wired(plain) as made:
        with pytest.raises(DPJError):
            await made.object_store.check()
        with pytest.raises(KeyringUnavailable):
            await made._keyring.check()
        with pytest.raises(BrokerUnavailable):
            await _kafka(plain)


async def test_quotas_are_counted_over_tls(running: Running) -> None:
    from limits import RateLimitItemPerMinute

    counting = RedisCallCounter(running.values["DPJ_REDIS_URL"])
    try:
        assert await counting.hit(RateLimitItemPerMinute(5), "tls") is not None
    finally:
        await counting.aclose()


async def test_an_expired_certificate_is_an_outage_that_says_why(running: Running, tmp_path: Path) -> None:
    authority = certificates._load(Pair(running.ca, running.here.folder / "keys" / "tls-ca.key"))
    assert authority is not None
    past = datetime.now(UTC) - certificates.SERVER_LIFE - timedelta(minutes=1)
    expired = Pair(tmp_path / "late.pem", tmp_path / "late.key")
    certificates._store(expired, certificates._server("late", authority, past))

    async def hang_up(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()

    server = await asyncio.start_server(hang_up, LOOPBACK, 0, ssl=serving(expired.certificate, expired.key))
    async with server:
        settings = running.settings(registry_url=f"https://{LOOPBACK}:{server.sockets[0].getsockname()[1]}")
        with pytest.raises(RegistryUnavailable) as refused:
            await _register_nothing(settings)
    assert certificate_error(refused.value) == "certificate has expired"


# --- renewal: last, because it starts a server again -----------------------------------------------------------------


def test_up_renews_what_is_nearly_over_and_starts_only_that_server_again(running: Running) -> None:
    here = running.here
    authority = certificates._load(Pair(running.ca, here.folder / "keys" / "tls-ca.key"))
    assert authority is not None
    nearly = datetime.now(UTC) - certificates.SERVER_LIFE + timedelta(days=5)
    certificates._store(certificates.pair(here, "registry"), certificates._server("registry", authority, nearly))
    before = {part: process.pid for part, process in Supervisor(here.folder).running().items()}
    native.up(NAME, "full")
    after = {part: process.pid for part, process in Supervisor(here.folder).running().items()}
    assert {part for part in before if before[part] != after[part]} == {"registry"}
    shown = ssl.get_server_certificate((LOOPBACK, running.port("registry")), ca_certs=str(running.ca))
    assert shown.strip() == certificates.pair(here, "registry").certificate.read_text().strip()
    native.up(NAME, "full")
    assert {part: process.pid for part, process in Supervisor(here.folder).running().items()} == after

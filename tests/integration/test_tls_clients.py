"""Clients over TLS against small servers of our own: mail that asks for STARTTLS, an identity provider's keys, a collector of spans."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from aiosmtpd.controller import Controller
from aiosmtpd.handlers import Message

from deploy.native import certificates
from deploy.native.certificates import Pair
from deploy.native.site import StackSite
from domain.documents import Language
from domain.errors import IdentityUnavailable, MailUnavailable
from domain.mail import OutgoingMail, RenderedMail
from domain.shared.tracing import SpanKind
from identity.jwks import jwks_source
from notifications.email_smtp import SmtpMailSender, Tls
from runtime.config.certificate_errors import certificate_error
from runtime.observability.tracing import OpenTelemetryTracer, otlp_exporter
from tests.support.free_ports import free_port
from tests.support.otlp_receiver import OtlpReceiver
from tests.support.settings import settings_of
from tests.support.tls_handshakes import serving, trusting

MAIL = OutgoingMail(
    message_id="<1@dpj.example>",
    to="marie@example.org",
    language=Language.FRENCH,
    content=RenderedMail("Sujet", "Texte\n", "<p>Texte</p>\n"),
)


class Kept(Message):
    """Keeps how many mails came."""

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def handle_message(self, message: Any) -> None:
        self.count += 1


def issued(folder: Path) -> tuple[Path, Pair]:
    """An authority, and a certificate of it."""
    (folder / "keys").mkdir(parents=True)
    here = StackSite("one", folder, "full", {"id": "x", "tls": True})
    certificates.ensure(here, ["mail"])
    return certificates.authority_file(here), certificates.pair(here, "mail")


@contextmanager
def mail_server(kept: Kept, tls: ssl.SSLContext | None) -> Iterator[int]:
    port = free_port()
    controller = Controller(kept, hostname="127.0.0.1", port=port, tls_context=tls, require_starttls=tls is not None)
    controller.start()
    try:
        yield port
    finally:
        controller.stop()


def sender(port: int, tls: Tls, ca: Path) -> SmtpMailSender:
    return SmtpMailSender("127.0.0.1", port, sender="dpj@bank.example", tls=tls, context=trusting(ca), deadline=5.0)


async def test_a_mail_goes_by_starttls(tmp_path: Path) -> None:
    ca, pair = issued(tmp_path / "ours")
    kept = Kept()
    with mail_server(kept, serving(pair.certificate, pair.key)) as port:
        await sender(port, Tls.STARTTLS, ca).send(MAIL)
    assert kept.count == 1


async def test_a_mail_server_of_another_authority_gets_no_mail(tmp_path: Path) -> None:
    _, pair = issued(tmp_path / "ours")
    other, _ = issued(tmp_path / "other")
    kept = Kept()
    with mail_server(kept, serving(pair.certificate, pair.key)) as port, pytest.raises(MailUnavailable) as refused:
        await sender(port, Tls.STARTTLS, other).send(MAIL)
    assert certificate_error(refused.value) == "unable to get local issuer certificate"
    assert kept.count == 0


@pytest.mark.parametrize("tls", [Tls.STARTTLS, Tls.IMPLICIT])
async def test_a_mail_that_asks_for_tls_never_goes_in_clear(tls: Tls, tmp_path: Path) -> None:
    ca, _ = issued(tmp_path / "ours")
    kept = Kept()
    with mail_server(kept, None) as port, pytest.raises(MailUnavailable):
        await sender(port, tls, ca).send(MAIL)
    assert kept.count == 0


async def test_a_providers_keys_come_from_whom_we_trust_alone(tmp_path: Path) -> None:
    ours, pair = issued(tmp_path / "ours")
    other, _ = issued(tmp_path / "other")

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b'HTTP/1.1 200 OK\r\nContent-Length: 11\r\nConnection: close\r\n\r\n{"keys":[]}')
        await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=serving(pair.certificate, pair.key))
    async with server:
        url = f"https://127.0.0.1:{server.sockets[0].getsockname()[1]}/keys"
        assert await jwks_source(url, tls=trusting(ours))() == b'{"keys":[]}'
        for tls in (trusting(other), None):
            with pytest.raises(IdentityUnavailable) as refused:
                await jwks_source(url, tls=tls)()
            assert certificate_error(refused.value) == "unable to get local issuer certificate"


@pytest.mark.parametrize("trusted", [True, False])
def test_spans_go_to_a_collector_of_our_authority_and_to_no_other(tmp_path: Path, trusted: bool) -> None:
    ca, pair = issued(tmp_path / "ours")
    strangers, _ = issued(tmp_path / "theirs")
    collector = OtlpReceiver(serving(pair.certificate, pair.key))
    try:
        given = settings_of(tracing_endpoint=collector.url, tls_ca_file=ca if trusted else strangers)
        tracer = OpenTelemetryTracer(otlp_exporter(given), "api", ratio=1.0)
        span = tracer.start("GET", SpanKind.SERVER, None)
        assert span is not None
        span.end()
        tracer.close()
        trace = span.traceparent.split("-")[1]
        assert [sent.name for sent in collector.spans(trace)] == (["GET"] if trusted else [])
    finally:
        collector.close()

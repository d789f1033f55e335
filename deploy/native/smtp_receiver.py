"""A mail server that accepts every message and delivers it into a Maildir: ``python -m deploy.native.smtp_receiver``.

With a certificate and its key it speaks TLS 1.3 from the first byte (RFC 8314), and nothing else.
"""

from __future__ import annotations

import asyncio
import signal
import ssl
import sys
from ipaddress import ip_address
from pathlib import Path

from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP

LARGEST = 10 * 1024 * 1024  # bytes of one message; the pipeline's mails have no attachments


async def serve(host: str, port: int, maildir: Path, tls: ssl.SSLContext | None = None) -> None:
    """Receive until SIGTERM or SIGINT. Raises ValueError for an address that is not a loopback one."""
    if not ip_address(host).is_loopback:
        raise ValueError(f"not a loopback address: {host}")
    loop = asyncio.get_running_loop()
    finished = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, finished.set)
    handler = Mailbox(maildir)

    def session() -> SMTP:
        return SMTP(handler, hostname="localhost", data_size_limit=LARGEST, enable_SMTPUTF8=True, loop=loop)

    server = await loop.create_server(session, host, port, ssl=tls)
    async with server:
        await finished.wait()


def main() -> None:
    address, maildir, *pair = sys.argv[1:]
    host, _, port = address.rpartition(":")
    asyncio.run(serve(host, int(port), Path(maildir), _tls(*pair) if pair else None))


def _tls(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.load_cert_chain(certificate, key)
    return context


if __name__ == "__main__":
    main()

"""A mail server that accepts every message and delivers it into a Maildir: ``python -m deploy.native.smtp_receiver``."""

from __future__ import annotations

import asyncio
import signal
import sys
from ipaddress import ip_address
from pathlib import Path

from aiosmtpd.handlers import Mailbox
from aiosmtpd.smtp import SMTP

LARGEST = 10 * 1024 * 1024  # bytes of one message; the pipeline's mails have no attachments


async def serve(host: str, port: int, maildir: Path) -> None:
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

    server = await loop.create_server(session, host, port)
    async with server:
        await finished.wait()


def main() -> None:
    address, maildir = sys.argv[1:]
    host, _, port = address.rpartition(":")
    asyncio.run(serve(host, int(port), Path(maildir)))


if __name__ == "__main__":
    main()

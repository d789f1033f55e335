"""TLS between two contexts without a socket, and from outside against a server."""

from __future__ import annotations

import socket
import ssl
from pathlib import Path

LOOPBACK = "127.0.0.1"
SECONDS = 10.0
#: "Please speak TLS" (PostgreSQL's protocol, SSLRequest).
POSTGRES_ASKS_FOR_TLS = (8).to_bytes(4, "big") + (80_877_103).to_bytes(4, "big")


def shake_hands(client: ssl.SSLContext, server: ssl.SSLContext, name: str = LOOPBACK) -> ssl.SSLObject:
    """The client's side once both are content. Raises ssl.SSLError."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = client.wrap_bio(to_client, to_server, server_hostname=name)
    theirs = server.wrap_bio(to_server, to_client, server_side=True)
    left = [ours, theirs]
    for _ in range(10):
        for side in list(left):
            try:
                side.do_handshake()
            except ssl.SSLWantReadError:
                continue
            left.remove(side)
        if not left:
            return ours
    raise AssertionError("the handshake comes to no end")


def trusting(ca_file: Path, *, newest: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    """A client of TLS 1.2 or newer that trusts the authorities in a file."""
    context = ssl.create_default_context(cafile=ca_file)
    if newest is not None:
        context.maximum_version = newest
    return context


def serving(certificate: Path, key: Path, *, newest: ssl.TLSVersion | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    if newest is not None:
        context.maximum_version = newest
    return context


def speak(port: int, context: ssl.SSLContext, *, first: bytes = b"", name: str = LOOPBACK) -> str:
    """The version of TLS that a server and we agree on; ``first`` is what has to be said, and answered with S, before. Raises
    ssl.SSLError, or OSError where the server hangs up."""
    with socket.create_connection((LOOPBACK, port), timeout=SECONDS) as line:
        if first:
            line.sendall(first)
            assert line.recv(1) == b"S"
        with context.wrap_socket(line, server_hostname=name) as secured:
            return str(secured.version())

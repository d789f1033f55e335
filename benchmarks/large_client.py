"""Sends or fetches one large body over one connection, in a process of its own: blocking sockets, one block of memory over and over.

``python -m benchmarks.large_client`` reads a plan (JSON) from standard input: ``host``, ``port``, ``head`` (the request's head), ``lead`` and
``tail`` (what stands before and behind the content) as latin-1 texts, ``size`` of the content to send (0: fetch). It writes the answer's
status, seconds from the first byte sent to the last one received, bytes received, and the answer's first bytes.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from typing import Any, Final

BLOCK: Final = 1 << 20
TIMEOUT: Final = 600.0
KEPT: Final = 4096


def exchange(plan: dict[str, Any]) -> dict[str, Any]:
    """Carry ``plan`` out. Raises OSError."""
    block = memoryview(os.urandom(BLOCK))
    with socket.create_connection((plan["host"], plan["port"]), timeout=TIMEOUT) as connection:
        began = time.perf_counter()
        connection.sendall(plan["head"].encode("latin-1") + plan["lead"].encode("latin-1"))
        left = plan["size"]
        while left:
            piece = block[: min(BLOCK, left)]
            connection.sendall(piece)
            left -= len(piece)
        connection.sendall(plan["tail"].encode("latin-1"))
        status, body, received = _answer(connection)
        return {
            "status": status,
            "seconds": time.perf_counter() - began,
            "received": received,
            "body": body.decode("latin-1"),
        }


def _answer(connection: socket.socket) -> tuple[int, bytes, int]:
    """Status, the body's first bytes, its length."""
    start = bytearray()
    while (end := start.find(b"\r\n\r\n")) < 0:
        piece = connection.recv(KEPT)
        if not piece:
            raise ConnectionError("no answer")
        start += piece
    lines = bytes(start[:end]).lower().split(b"\r\n")
    length = next((int(line[15:]) for line in lines if line.startswith(b"content-length:")), 0)
    received = len(start) - end - 4
    buffer = memoryview(bytearray(BLOCK))
    while received < length:
        count = connection.recv_into(buffer)
        if not count:
            raise ConnectionError("the answer ended early")
        if received < KEPT:
            start += buffer[: min(count, KEPT)]
        received += count
    return int(start[9:12]), bytes(start[end + 4 : end + 4 + KEPT]), received


def main() -> None:
    json.dump(exchange(json.load(sys.stdin)), sys.stdout)


if __name__ == "__main__":
    main()

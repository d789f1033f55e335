"""What processes listen on, read from the kernel (proc_net(5)): no tool of the system is needed."""

from __future__ import annotations

import contextlib
import ipaddress
import struct
from collections.abc import Iterable
from pathlib import Path

LISTEN = "0A"


def marked(mark: str, value: str) -> set[int]:
    """Ids of all processes that carry ``mark=value`` in their environment."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if f"{mark}={value}".encode() in (folder / "environ").read_bytes().split(b"\0"):
                found.add(int(folder.name))
    return found


def addresses(pids: Iterable[int]) -> set[tuple[str, int]]:
    """Address and port of every TCP socket these processes listen on, and of every UDP socket they have bound."""
    inodes = {inode for pid in pids for inode in _sockets(pid)}
    return {
        (_address(local), int(local.partition(":")[2], 16))
        for table in ("tcp", "tcp6", "udp", "udp6")
        for local, state, inode in _table(table)
        if inode in inodes and (state == LISTEN or table.startswith("udp"))
    }


def is_loopback(address: str) -> bool:
    parsed = ipaddress.ip_address(address)
    if isinstance(parsed, ipaddress.IPv6Address) and parsed.ipv4_mapped is not None:
        parsed = parsed.ipv4_mapped
    return parsed.is_loopback


def _sockets(pid: int) -> Iterable[str]:
    for descriptor in Path(f"/proc/{pid}/fd").iterdir():
        with contextlib.suppress(OSError):
            target = str(descriptor.readlink())
            if target.startswith("socket:["):
                yield target.removeprefix("socket:[").removesuffix("]")


def _table(name: str) -> Iterable[tuple[str, str, str]]:
    for line in Path(f"/proc/net/{name}").read_text("ascii").splitlines()[1:]:
        fields = line.split()
        yield fields[1], fields[3], fields[9]


def _address(local: str) -> str:
    """The kernel writes addresses as hexadecimal 32-bit words in the machine's own byte order."""
    digits = local.partition(":")[0]
    words = [int(digits[i : i + 8], 16) for i in range(0, len(digits), 8)]
    raw = struct.pack(f"={len(words)}I", *words)
    return str(ipaddress.ip_address(raw))

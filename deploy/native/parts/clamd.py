"""ClamAV's daemon: the antivirus of the full profile, from Debian's package ``clamav-daemon``.

Its signatures are two of our own that know the EICAR test file, and no others: this stack proves the way, not the watch. A site
has ClamAV's signatures and keeps them fresh with freshclam.

clamd has no TLS of its own (clamd.conf(5) knows a TCP and a local socket, and no certificate): in a stack with TLS it listens on
a local socket in a private folder, and on no port.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import socket
from functools import cache
from pathlib import Path
from typing import ClassVar

from deploy.native import files, prerequisites
from deploy.native.errors import StackError
from deploy.native.parts.base import FULL, QUESTION_SECONDS, NotReady, Part
from deploy.native.ports import LOOPBACK
from deploy.native.prerequisites import Prerequisite
from deploy.native.programs import output
from deploy.native.site import Profile, StackSite
from deploy.native.supervisor import Command

NAME = "clamd"
PROGRAM = "clamd"
IN_MEMORY = Path("/dev/shm")  # noqa: S108 - a private folder of ours below it
SIGNATURE = "DPJ.Test.Eicar"
#: The most that a document type may allow, and then some.
LARGEST = "1500M"


class Clamd(Part):
    name: ClassVar[str] = NAME
    port: ClassVar[str] = "clamd"
    profiles: ClassVar[frozenset[Profile]] = FULL
    certified: ClassVar[bool] = False
    optional: ClassVar[bool] = True

    def lacks(self, site: StackSite) -> list[Prerequisite]:
        return [] if prerequisites.clamd() else [prerequisites.CLAMD]

    def version(self, site: StackSite) -> str:
        return _version()

    def address(self, site: StackSite) -> str:
        return "local socket" if site.tls else super().address(site)

    def reached_at(self, site: StackSite) -> str:
        """For the application."""
        return f"unix:{self._socket(site)}" if site.tls else site.address(self.port)

    def prepare(self, site: StackSite) -> None:
        database = files.private_folder(site.data("clamd") / "signatures")
        test_file = eicar()
        digest = hashlib.md5(test_file, usedforsecurity=False).hexdigest()
        files.write_private(database / "dpj.hdb", f"{digest}:{len(test_file)}:{SIGNATURE}\n")
        # Anywhere in any file (type 0, offset *): what ClamAV unpacks, it looks through the same way.
        files.write_private(database / "dpj.ndb", f"{SIGNATURE}.Inside:0:*:{test_file.hex()}\n")
        files.private_folder(self._scratch(site))
        files.write_private(self._config(site), "".join(f"{name} {value}\n" for name, value in self._settings(site)))

    def command(self, site: StackSite) -> Command:
        return Command((_program(), f"--config-file={self._config(site)}"), {}, site.data("clamd"))

    def ask(self, site: StackSite) -> None:
        try:
            with self._reached(site) as asked:
                asked.sendall(b"zPING\0")
                answer = asked.recv(16)
        except OSError as error:
            raise NotReady(type(error).__name__) from None
        if answer != b"PONG\0":
            raise NotReady("answers, but not as clamd does")

    def wipe(self, site: StackSite) -> None:
        shutil.rmtree(self._scratch(site), ignore_errors=True)

    def _reached(self, site: StackSite) -> socket.socket:
        if not site.tls:
            return socket.create_connection((LOOPBACK, site.ports[self.port]), timeout=QUESTION_SECONDS)
        line = socket.socket(socket.AF_UNIX)
        try:
            line.settimeout(QUESTION_SECONDS)
            line.connect(str(self._socket(site)))
        except BaseException:
            line.close()
            raise
        return line

    def _settings(self, site: StackSite) -> list[tuple[str, str | int]]:
        over_tcp: list[tuple[str, str | int]] = [("TCPAddr", LOOPBACK), ("TCPSocket", site.ports[self.port])]
        local: list[tuple[str, str | int]] = [("LocalSocket", str(self._socket(site))), ("LocalSocketMode", "600")]
        return [
            ("Foreground", "yes"),
            *(local if site.tls else over_tcp),
            ("DatabaseDirectory", str(site.data("clamd") / "signatures")),
            # clamd writes down what it is sent, in clear: not to a disk.
            ("TemporaryDirectory", str(self._scratch(site))),
            ("StreamMaxLength", LARGEST),
            ("MaxFileSize", LARGEST),
            ("MaxScanSize", LARGEST),
            # Without it clamd says OK of what is beyond its limits.
            ("AlertExceedsMax", "yes"),
            # And of what it can't open: files under a password.
            ("AlertEncrypted", "yes"),
            # Milliseconds; half of what it takes by itself, and a third of what a worker waits.
            ("MaxScanTime", 60_000),
            ("MaxThreads", 4),
            ("SelfCheck", 0),
            ("LogTime", "yes"),
        ]

    def _config(self, site: StackSite) -> Path:
        return site.folder / "config" / "clamd.conf"

    def _socket(self, site: StackSite) -> Path:
        # Not below the stack's folder, whose name may be longer than the 107 bytes of a socket's (unix(7)).
        return self._scratch(site) / "clamd.sock"

    def _scratch(self, site: StackSite) -> Path:
        if os.access(IN_MEMORY, os.W_OK):
            return IN_MEMORY / f"dpj-{site.id}-clamd"
        return site.data("clamd") / "scratch"


def eicar() -> bytes:
    """The EICAR test file, made here: nobody's scanner shall find it in this one."""
    parts = (r"X5O!P%@AP[4\PZX54(P^)7CC)7}", "$EICAR", "-STANDARD-", "ANTIVIRUS", "-TEST-FILE!", "$H+H*")
    return "".join(parts).encode("ascii")


def _program() -> str:
    found = prerequisites.clamd()
    if found is None:
        raise StackError("no clamd")
    return found


@cache
def _version() -> str:
    words = output(_program(), "--version").split()
    return words[1].partition("/")[0] if len(words) > 1 else ""

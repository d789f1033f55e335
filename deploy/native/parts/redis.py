"""Redis: revoked tokens and shared quotas. Part of a stack on request only; what it is told it keeps."""

from __future__ import annotations

import shutil
import socket
from typing import ClassVar

from deploy.native.parts.base import QUESTION_SECONDS, NotReady, Part, write_config
from deploy.native.ports import LOOPBACK
from deploy.native.prerequisites import output
from deploy.native.site import Site
from deploy.native.supervisor import Command

NAME = "redis"
PROGRAM = "redis-server"


class Redis(Part):
    name: ClassVar[str] = NAME
    port: ClassVar[str] = "redis"
    on_request: ClassVar[bool] = True

    def version(self) -> str:
        words = output(PROGRAM, "--version").split()
        return next((word.removeprefix("v=") for word in words if word.startswith("v=")), "")

    def url(self, site: Site) -> str:
        return f"redis://:{site.secret('redis')}@{site.address(self.port)}/0"

    def prepare(self, site: Site) -> None:
        write_config(
            site.folder / "config" / "redis.conf",
            {
                "bind": LOOPBACK,
                "port": site.ports[self.port],
                "requirepass": site.secret("redis"),
                "dir": str(site.data(NAME)),
                "appendonly": "yes",
                "appendfsync": "always",
                "maxmemory-policy": "noeviction",
                "save": '""',
            },
            between=" ",
        )

    def command(self, site: Site) -> Command:
        program = shutil.which(PROGRAM) or PROGRAM
        return Command((program, str(site.folder / "config" / "redis.conf")), {}, site.data(NAME))

    def ask(self, site: Site) -> None:
        try:
            with socket.create_connection((LOOPBACK, site.ports[self.port]), timeout=QUESTION_SECONDS) as line:
                line.sendall(f"AUTH {site.secret('redis')}\r\nPING\r\n".encode())
                answered = b""
                while answered.count(b"\r\n") < 2:
                    piece = line.recv(256)
                    if not piece:
                        break
                    answered += piece
        except OSError as error:
            raise NotReady(type(error).__name__) from None
        if b"+PONG" not in answered:
            raise NotReady("answers something else than PONG")

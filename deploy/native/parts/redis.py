"""Redis: revoked tokens and shared quotas. Part of a stack on request only; what it is told it keeps."""

from __future__ import annotations

import shutil
import socket
from typing import ClassVar
from urllib.parse import quote

from deploy.native import certificates, prerequisites
from deploy.native.parts.base import QUESTION_SECONDS, NotReady, Part, write_config
from deploy.native.ports import LOOPBACK
from deploy.native.prerequisites import Prerequisite
from deploy.native.programs import output
from deploy.native.site import StackSite
from deploy.native.supervisor import Command

NAME = "redis"
PROGRAM = "redis-server"


class Redis(Part):
    name: ClassVar[str] = NAME
    port: ClassVar[str] = "redis"
    extra: ClassVar[str] = NAME

    def lacks(self, site: StackSite) -> list[Prerequisite]:
        return prerequisites.program(PROGRAM, prerequisites.REDIS)

    def version(self, site: StackSite) -> str:
        words = output(PROGRAM, "--version").split()
        return next((word.removeprefix("v=") for word in words if word.startswith("v=")), "")

    def url(self, site: StackSite) -> str:
        place = f":{site.secret('redis')}@{site.address(self.port)}/0"
        if not site.tls:
            return f"redis://{place}"
        return f"rediss://{place}?ssl_ca_certs={quote(str(certificates.authority_file(site)))}"

    def prepare(self, site: StackSite) -> None:
        write_config(
            site.folder / "config" / "redis.conf",
            {
                "bind": LOOPBACK,
                **self._listening(site),
                "requirepass": site.secret("redis"),
                "dir": str(site.data(NAME)),
                "appendonly": "yes",
                "appendfsync": "always",
                "maxmemory-policy": "noeviction",
                "save": '""',
            },
            between=" ",
        )

    def _listening(self, site: StackSite) -> dict[str, str | int]:
        if not site.tls:
            return {"port": site.ports[self.port]}
        ours = certificates.pair(site, self.name)
        return {
            "port": 0,
            "tls-port": site.ports[self.port],
            "tls-cert-file": f'"{ours.certificate}"',
            "tls-key-file": f'"{ours.key}"',
            "tls-auth-clients": "no",
            "tls-protocols": '"TLSv1.3"',
        }

    def command(self, site: StackSite) -> Command:
        program = shutil.which(PROGRAM) or PROGRAM
        return Command((program, str(site.folder / "config" / "redis.conf")), {}, site.data(NAME))

    def ask(self, site: StackSite) -> None:
        try:
            with self._reached(site) as line:
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

    def _reached(self, site: StackSite) -> socket.socket:
        line = socket.create_connection((LOOPBACK, site.ports[self.port]), timeout=QUESTION_SECONDS)
        tls = certificates.trusting(site)
        try:
            return tls.wrap_socket(line, server_hostname=LOOPBACK) if tls else line
        except BaseException:
            line.close()
            raise

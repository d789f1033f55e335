"""Toxiproxy: lines to the servers that can be cut, slowed and reset. For fault tests; part of a stack on request only.

It hands TCP on as it comes, TLS inside or not. Its own API has no TLS; no document and no password passes there. In a stack with
TLS clamd listens on no port, and so has no line.
"""

from __future__ import annotations

from typing import ClassVar

import httpx

from deploy.native.cache import Recipe
from deploy.native.errors import PartFailed
from deploy.native.parts import http
from deploy.native.parts.base import QUESTION_SECONDS, NotReady, Part
from deploy.native.ports import LOOPBACK
from deploy.native.site import StackSite
from deploy.native.supervisor import Command

NAME = "toxiproxy"
# Server -> the port it listens on for those who come through its proxy. Kafka has a listener of its own for them, because
# it tells its clients where to go on to. The order gives each proxy its place in the block of listening ports.
UPSTREAMS = {
    "kafka": "kafka_proxied",
    "registry": "registry",
    "postgres": "postgres",
    "ferretdb": "ferretdb",
    "ged": "ged",
    "smtp": "smtp",
    "minio": "minio",
    "vault": "vault",
    "clamd": "clamd",
}


def listening_port(site: StackSite, server: str) -> int:
    """Where the proxy of ``server`` is reached."""
    return site.ports["toxiproxy_listeners"] + list(UPSTREAMS).index(server)


class Toxiproxy(Part):
    name: ClassVar[str] = NAME
    port: ClassVar[str] = "toxiproxy"
    extra: ClassVar[str] = NAME
    certified: ClassVar[bool] = False
    recipe: ClassVar[Recipe | None] = Recipe(
        NAME, "2.5.0", "go", "go/toxiproxy", "github.com/Shopify/toxiproxy/v2/cmd/server"
    )

    def url(self, site: StackSite) -> str:
        """Of its HTTP API."""
        return f"http://{site.address(self.port)}"

    def command(self, site: StackSite) -> Command:
        arguments = ("-host", LOOPBACK, "-port", str(site.ports[self.port]))
        return Command((str(self.built / NAME), *arguments), {"LOG_LEVEL": "warn"}, site.data(NAME))

    def ask(self, site: StackSite) -> None:
        if not isinstance(http.get_json(f"{self.url(site)}/proxies"), dict):
            raise NotReady("no list of proxies")

    def set_up(self, site: StackSite) -> None:
        """One open proxy per server; what an earlier call or test had set is undone."""
        proxies = [
            {
                "name": server,
                "listen": f"{LOOPBACK}:{listening_port(site, server)}",
                "upstream": site.address(upstream),
                "enabled": True,
            }
            for server, upstream in UPSTREAMS.items()
            if upstream in site.ports and not (site.tls and server == "clamd")
        ]
        try:
            with httpx.Client(base_url=self.url(site), timeout=QUESTION_SECONDS, trust_env=False) as client:
                client.post("/populate", json=proxies).raise_for_status()
                client.post("/reset").raise_for_status()
        except httpx.HTTPError as error:
            raise PartFailed(self.name, f"its proxies can't be made ({type(error).__name__})", "") from None

"""VictoriaLogs beside a stack: it keeps our processes' log lines, which the collector sends it, and finds them; on request only."""

from __future__ import annotations

from typing import ClassVar, Final

from deploy.native import certificates
from deploy.native.cache import Recipe
from deploy.native.parts import http, observability
from deploy.native.parts.base import Part
from deploy.native.site import StackSite
from deploy.native.supervisor import Command

#: Where it takes lines (https://docs.victoriametrics.com/victorialogs/data-ingestion/opentelemetry/), and its page for people.
INSERT_PATH: Final = "/insert/opentelemetry/v1/logs"
PAGE_PATH: Final = "/select/vmui/"
#: What it keeps, whichever is less.
KEPT_DAYS: Final = 15
KEPT_BYTES: Final = "512MB"


class VictoriaLogs(Part):
    name: ClassVar[str] = "victorialogs"
    port: ClassVar[str] = "victorialogs"
    extra: ClassVar[str] = observability.NAME
    late: ClassVar[bool] = True
    recipe: ClassVar[Recipe | None] = Recipe("victorialogs", "1.52.1", "go", "go/victorialogs")

    def url(self, site: StackSite) -> str:
        return site.url(self.port)

    def command(self, site: StackSite) -> Command:
        flags = [
            f"-httpListenAddr={site.address(self.port)}",
            f"-storageDataPath={site.data(self.name)}",
            f"-retentionPeriod={KEPT_DAYS}d",
            f"-retention.maxDiskSpaceUsageBytes={KEPT_BYTES}",
            "-loggerLevel=WARN",
        ]
        if site.tls:
            ours = certificates.pair(site, self.name)
            flags += ["-tls", f"-tlsCertFile={ours.certificate}", f"-tlsKeyFile={ours.key}", "-tlsMinVersion=TLS13"]
        return Command((str(self.built / self.name), *flags), {}, site.data(self.name))

    def ask(self, site: StackSite) -> None:
        http.get_ok(f"{self.url(site)}/health", certificates.trusting(site))


def page(site: StackSite) -> str:
    """Where people look for lines."""
    return f"{VictoriaLogs().url(site)}{PAGE_PATH}"

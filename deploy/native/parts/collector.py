"""The OpenTelemetry Collector beside a stack: it takes the spans of our processes and keeps the last ones in a file; on request only.

The file has one ``ExportTraceServiceRequest`` a line, in OTLP's JSON form (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Final

import httpx

from deploy.native import certificates, files
from deploy.native.cache import Recipe
from deploy.native.parts import observability
from deploy.native.parts.base import QUESTION_SECONDS, NotReady, Part
from deploy.native.site import StackSite
from deploy.native.supervisor import Command

#: The file, and as many older ones of that size.
KEPT_MEGABYTES: Final = 64
OLDER_FILES: Final = 2


class Collector(Part):
    name: ClassVar[str] = "collector"
    port: ClassVar[str] = "collector"
    extra: ClassVar[str] = observability.NAME
    late: ClassVar[bool] = True
    recipe: ClassVar[Recipe | None] = Recipe("collector", "0.165.0", "go", "go/collector")

    def url(self, site: StackSite) -> str:
        """What ``DPJ_TRACING_ENDPOINT`` is where this stack's processes send their spans to it."""
        return site.url(self.port)

    def prepare(self, site: StackSite) -> None:
        files.write_json(_config(site), self.configuration(site))

    def configuration(self, site: StackSite) -> dict[str, Any]:
        """The collector's own form; JSON is YAML."""
        listening: dict[str, Any] = {"endpoint": site.address(self.port)}
        if site.tls:
            ours = certificates.pair(site, self.name)
            listening["tls"] = {
                "cert_file": str(ours.certificate),
                "key_file": str(ours.key),
                "min_version": "1.3",
            }
        return {
            "receivers": {"otlp": {"protocols": {"http": listening}}},
            "exporters": {
                "file": {
                    "path": str(spans_file(site)),
                    "rotation": {"max_megabytes": KEPT_MEGABYTES, "max_backups": OLDER_FILES},
                }
            },
            "service": {
                "pipelines": {"traces": {"receivers": ["otlp"], "exporters": ["file"]}},
                "telemetry": {"logs": {"level": "warn"}, "metrics": {"level": "none"}},
            },
        }

    def command(self, site: StackSite) -> Command:
        return Command((str(self.built / self.name), "--config", f"file:{_config(site)}"), {}, site.data(self.name))

    def ask(self, site: StackSite) -> None:
        """It takes a request without spans."""
        try:
            answer = httpx.post(
                f"{self.url(site)}/v1/traces",
                json={},
                timeout=QUESTION_SECONDS,
                trust_env=False,
                verify=certificates.trusting(site) or True,
            )
        except httpx.HTTPError as error:
            raise NotReady(f"no answer ({type(error).__name__})") from None
        if answer.status_code != httpx.codes.OK:
            raise NotReady(f"answers {answer.status_code}")


def spans_file(site: StackSite) -> Path:
    """Where the last spans are."""
    return site.data(Collector.name) / "spans.jsonl"


def _config(site: StackSite) -> Path:
    return site.folder / "config" / "collector.json"

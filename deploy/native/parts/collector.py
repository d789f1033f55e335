"""The OpenTelemetry Collector beside a stack: it takes the spans of our processes and keeps the last ones in a file, and reads their
logs and sends each line to VictoriaLogs; on request only.

The file of spans has one ``ExportTraceServiceRequest`` a line, in OTLP's JSON form (https://opentelemetry.io/docs/specs/otlp/#json-protobuf-encoding).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Final

import httpx

from deploy.native import certificates, files
from deploy.native.cache import Recipe
from deploy.native.parts import observability
from deploy.native.parts.base import QUESTION_SECONDS, NotReady, Part
from deploy.native.parts.victorialogs import INSERT_PATH, VictoriaLogs
from deploy.native.site import StackSite
from deploy.native.supervisor import Command

#: The file, and as many older ones of that size.
KEPT_MEGABYTES: Final = 64
OLDER_FILES: Final = 2
#: Logs of our processes; the servers' are no JSON.
LOGS: Final = ("api.log", "console.log", "relay.log", "watchdog.log", "worker-*.log")
_IS_OURS: Final = 'attributes["event"] != nil'
_SERVICE: Final = 'resource["service.name"]'


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
            "extensions": {"file_storage": {"directory": str(site.data(self.name))}},
            "receivers": {"otlp": {"protocols": {"http": listening}}, "filelog": _reading(site)},
            "exporters": {
                "file": {
                    "path": str(spans_file(site)),
                    "rotation": {"max_megabytes": KEPT_MEGABYTES, "max_backups": OLDER_FILES},
                },
                "otlphttp": _sending(site),
            },
            "service": {
                "extensions": ["file_storage"],
                "pipelines": {
                    "traces": {"receivers": ["otlp"], "exporters": ["file"]},
                    "logs": {"receivers": ["filelog"], "exporters": ["otlphttp"]},
                },
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


def _reading(site: StackSite) -> dict[str, Any]:
    """From where it was read last; what VictoriaLogs does not take is offered again, and nothing further is read meanwhile."""
    return {
        "include": [str(site.folder / "logs" / name) for name in LOGS],
        "start_at": "beginning",
        "include_file_name": False,
        "storage": "file_storage",
        "retry_on_failure": {"enabled": True, "max_elapsed_time": "0s"},
        "operators": [
            # What is no JSON (the last words of a process that died) is kept as it is.
            {
                "type": "json_parser",
                "if": 'body startsWith "{"',
                "on_error": "send_quiet",
                "timestamp": {
                    "parse_from": "attributes.timestamp",
                    "layout_type": "gotime",
                    "layout": "2006-01-02T15:04:05.999999Z07:00",
                },
                "severity": {"parse_from": "attributes.level"},
            },
            {"type": "move", "if": 'attributes["process"] != nil', "from": "attributes.process", "to": _SERVICE},
            {"type": "remove", "if": _IS_OURS, "field": "attributes.timestamp"},
            {"type": "move", "if": _IS_OURS, "from": "attributes.event", "to": "body"},
        ],
    }


def _sending(site: StackSite) -> dict[str, Any]:
    """The service alone makes a stream of its own; ids are fields of a line."""
    given: dict[str, Any] = {
        "logs_endpoint": f"{VictoriaLogs().url(site)}{INSERT_PATH}",
        "headers": {"VL-Stream-Fields": "service.name"},
        "sending_queue": {"enabled": False},
        "retry_on_failure": {"enabled": False},
    }
    if site.tls:
        given["tls"] = {"ca_file": str(certificates.authority_file(site)), "min_version": "1.3"}
    return given

"""Prometheus and Alertmanager beside a stack, with the rules of ``deploy/observability``; part of a stack on request only.

What Prometheus scrapes is in a file of the stack (``site.targets_file``), which whoever starts the pipeline's processes writes: only
their settings know their ports. Prometheus takes a changed file within seconds.

Alertmanager has the routes and the inhibition of a site, and receivers without a channel: a local stack wakes nobody. Its alerts
are on its page.
"""

from __future__ import annotations

import re
import shutil
from functools import cache
from pathlib import Path
from typing import Any, ClassVar, Final

from deploy.native import certificates, files, prerequisites
from deploy.native.errors import StackError
from deploy.native.files import CHECKOUT
from deploy.native.parts import http
from deploy.native.parts.base import Part
from deploy.native.prerequisites import Prerequisite
from deploy.native.programs import output
from deploy.native.site import StackSite, targets_file
from deploy.native.supervisor import Command

NAME: Final = "observability"
FOLDER: Final = CHECKOUT / "deploy" / "observability"
RULES: Final = (FOLDER / "rules" / "recording.yml", FOLDER / "rules" / "alerts.yml")
SCRAPE_SECONDS: Final = 15
#: What it keeps, whichever is less.
KEPT_DAYS: Final = 15
KEPT_BYTES: Final = "512MB"
#: Where the channels of a site begin in its configuration: they are its own, and no local stack's.
RECEIVERS: Final = "\nreceivers:\n"


class _Monitor(Part):
    """What both have in common: servers with a page of their own, which a stack that runs can be given."""

    extra: ClassVar[str] = NAME
    late: ClassVar[bool] = True

    def url(self, site: StackSite) -> str:
        return site.url(self.port)

    def ask(self, site: StackSite) -> None:
        http.get_ok(f"{self.url(site)}/-/ready", certificates.trusting(site))


class Alertmanager(_Monitor):
    name: ClassVar[str] = "alertmanager"
    port: ClassVar[str] = "alertmanager"

    def lacks(self, site: StackSite) -> list[Prerequisite]:
        return [] if alertmanager_program() else [prerequisites.ALERTMANAGER]

    def version(self, site: StackSite) -> str:
        return _version(alertmanager_program())

    def prepare(self, site: StackSite) -> None:
        files.write_private(_config(site, self.name), silent_configuration((FOLDER / "alertmanager.yml").read_text()))

    def command(self, site: StackSite) -> Command:
        return Command(
            (
                _there(alertmanager_program(), "Alertmanager"),
                f"--config.file={_config(site, self.name)}",
                f"--storage.path={site.data(self.name)}",
                "--cluster.listen-address=",  # one instance: it talks to no others
                *_listening(self, site),
            ),
            {},
            site.data(self.name),
        )


class Prometheus(_Monitor):
    name: ClassVar[str] = "prometheus"
    port: ClassVar[str] = "prometheus"

    def lacks(self, site: StackSite) -> list[Prerequisite]:
        return prerequisites.program("prometheus", prerequisites.PROMETHEUS)

    def version(self, site: StackSite) -> str:
        return _version(shutil.which("prometheus"))

    def prepare(self, site: StackSite) -> None:
        targets = targets_file(site.folder)
        if not targets.exists():
            files.write_json(targets, [])
        files.write_json(_config(site, self.name), self.configuration(site))

    def configuration(self, site: StackSite) -> dict[str, Any]:
        """``prometheus.yml`` of ``deploy/observability``, with the places of this stack. JSON is YAML."""
        alertmanager: dict[str, Any] = {"static_configs": [{"targets": [site.address(Alertmanager.port)]}]}
        if site.tls:
            ca = str(certificates.authority_file(site))
            alertmanager |= {"scheme": "https", "tls_config": {"ca_file": ca, "min_version": "TLS13"}}
        return {
            "global": {
                "scrape_interval": f"{SCRAPE_SECONDS}s",
                "scrape_timeout": "10s",
                "evaluation_interval": f"{SCRAPE_SECONDS}s",
            },
            "rule_files": [str(path) for path in RULES],
            "alerting": {"alertmanagers": [alertmanager]},
            "scrape_configs": [
                {"job_name": "dpj", "file_sd_configs": [{"files": [str(targets_file(site.folder))]}]},
            ],
        }

    def command(self, site: StackSite) -> Command:
        return Command(
            (
                _there(shutil.which("prometheus"), "Prometheus"),
                f"--config.file={_config(site, self.name)}",
                f"--storage.tsdb.path={site.data(self.name)}",
                f"--storage.tsdb.retention.time={KEPT_DAYS}d",
                f"--storage.tsdb.retention.size={KEPT_BYTES}",
                *_listening(self, site),
            ),
            {},
            site.data(self.name),
        )


def addresses(site: StackSite) -> dict[str, str]:
    """Where Prometheus and Alertmanager of this stack are reached, by name; empty if it has none."""
    return {part.name: part.url(site) for part in (Prometheus(), Alertmanager())} if NAME in site.extras else {}


def silent_configuration(text: str) -> str:
    """A site's configuration of Alertmanager with its routes and inhibition, and receivers that tell nobody.

    Raises StackError for a text that has no list of receivers at its end.
    """
    head, found, receivers = text.partition(RECEIVERS)
    names = re.findall(r"^  - name: (\S+)$", receivers, re.MULTILINE)
    if not found or not names:
        raise StackError("alertmanager.yml of deploy/observability has no receivers")
    return f"{head}{RECEIVERS}" + "".join(f"  - name: {name}\n" for name in names)


def _listening(part: _Monitor, site: StackSite) -> list[str]:
    """Of both: where they listen and what they call themselves in links; TLS 1.3 alone where the stack has TLS."""
    flags = [
        f"--web.listen-address={site.address(part.port)}",
        f"--web.external-url={part.url(site)}",
        "--log.level=warn",
    ]
    if not site.tls:
        return flags
    ours = certificates.pair(site, part.name)
    web = {
        "tls_server_config": {
            "cert_file": str(ours.certificate),
            "key_file": str(ours.key),
            "min_version": "TLS13",
        }
    }
    path = site.folder / "config" / f"{part.name}-web.json"
    files.write_json(path, web)
    return [*flags, f"--web.config.file={path}"]


def _config(site: StackSite, name: str) -> Path:
    return site.folder / "config" / f"{name}.yml"


def alertmanager_program() -> str | None:
    """Debian's package gives it another name than its authors do."""
    return shutil.which("prometheus-alertmanager") or shutil.which("alertmanager")


def _there(program: str | None, name: str) -> str:
    """Raises StackError where ``lacks`` should have said so."""
    if program is None:
        raise StackError(f"no {name}")
    return program


@cache
def _version(program: str | None) -> str:
    found = re.search(r"version (\d+\.\d+\.\d+)", output(program, "--version")) if program else None
    return found[1] if found else ""

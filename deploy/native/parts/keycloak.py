"""Keycloak, the identity provider of a stack that asks for one (``identity``), with the realm of ``deploy/identity``.

It keeps everything in memory, as the GED does: each start makes the realm anew from the files, with keys of its own. What the files
leave open (addresses, passwords, secrets of clients) Keycloak itself fills in from its environment, so that no file but the stack's
private ones has a secret.

Its distribution is made for one database and one cache once (``kc.sh build``), beside the cache entry it came from; a start
without that does it each time. The programs are shared by all stacks, the home folder (``kc.home.dir``) is each stack's own.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Final

from deploy.native import certificates, files, prerequisites, programs
from deploy.native.cache import Recipe
from deploy.native.files import CHECKOUT
from deploy.native.parts import http
from deploy.native.parts.base import NotReady, Part, java_program, run_tool
from deploy.native.ports import LOOPBACK
from deploy.native.prerequisites import Prerequisite
from deploy.native.programs import Program
from deploy.native.site import StackSite
from deploy.native.supervisor import Command

NAME: Final = "identity"
REALM: Final = "dpj"
CONSOLE_CLIENT: Final = "dpj-console"
PORTAL_CLIENT: Final = "portal-demo"
ADMINISTRATOR: Final = "admin"
#: What a sign-in before an act without a way back is asked for: the realm's first level, the password.
STEP_UP_ACR: Final = "password"
FOLDER: Final = CHECKOUT / "deploy" / "identity"
VERSION: Final = "26.7.3"
BUILD_SECONDS: Final = 600.0
#: What is decided when the distribution is made: nothing but memory, and no cluster.
_MADE_FOR: Final = ("--db=dev-mem", "--cache=local", "--features-disabled=kerberos,device-flow,ciba,par")
#: As kc.sh has them.
_JAVA: Final = (
    *("-XX:-UsePerfData", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xms64m", "-Xmx512m"),
    *("-Dfile.encoding=UTF-8", "-Djava.net.preferIPv4Stack=true", "-Djava.awt.headless=true"),
    *("--add-opens=java.base/java.util=ALL-UNNAMED", "--add-opens=java.base/java.util.concurrent=ALL-UNNAMED"),
    "--add-opens=java.base/java.security=ALL-UNNAMED",
    "-Djava.util.logging.manager=org.jboss.logmanager.LogManager",
)


class Keycloak(Part):
    name: ClassVar[str] = "keycloak"
    port: ClassVar[str] = "keycloak"
    extra: ClassVar[str] = NAME
    recipe: ClassVar[Recipe | None] = Recipe("keycloak", VERSION, "jars", "maven/keycloak")
    patience: ClassVar[float] = 120.0

    def programs(self, site: StackSite) -> tuple[Program | None, ...]:
        return (programs.java(),)

    def lacks(self, site: StackSite) -> list[Prerequisite]:
        return [] if programs.java() else [prerequisites.JAVA]

    def address(self, site: StackSite) -> str:
        return self.url(site)

    def url(self, site: StackSite) -> str:
        return site.url(self.port)

    def issuer(self, site: StackSite) -> str:
        return f"{self.url(site)}/realms/{REALM}"

    def prepare(self, site: StackSite) -> None:
        self._make(site)
        home = site.data(self.name)
        shutil.rmtree(home)
        (site.data(self.name) / "lib").symlink_to(self._made() / "lib")  # it reads there what it was made for
        folder = files.private_folder(site.data(self.name) / "data") / "import"
        files.write_json(files.private_folder(folder) / f"{REALM}-realm.json", realm())
        lines = [f"{name}={value}\n" for name, value in accounts(site).items()]
        files.write_private(accounts_file(site), "".join(lines))

    def command(self, site: StackSite) -> Command:
        made = self._made()
        listening: tuple[str, ...] = ("--http-enabled=true", f"--http-port={site.ports[self.port]}")
        if site.tls:
            ours = certificates.pair(site, self.name)
            listening = (
                *("--http-enabled=false", f"--https-port={site.ports[self.port]}", "--https-protocols=TLSv1.3"),
                *(f"--https-certificate-file={ours.certificate}", f"--https-certificate-key-file={ours.key}"),
            )
        start = ("start", "--optimized", "--import-realm", f"--http-host={LOOPBACK}", f"--hostname={self.url(site)}")
        administrator = {
            "KC_BOOTSTRAP_ADMIN_USERNAME": ADMINISTRATOR,
            "KC_BOOTSTRAP_ADMIN_PASSWORD": site.secret("identity_administrator"),
        }
        return Command(
            (*_java(made, site.data(self.name)), *start, *listening),
            {**accounts(site), **administrator},
            site.data(self.name),
        )

    def ask(self, site: StackSite) -> None:
        said = http.get_json(f"{self.issuer(site)}/.well-known/openid-configuration", certificates.trusting(site))
        if said.get("issuer") != self.issuer(site):
            raise NotReady("it calls itself something else")

    def _made(self) -> Path:
        digest = hashlib.sha256(" ".join(_MADE_FOR).encode()).hexdigest()[:12]
        return self.built.with_name(f"{self.built.name}-{digest}")

    def _make(self, site: StackSite) -> None:
        """Make the distribution for ``_MADE_FOR``, once for all stacks. Raises PartFailed."""
        made = self._made()
        with files.locked(files.cache_root() / "locks" / made.name):
            if made.is_dir():
                return
            workshop = made.with_name(f".{made.name}")
            shutil.rmtree(workshop, ignore_errors=True)
            # What is made replaces files of lib/quarkus: those are copied, the others are the cache entry's own.
            shutil.copytree(self.built / f"keycloak-{VERSION}", workshop, copy_function=_link)
            command = Command((*_java(workshop, workshop), "build", *_MADE_FOR), {}, workshop)
            run_tool(site, self.name, command, BUILD_SECONDS)
            workshop.rename(made)


def realm() -> dict[str, Any]:
    """The realm of ``deploy/identity`` with the portal and the persons of a local stack, as Keycloak imports it."""
    found: dict[str, Any] = json.loads((FOLDER / "realm.json").read_text("utf-8"))
    local: dict[str, Any] = json.loads((FOLDER / "local.json").read_text("utf-8"))
    for name, more in local.items():
        found[name] = [*found.get(name, ()), *more]
    return found


def accounts(site: StackSite) -> Mapping[str, str]:
    """What the realm's files leave open, by its name there."""
    return {
        "DPJ_IDENTITY_CONSOLE_URL": f"http://{site.address('console')}",
        "DPJ_IDENTITY_CONSOLE_SECRET": site.secret("identity_console"),
        "DPJ_IDENTITY_PORTAL_SECRET": site.secret("identity_portal"),
        "DPJ_IDENTITY_OPERATOR_PASSWORD": site.secret("identity_operator"),
        "DPJ_IDENTITY_AUDITOR_PASSWORD": site.secret("identity_auditor"),
    }


def accounts_file(site: StackSite) -> Path:
    """Where whoever has the stack finds its passwords and secrets; mode 0600."""
    return site.folder / "config" / "identity.env"


def _java(distribution: Path, home: Path) -> tuple[str, ...]:
    places = (f"-Dkc.home.dir={home}", f"-Djboss.server.config.dir={home / 'conf'}")
    runner = ("-cp", str(distribution / "lib" / "quarkus-run.jar"), "io.quarkus.bootstrap.runner.QuarkusEntryPoint")
    return (java_program(), *_JAVA, *places, *runner)


def _link(source: str, target: str) -> None:
    if Path(source).parent.name == "quarkus":
        shutil.copy2(source, target)
    else:
        os.link(source, target)

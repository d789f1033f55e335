"""The Schema Registry: franz-go's in-memory one with our state file (go/registry)."""

from __future__ import annotations

from typing import ClassVar

from deploy.native import certificates
from deploy.native.cache import Recipe
from deploy.native.parts import http
from deploy.native.parts.base import FULL, NotReady, Part
from deploy.native.site import Profile, StackSite
from deploy.native.supervisor import Command


class Registry(Part):
    name: ClassVar[str] = "registry"
    port: ClassVar[str] = "registry"
    profiles: ClassVar[frozenset[Profile]] = FULL
    recipe: ClassVar[Recipe | None] = Recipe("registry", "1.8.0", "go", "go/registry")

    def url(self, site: StackSite) -> str:
        return site.url("registry")

    def command(self, site: StackSite) -> Command:
        data = site.data("registry")
        arguments = ["-listen", site.address("registry"), "-state", str(data / "state.json")]
        if site.tls:
            ours = certificates.pair(site, self.name)
            arguments += ["-certificate", str(ours.certificate), "-key", str(ours.key)]
        return Command((str(self.built / "registry"), *arguments), {}, data)

    def ask(self, site: StackSite) -> None:
        if not isinstance(http.get_json(f"{self.url(site)}/subjects", certificates.trusting(site)), list):
            raise NotReady("no list of subjects")

"""The Schema Registry: franz-go's in-memory one with our state file (go/registry)."""

from __future__ import annotations

from typing import ClassVar

from deploy.native.cache import Recipe
from deploy.native.parts import http
from deploy.native.parts.base import NotReady, Part
from deploy.native.site import Site
from deploy.native.supervisor import Command


class Registry(Part):
    name: ClassVar[str] = "registry"
    port: ClassVar[str] = "registry"
    recipe: ClassVar[Recipe | None] = Recipe("registry", "1.8.0", "go", "go/registry")

    def command(self, site: Site) -> Command:
        data = site.data("registry")
        arguments = ("-listen", site.address("registry"), "-state", str(data / "state.json"))
        return Command((str(self.built / "registry"), *arguments), {}, data)

    def ask(self, site: Site) -> None:
        if not isinstance(http.get_json(f"http://{site.address('registry')}/subjects"), list):
            raise NotReady("no list of subjects")

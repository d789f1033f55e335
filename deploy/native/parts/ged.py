"""The GED: Apache Chemistry's in-memory CMIS 1.1 repository in Jetty. It forgets everything when it stops."""

from __future__ import annotations

import shutil
from typing import ClassVar

from deploy.native import files
from deploy.native.cache import Recipe
from deploy.native.parts import http
from deploy.native.parts.base import NotReady, Part
from deploy.native.ports import LOOPBACK
from deploy.native.site import Site
from deploy.native.supervisor import Command

REPOSITORY = "A1"
USER = "dpj"


class Ged(Part):
    name: ClassVar[str] = "ged"
    port: ClassVar[str] = "ged"
    recipe: ClassVar[Recipe | None] = Recipe("ged", "1.1.0", "mvn", "maven/ged")
    patience: ClassVar[float] = 90.0

    def url(self, site: Site) -> str:
        return f"http://{site.address('ged')}/cmis/browser"

    def prepare(self, site: Site) -> None:
        shutil.rmtree(site.data("ged"))  # temporary files of a former run; the documents were in memory
        files.private_folder(site.folder / "data" / "ged")

    def command(self, site: Site) -> Command:
        folder = site.data("ged")
        # The heap holds every document; it grows only as they come. A 60 MB one needs 200 MB while it arrives.
        java = ("java", "-XX:-UsePerfData", "-Xms64m", "-Xmx1536m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1")
        quiet = (
            "-Dorg.eclipse.jetty.util.log.class=org.eclipse.jetty.util.log.StdErrLog",
            f"-Djava.io.tmpdir={folder}",
        )
        runner = ("-jar", str(self.built / "jetty-runner.jar"), "--host", LOOPBACK, "--port", str(site.ports["ged"]))
        return Command((*java, *quiet, *runner, "--path", "/cmis", str(self.built / "webapp")), {}, folder)

    def ask(self, site: Site) -> None:
        repositories = http.get_json(self.url(site), auth=(USER, site.secret("ged")))
        if REPOSITORY not in repositories:
            raise NotReady(f"no repository {REPOSITORY}")

"""The stack of the drills: real servers with Prometheus, our processes, what is done to them, and what must hold afterwards."""

from __future__ import annotations

import os
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx
from dotenv import dotenv_values

from deploy.native import stack as native
from deploy.native.parts.observability import NAME, addresses
from runtime.config.settings import load_settings
from runtime.processes.local import PipelineProcesses
from runtime.processes.local_stack import prepare
from tests.drills.load import TENANT
from tests.support.pipeline import Pipeline, wait_for
from tests.support.stack_servers import StackServers

#: An operator publishes lost events again in the drill, where the relay would after two minutes.
SETTINGS: Final = {"DPJ_EVENTS_RE_EMIT": "false", "DPJ_EVENTS_LOST_AFTER": "60"}
REST_SECONDS: Final = 600.0
_UNDER_WAY: Final = """
    SELECT what FROM (SELECT 'outbox' AS what FROM outbox WHERE published_at IS NULL UNION ALL SELECT 'audit' FROM audit_waiting
    UNION ALL SELECT 'audit' FROM audit_pending UNION ALL SELECT 'inbox' FROM inbox WHERE state = 'CLAIMED'
    UNION ALL SELECT statut FROM documents WHERE statut IN ('PENDING', 'STORED', 'VERIFIED', 'VALIDATED', 'ERASING')) AS found LIMIT 1"""
_STATES: Final = "SELECT id, statut FROM documents WHERE tenant = $1"


class DrillSite:
    """``name``: of the stack, which is made if it is not there."""

    def __init__(self, name: str, report: Callable[[str], None]) -> None:
        native.up(name, "full", extras=[NAME])
        self.servers = StackServers(name)
        here = self.servers.site
        settings = load_settings(name)
        prepare(settings, report)
        self._processes = PipelineProcesses(settings, SETTINGS)
        self._processes.start(report)
        self._frozen: set[str] = set()
        read = dotenv_values(here.folder / "settings.env")
        self.pipeline = Pipeline({key: value for key, value in read.items() if value is not None})
        self.console_url = settings.console_url
        self.prometheus_url = addresses(here)["prometheus"]

    # --- what is done to it ------------------------------------------------------------------------------------------

    def freeze(self, process: str) -> None:
        os.kill(self._pid(process), signal.SIGSTOP)
        self._frozen.add(process)

    def thaw(self, process: str) -> None:
        os.kill(self._pid(process), signal.SIGCONT)
        self._frozen.discard(process)

    def close(self, *, keep: bool) -> None:
        """What a drill that failed has left frozen goes on. Our processes end unless the stack is kept."""
        for process in list(self._frozen):
            self.thaw(process)
        self.pipeline.close()
        if not keep:
            self.pipeline.stop()

    def restart(self, process: str) -> None:
        """Killed if it does not go, and started."""
        self._processes.restart(process)
        self._frozen.discard(process)

    def create_topics(self) -> None:
        self.pipeline.dpj("topics", "create")

    def _pid(self, process: str) -> int:
        return next(one.pid for one in self._processes.states() if one.name == process and one.pid is not None)

    # --- what holds --------------------------------------------------------------------------------------------------

    def comes_to_rest(self, taken: list[str]) -> str:
        """Until nothing is under way; then every upload that was acknowledged is a document, and each archived one has its copy
        in the GED, as PostgreSQL and the GED say themselves. Gives that in a sentence; raises AssertionError if it does not hold."""
        wait_for(
            lambda: not self.pipeline.sql(_UNDER_WAY),
            "all rests",
            REST_SECONDS,
        )
        states = Counter(row["statut"] for row in self.pipeline.sql(_STATES, TENANT) if str(row["id"]) in set(taken))
        rows = {str(row["id"]) for row in self.pipeline.sql("SELECT id FROM documents WHERE tenant = $1", TENANT)}
        lost = set(taken) - rows
        assert not lost, f"acknowledged, and no document: {sorted(lost)[:5]}"
        of_archived = self.pipeline.sql("SELECT id FROM documents WHERE tenant = $1 AND statut = 'ARCHIVED'", TENANT)
        archived = [row for row in of_archived if str(row["id"]) in set(taken)]  # a stack that was kept has others
        copies = self._copies(str(archived[0]["id"])) if archived else Counter[str]()
        wrong = [str(row["id"]) for row in archived if copies[str(row["id"])] != 1]
        assert not wrong, f"archived, and not once in the GED: {wrong[:5]}"
        told = ", ".join(f"{number} {state}" for state, number in sorted(states.items()))
        return (
            f"{len(taken)} uploads acknowledged: {told}; {len(archived)} copies in the GED, none twice; nothing waits"
        )

    def _copies(self, document_id: str) -> Counter[str]:
        """Copies in the folder of a document in the GED, by document."""
        given = self.pipeline.settings
        document: dict[str, Any] = self.pipeline.client("portal", TENANT).get(f"/documents/{document_id}").json()
        folder = "/".join(quote(part, safe="") for part in document["archive"]["ged_path"].split("/")[:-1])
        user = (given["DPJ_GED_USER"], given["DPJ_GED_PASSWORD"])
        found: Counter[str] = Counter()
        with httpx.Client(auth=user, timeout=60, trust_env=False) as ged:
            about = ged.get(given["DPJ_GED_URL"]).raise_for_status().json()[given["DPJ_GED_REPOSITORY"]]
            ours = urlsplit(given["DPJ_GED_URL"])
            root = f"{ours.scheme}://{ours.netloc}{urlsplit(about['rootFolderUrl']).path.rstrip('/')}"
            skip, more = 0, True
            while more:
                asked = {"cmisselector": "children", "succinct": "true", "maxItems": "500", "skipCount": str(skip)}
                page = ged.get(f"{root}/{folder.lstrip('/')}", params=asked).raise_for_status().json()
                for child in page["objects"]:
                    found[child["object"]["succinctProperties"]["cmis:name"].partition(".")[0]] += 1
                skip, more = skip + len(page["objects"]), bool(page["objects"]) and page.get("hasMoreItems", False)
        return found

"""The stack of the drills: real servers with Prometheus, our processes, what is done to them, and what must hold afterwards."""

from __future__ import annotations

import os
import shutil
import signal
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx
from confluent_kafka import Producer
from dotenv import dotenv_values

from deploy.native import site as native_site
from deploy.native import stack as native
from deploy.native.parts import ALL
from deploy.native.parts.base import NotReady, Part
from deploy.native.parts.observability import NAME, addresses
from deploy.native.supervisor import Supervisor
from runtime.config.settings import load_settings
from runtime.processes.local import PipelineProcesses
from runtime.processes.local_stack import prepare
from tests.drills.load import TENANT
from tests.support.pipeline import Pipeline, wait_for

#: An operator publishes lost events again in the drill, where the relay would after two minutes.
SETTINGS: Final = {"DPJ_EVENTS_RE_EMIT": "false", "DPJ_EVENTS_LOST_AFTER": "60"}
SERVER_SECONDS: Final = 300.0
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
        here = native_site.load(name)
        if here is None:
            raise RuntimeError(f"the stack {name} is not there")
        self._here = here
        settings = load_settings(name)
        prepare(settings, report)
        self._processes = PipelineProcesses(settings, SETTINGS)
        self._processes.start(report)
        self._servers = Supervisor(here.folder)
        self._frozen: set[str] = set()
        self._pool = ThreadPoolExecutor(1)
        read = dotenv_values(here.folder / "settings.env")
        self.pipeline = Pipeline({key: value for key, value in read.items() if value is not None})
        self.console_url = settings.console_url
        self.prometheus_url = addresses(here)["prometheus"]

    # --- what is done to it ------------------------------------------------------------------------------------------

    def stop_server(self, name: str) -> None:
        self._servers.stop([name])

    def kill_server(self, name: str) -> None:
        os.kill(self._servers.running()[name].pid, signal.SIGKILL)
        self._servers.stop([name])  # it is no longer remembered

    def wipe_server(self, name: str) -> None:
        """Its disk is lost. It has to be down."""
        shutil.rmtree(self._here.folder / "data" / name)

    def start_server(self, name: str) -> None:
        """Returns once it answers."""
        part = _part(name)
        part.prepare(self._here)
        self._servers.start(name, part.command(self._here))

        def answers() -> bool:
            try:
                part.ask(self._here)
            except NotReady:
                return False
            return True

        wait_for(answers, f"{name} answers", SERVER_SECONDS)
        part.set_up(self._here)

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

    def produce(self, topic: str, keys: list[str], value: bytes) -> None:
        """A record under each of these keys, as a stranger writes it."""
        producer = Producer({"bootstrap.servers": self.pipeline.settings["DPJ_KAFKA_BOOTSTRAP"]})
        for key in keys:
            producer.produce(topic, key=key.encode(), value=value)
        if producer.flush(60):
            raise RuntimeError(f"{topic} takes no records")

    def create_topics(self) -> None:
        self.pipeline.dpj("topics", "create")

    def _pid(self, process: str) -> int:
        return next(one.pid for one in self._processes.states() if one.name == process and one.pid is not None)

    def sql(self, query: str, *arguments: Any) -> list[Any]:
        """In a thread of its own: Playwright has an event loop in this one."""
        return self._pool.submit(self.pipeline.sql, query, *arguments).result()

    # --- what holds --------------------------------------------------------------------------------------------------

    def comes_to_rest(self, taken: list[str]) -> str:
        """Until nothing is under way; then every upload that was acknowledged is a document, and each archived one has its copy
        in the GED, as PostgreSQL and the GED say themselves. Gives that in a sentence; raises AssertionError if it does not hold."""
        wait_for(
            lambda: not self.sql(_UNDER_WAY),
            "all rests",
            REST_SECONDS,
        )
        states = Counter(row["statut"] for row in self.sql(_STATES, TENANT) if str(row["id"]) in set(taken))
        rows = {str(row["id"]) for row in self.sql("SELECT id FROM documents WHERE tenant = $1", TENANT)}
        lost = set(taken) - rows
        assert not lost, f"acknowledged, and no document: {sorted(lost)[:5]}"
        of_archived = self.sql("SELECT id FROM documents WHERE tenant = $1 AND statut = 'ARCHIVED'", TENANT)
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


def _part(name: str) -> Part:
    return next(part for part in ALL if part.name == name)

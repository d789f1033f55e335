"""The real servers of a fault site: stopped, killed and started again, each with the state it had on disk."""

from __future__ import annotations

import json
import os
import shutil
import signal
import time
from contextlib import suppress
from pathlib import Path

import httpx

from deploy.native import site as native_site
from deploy.native.parts import ALL
from deploy.native.parts.base import NotReady, Part
from deploy.native.parts.postgres import Postgres
from deploy.native.supervisor import Supervisor, Tracked
from tests.faults.plain_http import NO_TLS

ASK_AGAIN_SECONDS = 0.1
GONE_SECONDS = 60.0
#: Times what a server needs on a small machine that has nothing else to do.
BUSY = 4


class Server:
    """One server of the stack. ``stop`` is an orderly end, ``kill`` is SIGKILL; both return once the process is gone."""

    def __init__(self, here: native_site.StackSite, part: Part) -> None:
        self.name = part.name
        self._here = here
        self._part = part
        self._supervisor = Supervisor(here.folder)

    @property
    def pid(self) -> int | None:
        """None while it is down."""
        process = self._tracked()
        return process.pid if process else None

    def stop(self) -> None:
        """Raises RuntimeError for the GED: it would forget everything. Cut its line instead."""
        self._refuse_ged()
        self._supervisor.stop([self.name])

    def kill(self) -> None:
        """Raises RuntimeError for the GED."""
        self._refuse_ged()
        process = self._tracked()
        if process is None:
            return
        with suppress(ProcessLookupError):
            os.kill(process.pid, signal.SIGKILL)
        ends = time.monotonic() + GONE_SECONDS
        while process.alive():
            if time.monotonic() > ends:
                raise AssertionError(f"{self.name} is still there after SIGKILL")
            time.sleep(0.02)
        self._supervisor.stop([self.name])  # it is no longer remembered

    @property
    def data(self) -> Path:
        """What it has on disk."""
        if isinstance(self._part, Postgres):
            return self._part._cluster(self._here)
        return self._here.folder / "data" / self.name

    def wipe(self) -> None:
        """Delete what it has on disk, as if the disk had been lost. It has to be down."""
        if self._tracked() is not None:
            raise RuntimeError(f"{self.name} runs")
        shutil.rmtree(self.data)

    def start(self) -> None:
        """Start it where it is down; returns once it answers (Vault unsealed). Raises AssertionError with its log's end."""
        if self._tracked() is not None:
            return
        self._part.prepare(self._here)
        process = self._supervisor.start(self.name, self._part.command(self._here))
        ends = time.monotonic() + BUSY * self._part.patience
        while True:
            if not process.alive():  # PostgreSQL refuses to start while children of one that was killed are left
                process = self._supervisor.start(self.name, self._part.command(self._here))
            try:
                self._part.ask(self._here)
                break
            except NotReady as reason:
                if time.monotonic() > ends:
                    log = self._supervisor.log(self.name)
                    raise AssertionError(f"{self.name} does not come back ({reason}); see {log}") from None
            time.sleep(ASK_AGAIN_SECONDS)
        self._part.set_up(self._here)

    def _tracked(self) -> Tracked | None:
        return self._supervisor.running().get(self.name)

    def _refuse_ged(self) -> None:
        if self.name == "ged":
            raise RuntimeError("the GED keeps its documents in memory: cut its line instead")


class VaultServer(Server):
    """Vault, which can be sealed too: it runs, and answers everything with 503."""

    def seal(self) -> None:
        self._call("PUT", "/v1/sys/seal", {}, with_token=True)

    def unseal(self) -> None:
        """No error where it is open already."""
        self._call("PUT", "/v1/sys/unseal", {"key": self._keys()["unseal_key"]}, with_token=False)

    def _keys(self) -> dict[str, str]:
        keys: dict[str, str] = json.loads((self._here.folder / "keys" / "vault.json").read_text("utf-8"))
        return keys

    def _call(self, method: str, path: str, body: dict[str, str], *, with_token: bool) -> None:
        headers = {"X-Vault-Token": self._keys()["root_token"]} if with_token else {}
        url = f"http://{self._here.address('vault')}{path}"
        with httpx.Client(timeout=10, trust_env=False, verify=NO_TLS) as client:
            client.request(method, url, json=body, headers=headers).raise_for_status()


def servers_of(here: native_site.StackSite) -> dict[str, Server]:
    """All servers by name; "ferretdb" stands on "mongo-pg", a PostgreSQL cluster of its own."""
    parts = [part for part in ALL if here.profile in part.profiles and not part.on_request]
    return {part.name: VaultServer(here, part) if part.name == "vault" else Server(here, part) for part in parts}

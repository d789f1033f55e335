"""Servers of a running stack, one by one: stopped, killed, wiped and started again while our processes go on."""

from __future__ import annotations

import os
import shutil
import signal
from typing import Final

from deploy.native import site as native_site
from deploy.native.parts import ALL
from deploy.native.parts.base import NotReady
from deploy.native.supervisor import Supervisor
from tests.support.pipeline import wait_for

SERVER_SECONDS: Final = 300.0


class StackServers:
    """``name``: of the stack. Raises RuntimeError if it is not there."""

    def __init__(self, name: str) -> None:
        here = native_site.load(name)
        if here is None:
            raise RuntimeError(f"the stack {name} is not there")
        self.site: Final = here
        self._running = Supervisor(here.folder)

    def port(self, name: str) -> int:
        return self.site.ports[name]

    def stop(self, name: str) -> None:
        self._running.stop([name])

    def kill(self, name: str) -> None:
        os.kill(self._running.running()[name].pid, signal.SIGKILL)
        self._running.stop([name])  # it is no longer remembered

    def wipe(self, name: str) -> None:
        """Its disk is lost. It has to be down."""
        shutil.rmtree(self.site.folder / "data" / name)

    def start(self, name: str) -> None:
        """Returns once it answers."""
        part = next(one for one in ALL if one.name == name)
        part.prepare(self.site)
        self._running.start(name, part.command(self.site))

        def answers() -> bool:
            try:
                part.ask(self.site)
            except NotReady:
                return False
            return True

        wait_for(answers, f"{name} answers", SERVER_SECONDS)
        part.set_up(self.site)

"""One start of a stack's parts: side by side, each as soon as it is built and what it needs is ready."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait

from deploy.native import files, programs
from deploy.native.cache import Builder
from deploy.native.errors import Cancelled, PartFailed
from deploy.native.parts.base import NotReady, Part
from deploy.native.patience import Patience, sign_of
from deploy.native.report import Reporter
from deploy.native.site import StackSite
from deploy.native.supervisor import Supervisor, Tracked, environment

ASK_AGAIN_SECONDS = 0.1
WATCH_SECONDS = 0.2  # how soon the main thread notices Ctrl-C
TELL_SECONDS = 30.0  # how often it is told why a server is not ready
LOG_LINES = 15


class Launch:
    """``running`` are the parts that run already: they are asked, not started, and ``undo`` leaves them alone. ``then``: what to do
    as soon as a part is ready, by its name, in a thread of its own; what it raises is a failure of the start."""

    def __init__(
        self,
        site: StackSite,
        supervisor: Supervisor,
        reporter: Reporter,
        parts: list[Part],
        running: frozenset[str],
        then: Mapping[str, Callable[[], object]] | None = None,
    ) -> None:
        self._site = site
        self._supervisor = supervisor
        self._reporter = reporter
        self._parts = parts
        self._running = running
        self._then = then or {}
        self._builder = Builder(environment(site.folder), programs.go_tools)
        self._cancelled = threading.Event()
        self._ready = {part.name: threading.Event() for part in parts}
        self._started: list[str] = []
        self._pool = ThreadPoolExecutor(max_workers=len(parts), thread_name_prefix="stack")
        self._futures: list[Future[None]] = []
        self.seconds: dict[str, float] = {}  # from the start of the process to its first good answer, per part

    def run(self) -> None:
        """Raises the first failure of a part."""
        self._futures = [self._pool.submit(self._bring_up, part) for part in self._parts]
        left = set(self._futures)
        while left:
            done, left = wait(left, timeout=WATCH_SECONDS, return_when=FIRST_EXCEPTION)
            for future in done:
                future.result()
        self._pool.shutdown()

    def undo(self) -> None:
        """Stop the builds and end what was started, after any failure of ``run``."""
        self._cancelled.set()
        self._builder.cancel()
        wait(self._futures)
        self._pool.shutdown(cancel_futures=True)
        self._supervisor.stop(self._started)
        self._supervisor.stop_strays()

    def _bring_up(self, part: Part) -> None:
        if part.name in self._running:
            # Also set up: the call that started it may have been killed before it got there.
            self._until_ready(part, self._supervisor.running()[part.name], time.monotonic())
        else:
            self._start(part)
        self._ready[part.name].set()
        self._reporter.step(part.name, "ready")
        if part.name in self._then:
            self._then[part.name]()

    def _start(self, part: Part) -> None:
        self._build(part)
        for needed in part.needs:
            self._wait_for(needed)
        part.prepare(self._site)
        self._go_on(part)
        self._reporter.step(part.name, "starting")
        began = time.monotonic()
        self._started.append(part.name)
        process = self._supervisor.start(part.name, part.command(self._site))
        self._until_ready(part, process, began)
        self.seconds[part.name] = time.monotonic() - began

    def _build(self, part: Part) -> None:
        lacking = [recipe for recipe in part.recipes(self._site) if not recipe.built()]
        if not lacking:
            return
        self._reporter.step(part.name, lacking[0].verb)
        with ThreadPoolExecutor(len(lacking), thread_name_prefix=part.name) as pool:
            list(pool.map(self._builder.ensure, lacking))

    def _until_ready(self, part: Part, process: Tracked, began: float) -> None:
        """It answers, and holds what it must."""
        patience, log = Patience(still=part.patience), self._supervisor.log(part.name)
        told = began
        while True:
            self._go_on(part)
            if not process.alive():
                raise self._failure(part, "ended right after its start")
            try:
                part.ask(self._site)
                part.set_up(self._site)
                return
            except PartFailed as error:
                raise self._failure(part, error.reason) from error
            except NotReady as reason:
                over = patience.over(sign_of(process.pid, log))
                if over is not None:
                    raise self._failure(part, f"{over}: {reason}") from None
                if time.monotonic() - told > TELL_SECONDS:
                    told = time.monotonic()
                    self._reporter.note(f"{part.name} is not ready yet: {reason}")
            time.sleep(ASK_AGAIN_SECONDS)

    def _wait_for(self, name: str) -> None:
        while not self._ready[name].wait(WATCH_SECONDS):
            if self._cancelled.is_set():
                raise Cancelled(f"{name} did not come up")

    def _go_on(self, part: Part) -> None:
        if self._cancelled.is_set():
            raise Cancelled(f"{part.name}: not started")

    def _failure(self, part: Part, reason: str) -> PartFailed:
        return PartFailed(part.name, reason, files.tail(self._supervisor.log(part.name), LOG_LINES))

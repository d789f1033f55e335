"""One round: traffic runs, episodes of faults pass over it, everything is mended, comes to rest, and is checked."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from domain.errors import DPJError
from tests.faults.checker import Checker
from tests.faults.faults import KINDS
from tests.faults.invariants import Violation
from tests.faults.journal import Deposit, Writer
from tests.faults.losses import MOVED, OF_RECORDS, RESTORED, WIPED, Losses
from tests.faults.observation import CONSUMERS
from tests.faults.patience import LONGEST_SECONDS, Patience, insist
from tests.faults.schedule import Episode, ScheduledFault, episode_line
from tests.faults.site import FaultSite
from tests.faults.traffic import Clients
from tests.faults.worker_counters import WorkerCounters

#: A document sent when an episode ends stands still nowhere on its way for so long, or the round has a violation.
RECOVERY_SECONDS = 120.0
LOOK_SECONDS = 1.0
#: Longer than a client's patience with each thing that it does with a document.
FINISH_SECONDS = 600.0
CLIENTS = 3
#: What an episode of more than one fault is called in the report.
SEVERAL = "several at once"

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Recovery:
    """From the end of an episode until a document sent at that moment was ARCHIVED; None: not in time."""

    group: str
    seconds: float | None


@dataclass(slots=True)
class RoundResult:
    """What a round was and what came of it."""

    number: int
    tenant: str
    faults: dict[str, int] = field(default_factory=dict)
    recoveries: list[Recovery] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    answers: dict[str, int] = field(default_factory=dict)
    findings: dict[str, Any] = field(default_factory=dict)
    redeliveries: dict[str, int] = field(default_factory=dict)
    retries: dict[str, int] = field(default_factory=dict)
    reconciled: dict[str, int] = field(default_factory=dict)
    deposits: int = 0
    settled: float | None = None
    seconds: float = 0.0

    def plain(self) -> dict[str, Any]:
        return asdict(self)


class Round:
    """``folder`` keeps the journal; ``tenant`` is the round's own."""

    def __init__(self, site: FaultSite, checker: Checker, folder: Path, number: int, tenant: str, tell: Tell) -> None:
        self._site = site
        self._checker = checker
        self._losses = Losses(site, checker)
        self._folder = folder
        self._on_progress = tell
        self.result = RoundResult(number, tenant)

    async def run(self, episodes: list[Episode], seed: int, loss: str | None = None) -> RoundResult:
        """Play ``episodes``, have a store forget (``loss``, of ``losses.LOSSES``), and check. A violation is in the result, not raised."""
        began = time.monotonic()
        result = self.result
        result.faults = dict(Counter(fault.group for episode in episodes for fault in episode))
        if loss is not None:
            result.faults[loss] = 1
        if loss == RESTORED:  # before the traffic: what PostgreSQL forgets is lost to its clients, too
            await self._lose(self._losses.go_back_and_repair(self._folder))
        since = None if loss == WIPED else await asyncio.to_thread(self._checker.stores.ends)
        ended = {name: len(process.ends) for name, process in self._site.processes.items()}
        tally = WorkerCounters(self._site)
        self._checker.tidy = self._reconcile
        with Writer(self._folder / f"{result.tenant}.jsonl") as writer:
            clients = self._checker.clients(result.tenant, writer, seed * 100_003 + result.number)
            counting = asyncio.create_task(tally.run())
            try:
                await clients.prepare()
                await self._traffic(clients, writer, episodes, random.Random(f"{seed}:{result.number}"), loss)
                if loss in {WIPED, MOVED}:
                    await self._lose(self._losses.nothing_owed())
                checked = await self._checker.check(writer, since=since)
            finally:
                counting.cancel()
                await clients.aclose()
            journal = writer.journal
        result.redeliveries, result.retries = dict(tally.redeliveries), dict(tally.retries)
        result.settled = checked.settled
        passed = OF_RECORDS if loss == WIPED else frozenset()
        result.violations += [str(violation) for violation in checked.violations if violation.code not in passed]
        result.violations += [str(one) for one in self._ends(ended)]
        if checked.settled is None:
            result.violations.append(f"unsettled: still under way after the deadline: {checked.waiting}")
        result.deposits = len(journal.deposits)
        answers = (answer for deposit in journal.deposits.values() for answer in deposit.answers)
        result.answers = dict(Counter(f"{one.act} {one.status or 'no answer'}" for one in answers))
        found = asdict(replace(checked.findings, states=Counter(), violations=[]))
        del found["violations"]
        found["states"] = dict(checked.findings.states)
        result.findings = found
        result.seconds = round(time.monotonic() - began, 1)
        return result

    async def _traffic(
        self, clients: Clients, writer: Writer, episodes: list[Episode], dice: random.Random, loss: str | None
    ) -> None:
        stopping = asyncio.Event()
        traffic = asyncio.create_task(clients.run(CLIENTS, stopping))
        try:
            for episode in episodes:
                self._on_progress(episode_line(episode))
                await self._play(episode)
                await self._recover(clients, episode[0].group if len(episode) == 1 else SEVERAL, episode_line(episode))
                if traffic.done():
                    break
            if loss in {WIPED, MOVED}:
                self._on_progress(loss)
                await self._lose(asyncio.to_thread(self._wipe if loss == WIPED else self._move_offsets))
                await self._recover(clients, loss, loss)
            await asyncio.to_thread(self._poison, writer, dice)
        finally:
            stopping.set()
            await self._mend()
            await asyncio.wait_for(traffic, FINISH_SECONDS)

    async def _play(self, episode: Episode) -> None:
        """All faults of an episode, each begun and ended in its time."""

        async def one(fault: ScheduledFault) -> None:
            await asyncio.sleep(fault.at)
            undo = await asyncio.to_thread(KINDS[fault.kind].begin, self._site)
            try:
                await asyncio.sleep(fault.seconds)
            finally:
                await asyncio.to_thread(insist, undo)

        async with asyncio.TaskGroup() as group:
            for fault in episode:
                group.create_task(one(fault))

    async def _lose(self, act: Awaitable[None]) -> None:
        """Do it; what an operator would see fail is a violation."""
        try:
            await act
        except AssertionError as error:
            self._on_progress(f"loss: {error}")
            self.result.violations.append(str(Violation("loss", str(error))))

    def _wipe(self) -> None:
        self._site.calm()
        self._losses.wipe_kafka()

    def _move_offsets(self) -> None:
        """No group may have a member meanwhile."""
        self._site.calm()
        self._losses.workers("stop")
        try:
            self._losses.move_offsets_to_the_end()
        finally:
            self._losses.workers("start")

    async def _recover(self, clients: Clients, group: str, line: str) -> None:
        """A document sent now: how long until it is at rest? ``line`` says after what."""
        canary, patience = clients.new("pdf"), Patience(RECOVERY_SECONDS)
        way = asyncio.create_task(self._to_archive(clients, canary))
        while not way.done() and not patience.is_over(await self._place(canary)):
            await asyncio.wait({way}, timeout=LOOK_SECONDS)
        seconds = round(patience.waited, 2) if way.done() and way.result() else None
        way.cancel()
        self.result.recoveries.append(Recovery(group, seconds))
        if seconds is None:
            text = f"a document sent after [{line}] was not archived: {patience.told}"
            self.result.violations.append(str(Violation("recovery", text)))

    @staticmethod
    async def _to_archive(clients: Clients, canary: Deposit) -> bool:
        await clients.deposit(canary)
        await clients.decide(canary, "validate")
        return await clients.reaches(canary, {"ARCHIVED"}, LONGEST_SECONDS)

    async def _place(self, canary: Deposit) -> list[Any]:
        """How far it is: its state and the number of its latest event; nothing before it was taken."""
        query = "SELECT statut, sequence FROM documents WHERE tenant = $1 AND id = $2::text::uuid"
        rows = await self._checker.stores.query(query, canary.tenant, canary.document_id)
        return [tuple(row) for row in rows]

    async def _mend(self) -> None:
        try:
            await asyncio.to_thread(self._site.calm)
        except AssertionError as error:
            self.result.violations.append(str(Violation("ready", str(error))))

    def _poison(self, writer: Writer, dice: random.Random) -> None:
        """A record that is no event, in a topic of the pipeline."""
        topic = dice.choice(sorted({topic for topics in CONSUMERS.values() for topic in topics}))
        producer = Producer({"bootstrap.servers": self._site.settings["DPJ_KAFKA_BOOTSTRAP"]})

        def told_where(error: Any, message: Any) -> None:
            if error is None:
                writer.poison_record(message.topic(), message.partition(), message.offset())

        producer.produce(topic, key=dice.randbytes(8), value=dice.randbytes(40), on_delivery=told_where)
        producer.flush(60)

    def _reconcile(self) -> None:
        """Remove what uploads that came to nothing left in the store; copies in the GED are left for the checker to find."""
        time.sleep(float(self._site.setting("DPJ_RECONCILE_GRACE")))
        try:
            told = self._site.operator.reconcile()
        except (AssertionError, DPJError) as error:
            self.result.violations.append(str(Violation("reconcile", f"{type(error).__name__}: {error}")))
            return
        self.result.reconciled = {fault: count["found"] for fault, count in told["faults"].items()}

    def _ends(self, before: dict[str, int]) -> list[Violation]:
        """Processes that ended without being told to."""
        return [
            Violation("process", f"{name} ended by itself with {end.code}")
            for name, process in self._site.processes.items()
            for end in process.ends[before.get(name, 0) :]
            if not end.asked
        ]

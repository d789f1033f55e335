"""One round: traffic runs, episodes of faults pass over it, everything is mended, comes to rest, and is checked."""

from __future__ import annotations

import asyncio
import random
import time
from collections import Counter
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

from confluent_kafka import Producer

from tests.faults.checker import Checker
from tests.faults.faults import KINDS
from tests.faults.invariants import Violation
from tests.faults.journal import Deposit, Writer
from tests.faults.observation import CONSUMERS
from tests.faults.patience import LONGEST_SECONDS, Patience
from tests.faults.schedule import Episode, ScheduledFault, episode_line
from tests.faults.site import FaultSite
from tests.faults.traffic import Clients
from tests.faults.worker_counters import WorkerCounters

#: A document sent when an episode ends stands still nowhere on its way for so long, or the round has a violation.
RECOVERY_SECONDS = 120.0
LOOK_SECONDS = 1.0
#: Longer than a client's patience with each thing that it does with a document.
FINISH_SECONDS = 600.0
#: A server that takes longer to come back than it should (the machine may be busy) is waited for again.
INSIST = 3
CLIENTS = 3

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
        self._folder = folder
        self._on_progress = tell
        self.result = RoundResult(number, tenant)

    async def run(self, episodes: list[Episode], seed: int) -> RoundResult:
        """Play ``episodes`` and check. A violation is in the result, not raised."""
        began = time.monotonic()
        result = self.result
        result.faults = dict(Counter(fault.group for episode in episodes for fault in episode))
        since = await asyncio.to_thread(self._checker.stores.ends)
        ended = {name: len(process.ends) for name, process in self._site.processes.items()}
        tally = WorkerCounters(self._site)
        self._checker.tidy = self._reconcile
        with Writer(self._folder / f"{result.tenant}.jsonl") as writer:
            clients = self._checker.clients(result.tenant, writer, seed * 100_003 + result.number)
            counting = asyncio.create_task(tally.run())
            try:
                await clients.prepare()
                await self._traffic(clients, writer, episodes, random.Random(f"{seed}:{result.number}"))
                checked = await self._checker.check(writer, since=since)
            finally:
                counting.cancel()
                await clients.aclose()
            journal = writer.journal
        result.redeliveries, result.retries = dict(tally.redeliveries), dict(tally.retries)
        result.settled = checked.settled
        result.violations += [str(violation) for violation in checked.violations]
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

    async def _traffic(self, clients: Clients, writer: Writer, episodes: list[Episode], dice: random.Random) -> None:
        stopping = asyncio.Event()
        traffic = asyncio.create_task(clients.run(CLIENTS, stopping))
        try:
            for episode in episodes:
                self._on_progress(episode_line(episode))
                await self._play(episode)
                await self._recover(clients, episode)
                if traffic.done():
                    break
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
                await asyncio.to_thread(_insist, undo)

        async with asyncio.TaskGroup() as group:
            for fault in episode:
                group.create_task(one(fault))

    async def _recover(self, clients: Clients, episode: Episode) -> None:
        """A document sent now: how long until it is at rest?"""
        canary, patience = clients.new("pdf"), Patience(RECOVERY_SECONDS)
        way = asyncio.create_task(self._to_archive(clients, canary))
        while not way.done() and not patience.is_over(await self._place(canary)):
            await asyncio.wait({way}, timeout=LOOK_SECONDS)
        seconds = round(patience.waited, 2) if way.done() and way.result() else None
        way.cancel()
        group = episode[0].group if len(episode) == 1 else "several at once"
        self.result.recoveries.append(Recovery(group, seconds))
        if seconds is None:
            text = f"a document sent after [{episode_line(episode)}] was not archived: {patience.told}"
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
        told = self._site.operator.reconcile()
        self.result.reconciled = {fault: count["found"] for fault, count in told["faults"].items()}

    def _ends(self, before: dict[str, int]) -> list[Violation]:
        """Processes that ended without being told to."""
        return [
            Violation("process", f"{name} ended by itself with {end.code}")
            for name, process in self._site.processes.items()
            for end in process.ends[before.get(name, 0) :]
            if not end.asked
        ]


def _insist(undo: Callable[[], None]) -> None:
    for _ in range(INSIST - 1):
        with suppress(AssertionError):
            return undo()
    return undo()

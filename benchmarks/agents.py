"""Events per second through our delivery beside a bare aiokafka loop, FastStream and Quix Streams, all at-least-once with
dedupe in PostgreSQL: with a processor that does nothing, and with the integrity processor."""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from functools import partial
from typing import Final
from uuid import uuid4

from benchmarks.agents_data import TRACED, BenchData, bench_data, finished, reset, verified
from benchmarks.agents_workload import Task
from benchmarks.measurement import CpuMeter, RoundValues, alternate, ratio_of
from benchmarks.report import BenchReport, Cell, Chart, Ratio
from benchmarks.site import BenchSite
from benchmarks.span_sink import span_sink

GOAL: Final = 0.90
BATCH: Final = 500
DOCUMENT_BYTES: Final = 20_000
#: Events of a round: full size and quick.
COUNTS: Final = {"noop": (20_000, 2_000), "integrity": (1_500, 150)}
ROUNDS: Final = {"noop": 5, "integrity": 5}
CONNECTIONS: Final = {"noop": 16, "integrity": 10}
CHILD_SECONDS: Final = 180.0
OURS: Final = "DPJ"
OURS_TRACED: Final = f"DPJ, {TRACED:.0%} of the traces recorded"
TRACED_GOAL: Final = 0.95
BARE: Final = "bare aiokafka"
#: Label -> contestant and way.
CONTESTANTS: Final = {
    OURS: ("ours", "event"),
    OURS_TRACED: ("ours", "event"),
    BARE: ("bare", "event"),
    "FastStream": ("faststream", "event"),
    "Quix Streams": ("quix", "event"),
    "bare, one transaction per batch": ("bare", "batch"),
    "FastStream, one transaction per batch": ("faststream", "batch"),
    "Quix Streams, one transaction per batch": ("quix", "batch"),
}
METHOD: Final = (
    """Every contestant is one process that reads the same topic of 6 partitions from its start in a group of its own, at
        most 500 records per poll, decodes with the same codec, does the same work and is timed from its first record until
        PostgreSQL holds the last one's effects and dedupe row. Contestants take turns; medians, and ratios of pairs of a
        round. All but Quix (which has no event loop) run on uvloop, and all with our
        workers' settings of Python's garbage collector, which gain each of them time.""",
    """Event by event: each event's dedupe row and effects are a transaction of their own, so that none fails for another;
        keys at once (16 connections for no-op, 10 for integrity), one key in order; offsets committed per batch, after the work.
        This is the bare loop of the goal. FastStream: a batch subscriber (its fastest that acknowledges after the work)
        around the same code. Quix: one message after the other, as its functions are; psycopg, a checkpoint per 500.""",
    """One transaction per batch: the bare loop, FastStream and a Quix BatchingSink write a whole batch, effects and dedupe rows,
        in one transaction. That is less work for less: what fails one event fails 500, and redelivers them.""",
    """DPJ is our delivery as in a worker: Faust, lanes, an inbox claim with owner and lease (a committed row before the
        work, which no other contestant has), the renewed lease, trace, metrics, then the transaction that requires the claim. It runs
        twice: without spans, and with those of one event in twenty, sent to a collector that throws them away.""",
    """No-op: 20,000 events without effects. Integrity: 1,500 documents of 20 KB, read from the object store, decrypted (key
        unwrapped by Vault), hashed; row, timeline, event and audit line written.""",
)


@dataclass(frozen=True, slots=True)
class ContestantRun:
    """One contestant's round: events per second, and microseconds of processor time per event."""

    rate: float
    own: float
    servers: float


class ContestantField:
    """The contestants of one kind of work."""

    def __init__(self, site: BenchSite, work: str, where: BenchData, spans_to: str) -> None:
        self._site = site
        self._spans_to = spans_to
        self._work = work
        self._place = where
        self.runs: dict[str, list[ContestantRun]] = {}

    async def run(self, label: str) -> float:
        """One round of the contestant; its events per second. Raises RuntimeError if an event is missing."""
        contestant, way = CONTESTANTS[label]
        task = Task(
            contestant=contestant,
            way=way,
            work=self._work,
            stack=self._site.name,
            dsn=self._place.dsn,
            topic=self._place.topic,
            group=f"bench-{contestant}-{uuid4().hex[:8]}",
            count=self._place.count,
            batch=BATCH,
            connections=CONNECTIONS[self._work],
            spans_to=self._spans_to if label == OURS_TRACED else "",
        )
        await reset(self._place.dsn)
        try:
            run = await asyncio.wait_for(self._measure(task), CHILD_SECONDS)
        except TimeoutError:
            raise RuntimeError(f"{label} did not finish in {CHILD_SECONDS:.0f} s") from None
        done = await finished(self._place.dsn, task.group)
        if done != task.count or (self._work == "integrity" and await verified(self._place.dsn) != task.count):
            raise RuntimeError(f"{label}: {done} of {task.count} events are done")
        self.runs.setdefault(label, []).append(run)
        return run.rate

    async def _measure(self, task: Task) -> ContestantRun:
        child = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.agents_child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=None,
        )
        if child.stdin is None or child.stdout is None:
            raise RuntimeError("the child has no pipes")
        try:
            child.stdin.write(json.dumps(asdict(task)).encode() + b"\n")
            await child.stdin.drain()
            servers = await asyncio.to_thread(self._servers)  # it runs an event loop of its own
            await self._line(child.stdout, "first")
            meter = CpuMeter(servers)
            ended = await self._line(child.stdout, "done")
            spent = sum(meter.seconds().values())
            await child.wait()
        finally:
            if child.returncode is None:
                child.kill()
                await child.wait()
        micro = 1e6 / task.count
        return ContestantRun(task.count / ended["seconds"], ended["cpu"] * micro, spent * micro)

    @staticmethod
    async def _line(stream: asyncio.StreamReader, at: str) -> dict[str, float]:
        """The child's word of that name; what libraries print beside it is passed over."""
        while line := await stream.readline():
            if line.startswith(b'{"at": "' + at.encode()):
                said: dict[str, float] = {key: value for key, value in json.loads(line).items() if key != "at"}
                return said
        raise RuntimeError(f"the child ended before it was {at}")

    def _servers(self) -> dict[str, int]:
        known = self._site.servers()
        wanted = ("postgres", "kafka", "minio", "vault") if self._work == "integrity" else ("postgres", "kafka")
        return {name: known[name] for name in wanted if name in known}


async def run(site: BenchSite, quick: bool) -> BenchReport:
    """Both kinds of work, all contestants."""
    rows: list[tuple[Cell, ...]] = []
    ratios: list[Ratio] = []
    rates: dict[str, dict[str, RoundValues]] = {}
    notes: list[str] = []
    for work, counts in COUNTS.items():
        data = bench_data(site.settings, site.name, work, counts[quick], DOCUMENT_BYTES)
        with span_sink() as spans_to:
            async with data as where:
                field = ContestantField(site, work, where, spans_to)
                contestants = {label: partial(field.run, label) for label in CONTESTANTS}
                if work == "integrity":  # a sink only writes what was processed, it processes nothing
                    del contestants["Quix Streams, one transaction per batch"]
                found = await alternate(contestants, 1 if quick else ROUNDS[work], warm_up=0)
        rates[work] = found
        rows += [_row(work, label, found[label], field.runs[label]) for label in found]
        ratios += _ratios(work, found)
        notes.append(_note(work, found))
    return BenchReport(
        name="agents",
        title="Events per second through delivery",
        method=METHOD,
        columns=("work", "contestant", "events/s", "spread", "own CPU, µs/event", "servers' CPU, µs/event"),
        rows=tuple(rows),
        ratios=tuple(ratios),
        notes=tuple(notes),
        chart=_chart(rates),
    )


def _row(work: str, label: str, rate: RoundValues, runs: Sequence[ContestantRun]) -> tuple[Cell, ...]:
    own = RoundValues(tuple(run.own for run in runs)).median
    servers = RoundValues(tuple(run.servers for run in runs)).median
    return work, label, rate.median, str(rate), own, servers


def _ratios(work: str, found: dict[str, RoundValues]) -> list[Ratio]:
    traced = ratio_of(found[OURS_TRACED], found[OURS]).median
    return [
        Ratio(name=f"{work}: {OURS_TRACED} to {OURS}", value=traced, goal=TRACED_GOAL),
        *(
            Ratio(
                name=f"{work}: DPJ to {label}",
                value=ratio_of(found[OURS], found[label]).median,
                goal=GOAL if label == BARE else 1.0,
            )
            for label in (BARE, "FastStream", "Quix Streams")
        ),
    ]


def _note(work: str, found: dict[str, RoundValues]) -> str:
    batched = [label for label in found if label.endswith("per batch")]
    texts = [f"{ratio_of(found[OURS], found[label]).median:.2f} of {label}" for label in batched]
    return f"{work}: beside those that do less, DPJ reaches {', '.join(texts)}."


def _chart(rates: dict[str, dict[str, RoundValues]]) -> Chart:
    works = tuple(rates)
    return Chart(
        title="Events per second of one process, event by event",
        unit="bare aiokafka loop = 1, more is better",
        categories=works,
        series={
            label: tuple(rates[work][label].median / rates[work][BARE].median for work in works)
            for label in (OURS, BARE, "FastStream", "Quix Streams")
        },
        goal=GOAL,
    )

"""Uploads with every guarantee on, beside raw signed PUTs of the same bytes to the same store by as many clients."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Mapping
from typing import Final

import httpx

from benchmarks.console import note
from benchmarks.latency import create_dossier
from benchmarks.load import Load, put_plan, run_load, upload_plan
from benchmarks.measurement import RoundValues, ratio_of
from benchmarks.report import BenchReport, Cell, Chart, Ratio, figure
from benchmarks.site import BenchSite
from benchmarks.upload_parts import part_milliseconds
from domain.documents import Role

SIZE: Final = 100_000
CLIENTS: Final = 50
GOAL: Final = 0.60
FLOOR: Final = 0.45
#: Beside the comparison: the file's size in bytes, and what the platform wants of average, P95 and P99, in milliseconds.
SIZES: Final = {"10 KB": 10_000, "100 KB": SIZE, "1 MB": 1_000_000, "10 MB": 10_000_000}
LATENCY_CLIENTS: Final = 8
TARGETS: Final = {"average": 200.0, "P95": 500.0, "P99": 1000.0}
DOSSIERS: Final = 50
PARTS: Final = ("client", "api", "postgres", "vault", "minio")
#: How far a process or server may be loaded in the paper plan.
UTILISATION: Final = 0.6
PLANS: Final = (1000, 2000)
METHOD: Final = (
    f"""{CLIENTS} clients, each with a keep-alive connection and one request under way, in one client process (raw HTTP over
    asyncio, bodies made beforehand); rounds alternate between uploads and PUTs. Relay and workers do not run.""",
    """An upload is everything its 201 promises: token checked, Idempotency-Key claimed, multipart parsed, type sniffed, SHA-256,
    envelope encryption, data key wrapped by Vault, object stored and proved, two PostgreSQL transactions with
    synchronous_commit on; 50 dossiers.""",
    """A raw PUT is what an S3 client must do and no more: an object name of its own of the form that the product's have, the
    SHA-256 of the body, a SigV4 signature, the PUT, its answer.""",
    """Processor time is that of each server with all its children, divided by what was answered.""",
)


async def run(site: BenchSite, quick: bool) -> BenchReport:
    """Compare uploads with raw PUTs at 100 KB, then time uploads of four sizes."""
    seconds, rounds = (3.0, 2) if quick else (8.0, 5)
    async with site.running("api") as ours:
        servers = await asyncio.to_thread(site.servers)
        processes = {"api": ours["api"], **{name: servers[name] for name in ("postgres", "vault", "minio")}}
        token = site.token(Role.PORTAL)
        headers = {"Authorization": f"Bearer {token}"}
        async with httpx.AsyncClient(base_url=f"{site.api}/api/v1", headers=headers, trust_env=False) as client:
            dossiers = [await create_dossier(client) for _ in range(DOSSIERS)]
        uploads: list[Load] = []
        puts: list[Load] = []
        for number in range(rounds + 1):
            pair = [
                await run_load(upload_plan(site, token, dossiers, SIZE, CLIENTS, seconds), processes),
                await run_load(put_plan(site, SIZE, CLIENTS, seconds), processes),
            ]
            note(f"uploads: {pair[0].rate:.0f}/s, raw PUTs: {pair[1].rate:.0f}/s")
            if number:  # the first round warms caches and plans up
                uploads.append(pair[0])
                puts.append(pair[1])
        by_size = {
            name: await run_load(upload_plan(site, token, dossiers, size, LATENCY_CLIENTS, seconds), processes)
            for name, size in SIZES.items()
        }
        parts = await part_milliseconds(site, 50 if quick else 300)
    return _report(uploads, puts, by_size, parts)


def _report(
    uploads: list[Load], puts: list[Load], by_size: Mapping[str, Load], parts: Mapping[str, float]
) -> BenchReport:
    ours, raw = RoundValues(tuple(load.rate for load in uploads)), RoundValues(tuple(load.rate for load in puts))
    ratio = ratio_of(ours, raw)
    budget = {name: _median([load.cpu[name] for load in uploads]) for name in PARTS}
    bare = {name: _median([load.cpu[name] for load in puts]) for name in PARTS}
    rows = [
        _row(f"upload 100 KB, {CLIENTS} clients", uploads),
        _row(f"raw PUT 100 KB, {CLIENTS} clients", puts),
        *(_row(f"upload {name}, {LATENCY_CLIENTS} clients", [load]) for name, load in by_size.items()),
    ]
    return BenchReport(
        name="uploads",
        title="Uploads of 100 KB, every guarantee on, beside raw PUTs",
        method=METHOD,
        columns=("what", "per second", "average ms", "P95 ms", "P99 ms", "errors %", "timeouts %"),
        rows=tuple(rows),
        ratios=(
            Ratio(name="uploads/s of raw PUTs/s", value=ratio.median, goal=GOAL, floor=FLOOR),
            *_targets(by_size),
        ),
        notes=(
            f"Ratio in {len(uploads)} pairs of rounds: {ratio}.",
            (
                f"Processor milliseconds per upload: {_listed(budget)}; together {figure(sum(budget.values()))}. "
                f"Per raw PUT: {_listed(bare)}; together {figure(sum(bare.values()))}."
            ),
            (
                f"Of the API's share, measured one by one: {_listed(parts)}. The rest is HTTP, the two transactions' client "
                "side, events, answer, log and metrics."
            ),
            *_errors(uploads, puts, by_size),
            *(_plan(rate, budget) for rate in PLANS),
        ),
        chart=Chart(
            title="Processor time per request, 100 KB",
            unit="ms",
            categories=("upload", "raw PUT"),
            series={name: (budget[name], bare[name]) for name in PARTS},
            stacked=True,
        ),
    )


def _row(name: str, loads: list[Load]) -> tuple[Cell, ...]:
    return (
        name,
        _median([load.rate for load in loads]),
        _median([load.average for load in loads]),
        _median([load.milliseconds(0.95) for load in loads]),
        _median([load.milliseconds(0.99) for load in loads]),
        max(load.percent(load.errors) for load in loads),
        max(load.percent(load.timeouts) for load in loads),
    )


def _targets(by_size: Mapping[str, Load]) -> list[Ratio]:
    found = []
    for name, load in by_size.items():
        values = (load.average, load.milliseconds(0.95), load.milliseconds(0.99))
        for (what, goal), value in zip(TARGETS.items(), values, strict=True):
            found.append(Ratio(name=f"{name}: {what}", value=value, goal=goal, at_most=True, unit="ms"))
    return found


def _errors(uploads: list[Load], puts: list[Load], by_size: Mapping[str, Load]) -> list[str]:
    said = sorted({text for load in (*uploads, *puts, *by_size.values()) for text in load.said})
    return [f"Errors, as they were answered: {'; '.join(said)}."] if said else []


def _plan(rate: int, budget: Mapping[str, float]) -> str:
    """How many of what ``rate`` uploads per second take, from the processor time of each part."""

    def cores(name: str) -> float:
        return rate * budget[name] / 1000 / UTILISATION

    # A core runs one API process. An upload's two events are a row each in the outbox and a record each in Kafka; its keys are
    # wrapped in batches, so Vault's share shrinks as the rate grows.
    everything = sum(cores(name) for name in PARTS if name != "client")
    largest = max((name for name in PARTS if name != "client"), key=cores)
    return (
        f"Paper plan for {rate} uploads/s of 100 KB at {UTILISATION:.0%} utilisation: {math.ceil(cores('api'))} API processes of one "
        f"core each, {math.ceil(cores('minio'))} cores of object store ({rate / 10:.0f} MB/s), {math.ceil(cores('postgres'))} "
        f"cores of PostgreSQL (at most {2 * rate} commits/s, fewer as uploads share them), {math.ceil(cores('vault'))} of Vault; "
        f"{math.ceil(everything)} in all. One relay leads and sends {2 * rate} events/s. With 6 partitions and 4 lanes each, "
        f"24 documents are worked on at once by a consumer group: {math.ceil(rate * 0.05)} lanes, so "
        f"{_partitions(rate)} partitions, where an event takes 50 ms. What limits first: {largest}; PostgreSQL is the one part that "
        "is not simply multiplied."
    )


def _partitions(rate: int) -> int:
    lanes = rate * 0.05
    return 6 * math.ceil(lanes / 4 / 6)


def _listed(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:.2f}" for name, value in values.items())


def _median(values: list[float]) -> float:
    return RoundValues(tuple(values)).median

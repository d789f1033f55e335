"""Two at once: two workers with one event, two decisions, an archiving and a re-drive, an upload and a reconciliation."""

from __future__ import annotations

import asyncio
import secrets
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.faults.checker import Checked, Checker, report
from tests.faults.faults import CONSUMERS
from tests.faults.journal import Deposit, Writer
from tests.faults.observation import DeadLetter
from tests.faults.processes import Process
from tests.faults.site import FaultSite
from tests.faults.traffic import Clients

CAUGHT_SECONDS = 180.0
PLACE_SECONDS = 180.0
TAKEN_OVER_SECONDS = 300.0
RECONCILE_PAUSE_SECONDS = 0.5
LATENCY_MS = 60

#: PostgreSQL ends a frozen worker's sessions by itself: in a transaction after 15 s, with a lock held after 20 s. Several frozen ones may
#: wait for each other's rows, one after the other. Here their sessions end after 5 s, as if a firewall had cut them: a worker
#: wakes up without what it believes to hold. What froze in the middle of an exchange is left to the relay.
END_FROZEN = """
    SELECT pg_terminate_backend(pid) FROM pg_stat_activity AS session
    WHERE usename = current_user AND state_change < now() - interval '5 seconds' AND (
        state = 'idle in transaction' OR state = 'idle' AND EXISTS (
            SELECT FROM pg_locks WHERE pg_locks.pid = session.pid AND locktype = 'advisory'))"""

Claims = dict[str, str]


@dataclass(frozen=True, slots=True)
class _Left:
    """What is still to be taken over, told at the end of the wait."""

    claims: set[tuple[str, str]]

    def __str__(self) -> str:
        return f"the second workers have done what the first held; left: {sorted(self.claims)}"


class Bench:
    """A tenant of the test's own: its clients, its journal, and the look at everything afterwards."""

    def __init__(self, site: FaultSite, writer: Writer) -> None:
        self.site = site
        self.checker = Checker(site.pipeline)
        self._writer = writer
        self._before: set[str] = set()
        self._since: dict[tuple[str, int], int] = {}
        self.clients: Clients

    async def open(self) -> None:
        await self.checker.prepare()
        self._since = await asyncio.to_thread(self.checker.stores.ends)
        self.tenant = f"pair-{secrets.token_hex(4)}"
        self.clients = self.checker.clients(self.tenant, self._writer, secrets.randbits(32), poison=0.0)
        await self.clients.prepare(1)
        self._before = {str(one) for one in (await self._look()).violations}

    async def validated(self, kind: str = "pdf") -> Deposit:
        deposit = self.clients.new(kind)
        await self.clients.deposit(deposit)
        await self.clients.decide(deposit, "validate")
        return deposit

    async def until(self, look: Callable[[], Awaitable[Any]], what: object, seconds: float = PLACE_SECONDS) -> Any:
        """What ``look`` gives once it is true."""
        ends = time.monotonic() + seconds
        while not (found := await look()):
            assert time.monotonic() < ends, f"not within {seconds:.0f} s: {what}"
            await asyncio.sleep(0.1)
        return found

    async def states(self, *deposits: Deposit) -> list[str]:
        query = "SELECT id::text, statut FROM documents WHERE id = ANY($1::uuid[])"
        found = dict(await self.checker.stores.query(query, [deposit.document_id for deposit in deposits]))
        return [found[str(deposit.document_id)] for deposit in deposits]

    async def claims(self, consumer: str) -> Claims:
        """Events that ``consumer`` has claimed and not finished: event id to owner."""
        query = "SELECT event_id::text, owner::text FROM inbox WHERE consumer = $1 AND state = 'CLAIMED'"
        return dict(await self.checker.stores.query(query, consumer))

    async def reconcile(self, grace: float | None = None) -> dict[str, Any]:
        return await asyncio.to_thread(self.site.operator.reconcile, grace)

    async def dead_letters(self, deposit: Deposit) -> list[DeadLetter]:
        letters = await asyncio.to_thread(self.checker.stores.dead_letters, self._since)
        return [letter for letter in letters if letter.document_id == str(deposit.document_id)]

    async def _look(self) -> Checked:
        return await self.checker.check(self._writer, since=self._since)

    async def all_holds(self) -> None:
        """Every promise, once all is at rest."""
        checked = await self._look()
        broken = {str(one) for one in checked.violations} - self._before
        assert not broken, report(checked, self._writer.journal)
        assert checked.settled is not None, checked.waiting
        assert checked.findings.documents > 0


@pytest.fixture
async def bench(site: FaultSite, tmp_path: Path) -> AsyncIterator[Bench]:
    await asyncio.to_thread(site.calm)
    with Writer(tmp_path / "pairs.jsonl") as writer:
        made = Bench(site, writer)
        await made.open()
        try:
            yield made
        finally:
            await made.clients.aclose()
            for process in list(site.processes.values()):
                process.signal(signal.SIGCONT)
            for process in [one for name, one in site.processes.items() if name.removeprefix("worker-")[-1].isdigit()]:
                if process.name.startswith("worker-"):
                    await asyncio.to_thread(site.remove, process)
            await asyncio.to_thread(site.calm)


# --- two workers with one event ---------------------------------------------------------------------------------------


async def stop_at_work(bench: Bench, consumer: str) -> Claims:
    """Stop the consumer's worker in its tracks while it holds claims; gives them."""
    process = bench.site.process(f"worker-{consumer}")
    ends = time.monotonic() + CAUGHT_SECONDS
    while time.monotonic() < ends:
        sending = asyncio.create_task(bench.validated())
        for _ in range(40):
            if await bench.claims(consumer):
                process.signal(signal.SIGSTOP)
                await asyncio.sleep(0.5)  # what was on its way to the database has arrived
                if held := await bench.claims(consumer):
                    await sending
                    return held
                process.signal(signal.SIGCONT)
            await asyncio.sleep(0.03)
        await sending
    raise AssertionError(f"{consumer} was never caught at work")


async def test_a_worker_that_goes_on_after_its_claim_was_taken_over_has_no_second_effect(bench: Bench) -> None:
    """Every consumer at once: each is stopped with a claim, another does its event, then it goes on where it was."""
    held: dict[str, Claims] = {}
    bench.site.proxy("postgres").latency(LATENCY_MS)
    # From the end of a document's way to its beginning, so that those still running feed those that are to be caught.
    for consumer in ("audit", "notification", "archiving", "renditions", "integrity"):
        held[consumer] = await stop_at_work(bench, consumer)
    bench.site.proxy("postgres").restore()
    assert sorted(held) == sorted(CONSUMERS)
    for consumer in CONSUMERS:
        bench.site.add_worker(consumer)
    left: set[tuple[str, str]] = set()

    async def taken_over() -> bool:
        await bench.checker.stores.query(END_FROZEN)
        query = "SELECT consumer, event_id::text, state, owner::text FROM inbox WHERE event_id = ANY($1::uuid[])"
        events = sorted({event for claims in held.values() for event in claims})
        rows = await bench.checker.stores.query(query, events)
        found = {(row[0], row[1]): (row[2], row[3]) for row in rows}
        left.clear()
        for consumer, claims in held.items():
            for event, owner in claims.items():
                state, now = found.get((consumer, event), ("nobody's", ""))
                if state != "DONE" or now == owner:
                    left.add((consumer, state))
        return not left

    await bench.until(taken_over, _Left(left), TAKEN_OVER_SECONDS)
    for consumer in CONSUMERS:
        bench.site.process(f"worker-{consumer}").signal(signal.SIGCONT)
    await bench.validated("png")
    await bench.all_holds()


# --- two decisions ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("state", ["STORED", "VERIFIED"])
async def test_of_validate_and_reject_one_wins(bench: Bench, state: str) -> None:
    deposits = [bench.clients.new("pdf") for _ in range(6)]
    if state == "STORED":
        integrity = bench.site.process("worker-integrity")
        integrity.signal(signal.SIGSTOP)
    for deposit in deposits:
        await bench.clients.deposit(deposit)
        assert state == "STORED" or await bench.clients.reaches(deposit, {"VERIFIED"})
    acts = ("validate", "reject") * 3
    await asyncio.gather(*(bench.clients.decide(deposit, act) for deposit in deposits for act in acts))
    for deposit in deposits:
        answered = Counter((answer.act, answer.status) for answer in deposit.answers if answer.act != "deposit")
        winners = {act for act, status in answered if status in {200, 202}}
        assert len(winners) == 1, answered
        (loser,) = {"validate", "reject"} - winners
        assert answered[loser, 409] == 3, answered
        assert {status for _, status in answered} <= {200, 202, 409}
    if state == "STORED":
        assert {status for deposit in deposits for status in (one.status for one in deposit.answers)} == {201, 202, 409}
        integrity.signal(signal.SIGCONT)
    await bench.all_holds()


# --- archiving and a re-drive -----------------------------------------------------------------------------------------


async def test_an_archiving_that_wakes_up_after_a_re_drive_leaves_one_copy(bench: Bench) -> None:
    """A worker is stopped while it archives; another gives the document up; it is re-driven and archived; the first goes on."""
    site = bench.site
    first = site.process("worker-archiving")
    site.proxy("ged").latency(1500)
    deposit = bench.clients.new("pdf", poison="unarchivable")
    await bench.clients.deposit(deposit)
    assert await bench.clients.reaches(deposit, {"VERIFIED"})
    await bench.until(lambda: quiet(bench), "the archiving worker is idle")
    await bench.clients.decide(deposit, "validate")
    await bench.until(lambda: bench.claims("archiving"), "it archives")
    first.signal(signal.SIGSTOP)
    assert await bench.claims("archiving")
    assert await bench.states(deposit) == ["VALIDATED"]
    site.proxy("ged").restore()
    site.http["ged"].fail(413, methods={"POST"})  # it takes no document of this size; it does answer
    site.add_worker("archiving")

    async def given_up() -> bool:
        await bench.checker.stores.query(END_FROZEN)
        return await are(bench, "ARCHIVE_FAILED", deposit)

    await bench.until(given_up, "it is given up")
    site.http_ok("ged")
    await redrive(bench, deposit, operators=3)
    await bench.until(lambda: are(bench, "ARCHIVED", deposit), "it is archived after all")
    first.signal(signal.SIGCONT)
    await bench.all_holds()


async def quiet(bench: Bench) -> bool:
    return not await bench.claims("archiving")


async def are(bench: Bench, state: str, *deposits: Deposit) -> bool:
    return set(await bench.states(*deposits)) == {state}


async def redrive(bench: Bench, deposit: Deposit, operators: int) -> None:
    """Some operators have the same idea at the same moment: the letter is redriven once."""
    words = ("dlq", "redrive", "--consumer", "archiving", "--document", str(deposit.document_id), "--apply", "--json")
    await bench.until(lambda: bench.dead_letters(deposit), "its dead letter is there")

    def one(_: int) -> str:
        try:
            return bench.site.dpj(*words)
        except AssertionError as error:  # the others find nothing left to redrive, or are refused
            return str(error)

    with ThreadPoolExecutor(operators) as pool:
        told = await asyncio.gather(
            *(asyncio.get_running_loop().run_in_executor(pool, one, number) for number in range(operators))
        )
    assert sum('"outcome": "done"' in text or '"outcome":"done"' in text for text in told) == 1, told


# --- an upload and a reconciliation -----------------------------------------------------------------------------------


async def test_a_slow_upload_is_not_reconciled_away(bench: Bench) -> None:
    """It takes many times its lease, and reconciling runs all the while with the shortest grace it may have."""
    grace = float(bench.site.setting("DPJ_UPLOAD_LEASE")) + 0.1
    deposit = bench.clients.new("png")
    sending = asyncio.create_task(bench.clients.send_slowly(deposit, 30.0))
    runs = 0
    while not sending.done():
        told = await bench.reconcile(grace)
        assert told["faults"] == {}
        runs += 1
        await asyncio.sleep(RECONCILE_PAUSE_SECONDS)
    status, _ = await sending
    assert (status, runs >= 2) == (201, True)
    await bench.all_holds()


async def test_an_upload_that_lost_its_lease_is_abandoned_and_stays_so(bench: Bench) -> None:
    """The API stands still in the middle of an upload until it was reconciled away; going on it must not complete it."""
    api: Process = bench.site.process("api")
    deposit = bench.clients.new("png")
    sending = asyncio.create_task(bench.clients.send_slowly(deposit, 6.0))
    await asyncio.sleep(3.0)
    api.signal(signal.SIGSTOP)
    await asyncio.sleep(float(bench.site.setting("DPJ_UPLOAD_LEASE")) + 2.5)
    told = await bench.reconcile(float(bench.site.setting("DPJ_UPLOAD_LEASE")) + 0.1)
    api.signal(signal.SIGCONT)
    status, body = await sending
    assert status != 201, body
    rows = await bench.checker.stores.query("SELECT statut FROM documents WHERE tenant = $1", bench.tenant)
    assert [row[0] for row in rows] == ["ABANDONED"], told
    await bench.clients.deposit(deposit)
    assert deposit.accepted, "the same key makes a new document"
    await asyncio.sleep(float(bench.site.setting("DPJ_RECONCILE_GRACE")))
    await bench.reconcile()
    await bench.all_holds()

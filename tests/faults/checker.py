"""Waits until everything is at rest, reads it from outside, and holds it against the promises."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.faults.documents import TEXT_TYPE
from tests.faults.invariants import GONE, READABLE, Findings, Violation, check
from tests.faults.journal import Journal, Writer
from tests.faults.observation import Observation
from tests.faults.patience import Patience
from tests.faults.stores import Stores
from tests.faults.traffic import Clients
from tests.support.pipeline import Pipeline

SETTLE_SECONDS = 90.0
LOOK_SECONDS = 0.5
CALM_LOOKS = 2
READERS = 8
TOKEN_SECONDS = 7 * 86400


@dataclass(frozen=True, slots=True)
class Checked:
    """``settled`` is how long it took to come to rest, None if it did not; ``waiting`` is what was left then."""

    findings: Findings
    settled: float | None
    waiting: Mapping[str, int]
    seen: Observation

    @property
    def violations(self) -> list[Violation]:
        return self.findings.violations


class Checker:
    """``pipeline`` reaches the servers directly, past any fault."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self.stores = Stores(pipeline.settings)
        self._tokens: dict[str, dict[str, str]] = {}
        #: What an operator does between rest and look, such as reconciling; runs in a thread.
        self.tidy: Callable[[], None] = lambda: None

    async def prepare(self) -> None:
        """What the harness needs of a site: a document type of its own, as sites add them."""
        await self.stores.query(
            """
            INSERT INTO types_documents (code_type, libelle, formats_autorises, taille_max_mb)
            VALUES ($1, 'Note', '{text/plain}', 5) ON CONFLICT (code_type) DO NOTHING""",
            TEXT_TYPE,
        )

    def clients(self, tenant: str, writer: Writer, seed: int, *, poison: float = 0.01) -> Clients:
        """Clients of ``tenant``, which has a key then, whose doings follow from ``seed``; close them."""
        self.pipeline.give_key(tenant)
        dice = random.Random(seed)
        return Clients(self.pipeline.url, tenant, self._tokens_of(tenant), writer, dice, poison=poison)

    def _tokens_of(self, tenant: str) -> dict[str, str]:
        if tenant not in self._tokens:
            roles = ("portal", "validator")
            self._tokens[tenant] = {role: self.pipeline.token(role, tenant, TOKEN_SECONDS) for role in roles}
        return self._tokens[tenant]

    async def settle(self, seconds: float = SETTLE_SECONDS) -> tuple[float | None, dict[str, int]]:
        """Wait until nothing is under way, twice in a row: (seconds it took, {}), or (None, what is left).

        It never will be if nothing changes for ``seconds``.
        """
        patience = Patience(seconds)
        calm = 0
        while True:
            waiting = await self.stores.under_way()
            calm = 0 if waiting else calm + 1
            if calm == CALM_LOOKS:
                return patience.waited, {}
            if patience.is_over(waiting):
                return None, waiting
            await asyncio.sleep(LOOK_SECONDS)

    async def check(
        self,
        writer: Writer,
        *,
        since: Mapping[tuple[str, int], int] | None = None,
        seconds: float = SETTLE_SECONDS,
    ) -> Checked:
        """Settle, ask the API what clients may ask, settle again, read everything, judge.

        ``since``: Kafka's ends before the first deposit of the journal, if they are known.
        """
        settled, waiting = await self.settle(seconds)
        await asyncio.to_thread(self.tidy)
        asked = await self._ask(writer)
        if settled is not None:
            again, waiting = await self.settle(seconds)
            settled = None if again is None else settled
        seen = await self.stores.observe(writer.journal.tenants, since)
        seen.downloads, seen.replays = asked
        return Checked(check(seen, writer.journal), settled, waiting, seen)

    async def _ask(self, writer: Writer) -> tuple[dict[str, str], dict[str, str]]:
        """Every document's content; and, where a deposit without a 2xx left one, what its key gives."""
        journal = writer.journal
        names = {deposit.name: deposit for deposit in journal.deposits.values()}
        query = "SELECT id::text, tenant, statut FROM documents WHERE tenant = ANY($1::text[])"
        downloads: dict[str, str] = {}
        replays: dict[str, str] = {}
        gate = asyncio.Semaphore(READERS)
        clients = {tenant: self.clients(tenant, writer, 0) for tenant in sorted(journal.tenants)}

        async def ask(key: str, tenant: str, name: str, status: str) -> None:
            async with gate:
                if status in READABLE:
                    downloads[key] = await clients[tenant].download(key)
                deposit = names.get(name)
                if deposit is not None and not deposit.accepted and status not in GONE | {"PENDING"}:
                    answered, body = await clients[tenant].repeat(deposit)
                    replays[deposit.mark] = str(body.get("id") or f"HTTP {answered} {body.get('code', '')}")

        try:
            rows = await self.stores.query(query, sorted(journal.tenants))
            known = await self.stores.names(sorted(journal.tenants))
            await asyncio.gather(*(ask(key, tenant, known.get(key, ""), status) for key, tenant, status in rows))
        finally:
            for client in clients.values():
                await client.aclose()
        return downloads, replays


def report(checked: Checked, journal: Journal) -> str:
    """A few lines for a test's failure."""
    found = checked.findings
    head = (
        f"{len(journal.deposits)} deposits, {found.documents} documents {dict(found.states)}, waiting {checked.waiting}"
    )
    return "\n".join([head, *(str(violation) for violation in found.violations)])


def new_writer(folder: Path, name: str) -> Writer:
    """A journal in ``folder``."""
    return Writer(folder / f"{name}.jsonl")

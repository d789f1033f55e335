"""A process dies at each crash point; afterwards every promise holds.

Points of different processes are tried in one round, so that deaths overlap; a point that is asked for alone
(``-k``, or DPJ_CRASH_ALONE=1 for all) has a round of its own. Rounds know nothing of each other and may run on different sites.
"""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest
from confluent_kafka import Message, Producer

from tests.faults.checker import Checker, new_writer, report
from tests.faults.crashes import COMMANDS, CRASHES, LEAVING, PASSIVE, Crash, died_at, group_of, rounds_among
from tests.faults.documents import make
from tests.faults.patience import Patience
from tests.faults.processes import CRASHED
from tests.faults.site import FaultSite
from tests.faults.traffic import Clients
from tests.support.pipeline import metadata, small_pdf

KINDS = ("pdf", "png", "text", "portrait")
DEATH_SECONDS = 150.0
#: Poison that a batch of letters is made of.
LETTERS = 3
#: The topic that the fewest consumers read: each of them buries the record that is no event.
POISONED = "dpj.document.archived"


DESTROYED = (
    "SELECT 1 FROM cles_sujets WHERE sujet = $1::text::uuid AND detruite_a IS NOT NULL AND cle_enveloppee IS NULL"
)


@dataclass
class Round:
    """What came of the crashes of one round.

    ``alive``: points at which nothing died. ``broken``: promises that held before and no longer do. ``settled``: seconds until all
    was at rest; None if it never was.
    """

    alive: list[str] = field(default_factory=list)
    unexpected: list[str] = field(default_factory=list)
    broken: list[str] = field(default_factory=list)
    settled: float | None = None
    text: str = ""
    seconds: dict[str, float] = field(default_factory=dict)


class Rounds:
    """Runs each round once, when the first of its points is asked for."""

    def __init__(self, site: FaultSite, folder: Path, points: list[str]) -> None:
        self._site = site
        self._rounds = rounds_among(points)
        self._done: dict[int, Round] = {}
        self._runner = asyncio.Runner()
        self._checker = Checker(site.pipeline)
        self._writer = new_writer(folder, "crash-points")
        self._tenant = f"crash-{uuid4().hex[:8]}"
        self._clients: Clients | None = None
        self._broken: set[str] = set()
        self._erased: list[dict[str, Any]] = []
        self._batches: list[dict[str, Any]] = []

    def close(self) -> None:
        if self._clients is not None:
            self._runner.run(self._clients.aclose())
        self._runner.close()
        self._writer.__exit__(None, None, None)

    def of(self, point: str) -> Round:
        number = group_of(point)
        if number not in self._done:
            self._done[number] = self._run(self._rounds[number])
        return self._done[number]

    # --- one round -----------------------------------------------------------------------------------------------

    def _run(self, crashes: Sequence[Crash]) -> Round:
        found, began = Round(), time.monotonic()
        site = self._site
        site.calm()
        if self._clients is None:
            self._clients = self._runner.run(self._new_clients())
        before = {crash.process: len(site.process(crash.process).ends) for crash in crashes}
        unexpected = len(site.unexpected_ends())
        self._arm(crashes)
        found.seconds["armed"] = time.monotonic() - began
        self._runner.run(self._traffic(self._clients, crashes))
        found.seconds["traffic"] = time.monotonic() - began
        found.alive = self._wait_for_deaths(crashes, before)
        found.seconds["deaths"] = time.monotonic() - began
        site.calm()
        found.seconds["calm"] = time.monotonic() - began
        if any(crash.leaves for crash in crashes):
            time.sleep(float(site.setting("DPJ_RECONCILE_GRACE")))
            site.operator.reconcile()
        checked = self._runner.run(self._checker.check(self._writer))
        found.seconds["checked"] = time.monotonic() - began
        found.settled = checked.settled
        found.text = report(checked, self._writer.journal)
        violations = [*map(str, checked.violations), *self._left_of_the_erased(), *self._left_of_the_batches()]
        found.broken = [told for told in violations if told not in self._broken]
        self._broken.update(found.broken)
        found.unexpected = [f"{end.name} ended with {end.code}" for end in site.unexpected_ends()[unexpected:]]
        return found

    async def _new_clients(self) -> Clients:
        await self._checker.prepare()
        clients = self._checker.clients(self._tenant, self._writer, 1)
        await clients.prepare(1)
        # What other tests left there, or earlier runs, is not ours to answer for.
        self._broken.update(map(str, (await self._checker.check(self._writer)).violations))
        return clients

    def _arm(self, crashes: Sequence[Crash]) -> None:
        """Start the round's processes anew, armed. They leave in good order first, so that their groups don't wait for them."""
        site = self._site
        processes = [site.process(crash.process) for crash in crashes]
        if any(crash.process == "relay" for crash in crashes):
            processes.append(site.process(PASSIVE))  # the armed relay is to lead
        with ThreadPoolExecutor(len(processes)) as pool:
            list(pool.map(lambda process: process.stop(), processes))
        for crash in crashes:
            if crash.needs != "leftover":
                site.process(crash.process).start(DPJ_CRASH_POINT=crash.setting)
        if "relay" in {crash.process for crash in crashes if crash.point.startswith("relay.")}:
            self._wait(lambda: site.process("relay").is_ready, "the armed relay leads")
            site.process(PASSIVE).start()
        if "api" in {crash.process for crash in crashes}:
            self._wait(lambda: site.process("api").is_ready, "the armed API is ready")

    async def _traffic(self, clients: Clients, crashes: Sequence[Crash]) -> None:
        needs = {crash.needs: crash for crash in crashes if crash.needs}
        if "leftover" in needs:
            await self._leftover(clients, needs["leftover"], {crash.point for crash in crashes})
        jobs = [self._deposited(clients, kind) for kind in KINDS]
        if "refusal" in needs:
            jobs.append(self._refused(clients))
        if "poison" in needs:
            self._poison()
        if "batch" in needs:
            for _ in range(LETTERS):
                self._poison()
            jobs.append(asyncio.to_thread(self._discard_letters))
        if "erasure" in needs:
            jobs.append(asyncio.to_thread(self._erase_one))
        await asyncio.gather(*jobs)

    @staticmethod
    async def _deposited(clients: Clients, kind: str) -> None:
        deposit = clients.new(kind)
        await clients.deposit(deposit)
        if deposit.accepted:
            await clients.decide(deposit, "validate")

    async def _refused(self, clients: Clients) -> None:
        """An upload that is stored before it turns out to be another than announced; sent again until it is refused."""
        deposit = clients.new("pdf")
        deposit.poison = "refused"
        said = {
            "type": deposit.type_code,
            "dossier_id": deposit.dossier,
            "depositor": {"email": deposit.email, "language": deposit.language},
            "sha256": hashlib.sha256(b"another").hexdigest(),
        }
        files: list[tuple[str, Any]] = [
            ("metadata", (None, json.dumps(said).encode(), "application/json")),
            ("file", (deposit.name, make(deposit.kind, deposit.mark), deposit.media_type)),
        ]
        headers = {**clients._headers["portal"], "Idempotency-Key": deposit.key}
        ends = time.monotonic() + DEATH_SECONDS
        status: int | None = None
        while status not in {400, 422} and time.monotonic() < ends:
            status, body = await clients._answer("POST", "/documents", files=files, headers=headers)
            self._writer.answer(deposit.mark, "deposit", status, code=body.get("code", ""))
            await asyncio.sleep(0.3)
        assert status in {400, 422}

    async def _leftover(self, clients: Clients, crash: Crash, points: set[str]) -> None:
        """Have the API die in the middle of an upload, let the lease run out, and only then start the armed process."""
        api = self._site.process("api")
        if LEAVING not in points:
            await asyncio.to_thread(api.stop)
            api.start(DPJ_CRASH_POINT=LEAVING)
            await asyncio.to_thread(self._wait, lambda: api.is_ready, "the API is armed")
        await clients.deposit(clients.new("pdf"), patient=False)
        await asyncio.sleep(float(self._site.setting("DPJ_UPLOAD_LEASE")) + 0.5)
        self._site.process(crash.process).start(DPJ_CRASH_POINT=crash.setting)

    def _discard_letters(self) -> None:
        """Have a batch take letters off the list, so many that a batch that was cut off has some left."""
        pipeline, before = self._site.pipeline, len(self._batches)
        group = {"act": "discard", "consumer": "notification"}

        def confirmed() -> bool:
            client = pipeline.client("operator", self._tenant)
            plan = client.post("/operations/plans", json=group).raise_for_status().json()
            # A letter that is still on its way to Kafka is refused.
            outcomes = {one["outcome"] for one in plan["forecast"]}
            if outcomes != {"done"} or sum(one["count"] for one in plan["forecast"]) < LETTERS:
                return False
            body = {**group, "plan_hash": plan["hash"], "reason": "CRASH", "stop_after": 1000}
            answer = client.post("/operations/batches", json=body)
            if answer.status_code == httpx.codes.CREATED:
                self._batches.append(answer.json())
            return len(self._batches) > before

        _patiently(confirmed)

    def _left_of_the_batches(self) -> list[str]:
        """What is wrong with batches: each has to be done, and each of its letters to have its mark once."""
        pipeline, left = self._site.pipeline, []
        for batch in self._batches:
            found = pipeline.client("operator", self._tenant).get(f"/operations/batches/{batch['id']}").json()
            if found["state"] != "DONE" or set(found["counts"]) != {"done"}:
                left.append(f"batch: {batch['id']} is {found['state']} with {found['counts']}")
        unmarked = pipeline.sql(
            """
            SELECT l.objet FROM lots_lignes l WHERE l.resultat = 'done' AND NOT EXISTS (
                SELECT FROM lettres_mortes m WHERE m.numero = l.objet::bigint AND m.reglement = 'DISCARDED')"""
        )
        return left + [f"batch: letter {row['objet']} is done and not discarded" for row in unmarked]

    def _erase_one(self) -> None:
        """Archive and erase a document of a tenant that the checker does not know: what were left of it would be nobody's."""
        pipeline, tenant, mark = self._site.pipeline, f"{self._tenant}-erased", uuid4().hex
        said = metadata(_patiently(lambda: pipeline.dossier(tenant)))
        document = _patiently(lambda: pipeline.upload(small_pdf(mark), said, key=mark, tenant=tenant))
        path = f"/documents/{document['id']}"

        def archived() -> Any:
            client = pipeline.client("validator", tenant)
            client.post(f"{path}/validate", json={})
            found = client.get(path).raise_for_status().json()
            return found if found["status"] == "ARCHIVED" else None

        def erased() -> bool:
            body = {"reason": "CRASH", "legal_basis": "GDPR_17_1_B"}
            return pipeline.client("operator", tenant).post(f"{path}/erase", json=body).status_code in {200, 202}

        self._erased.append(_patiently(archived))
        _patiently(erased)

    def _left_of_the_erased(self) -> list[str]:
        """What is wrong with documents that were erased: each has to be ERASED with a receipt, and nowhere else."""
        pipeline, left = self._site.pipeline, []
        for document in self._erased:
            client, path = pipeline.client("operator"), f"/documents/{document['id']}"
            if client.get(path).json()["status"] != "ERASED":
                left.append(f"erasure: {document['id']} is not ERASED")
            elif client.get(f"{path}/erasure-receipt").status_code != httpx.codes.OK:
                left.append(f"erasure: {document['id']} has no receipt")
            elif pipeline.ged_copies(document) or any(document["id"] in key for key in pipeline.objects()):
                left.append(f"erasure: something is left of {document['id']}")
            elif not pipeline.sql(DESTROYED, document["id"]):
                left.append(f"erasure: the key of the audit lines about {document['id']} is not destroyed")
        return left

    def _poison(self) -> None:
        """Put a record that is no event into a topic, on record."""
        producer = Producer({"bootstrap.servers": self._site.settings["DPJ_KAFKA_BOOTSTRAP"]})

        def sent(error: object, message: Message) -> None:
            partition, offset = message.partition(), message.offset()
            assert error is None
            assert partition is not None
            assert offset is not None
            self._writer.poison_record(POISONED, partition, offset)

        producer.produce(POISONED, key=b"poison", value=b"no event", on_delivery=sent)
        assert producer.flush(60) == 0

    def _wait_for_deaths(self, crashes: Sequence[Crash], before: Mapping[str, int]) -> list[str]:
        """Points at which nothing died, though it was waited as long as one more death came in time."""
        left = list(crashes)
        patience = Patience(DEATH_SECONDS)
        while left and not patience.is_over(len(left)):
            left = [
                crash
                for crash in left
                if not died_at(self._site.process(crash.process), crash.point, before[crash.process])
            ]
            time.sleep(0.1)
        return [crash.point for crash in left]

    @staticmethod
    def _wait(look: Callable[[], bool], what: str) -> None:
        ends = time.monotonic() + DEATH_SECONDS
        while not look():
            assert time.monotonic() < ends, what
            time.sleep(0.1)


def _patiently(look: Callable[[], Any]) -> Any:
    """What ``look`` gives once it is true; it may fail meanwhile, as whoever it asks dies and comes back."""
    ends = time.monotonic() + DEATH_SECONDS
    while True:
        try:
            if found := look():
                return found
        except (httpx.HTTPError, AssertionError):
            if time.monotonic() > ends:
                raise
        assert time.monotonic() < ends
        time.sleep(0.3)


@pytest.fixture(scope="session")
def rounds(
    site: FaultSite, request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Rounds]:
    asked = [
        str(item.callspec.params["point"])
        for item in request.session.items
        if isinstance(item, pytest.Function) and "rounds" in item.fixturenames
    ]
    made = Rounds(site, tmp_path_factory.mktemp("journal"), asked)
    try:
        yield made
    finally:
        made.close()


@pytest.mark.parametrize("point", [crash.point for crash in CRASHES])
def test_whatever_dies_at(point: str, site: FaultSite, rounds: Rounds) -> None:
    found = rounds.of(point)
    print({name: round(seconds, 1) for name, seconds in found.seconds.items()})
    assert point not in found.alive, "nothing died there"
    assert found.unexpected == []
    assert found.settled is not None, found.text
    assert found.broken == [], found.text


@pytest.mark.parametrize("point", COMMANDS)
def test_a_command_dies_at(point: str, site: FaultSite) -> None:
    """It has something to do, dies in the middle of it, and does it when it is called again."""
    site.calm()
    document, minio = uuid4(), site.pipeline.minio()
    key = f"documents/{document.hex[:2]}/{document}/{secrets.token_hex(16)}"
    minio.put_object(site.settings["DPJ_MINIO_BUCKET"], key, io.BytesIO(b"left"), 4)
    time.sleep(float(site.setting("DPJ_RECONCILE_GRACE")) + 1)
    site.dpj(*COMMANDS[point], status=CRASHED, DPJ_CRASH_POINT=point)
    assert (key in site.pipeline.objects()) is (point == "reconcile.noted")
    site.dpj(*COMMANDS[point])
    assert key not in site.pipeline.objects()

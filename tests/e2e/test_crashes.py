"""Processes end, in good order or killed, in the middle of work: every document arrives all the same, and once."""

from __future__ import annotations

import hashlib
import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from typing import Any

import httpx

from domain.consumers import CONSUMERS
from tests.support.pipeline import Pipeline, metadata, small_pdf, wait_for

DOCUMENTS = 20
VICTIMS = ("worker-archiving", "relay")


def test_documents_arrive_although_relay_and_archiving_end_and_are_killed(pipeline: Pipeline) -> None:
    dossier = pipeline.dossier()
    contents = [small_pdf(f"crash {number} {dossier}") for number in range(DOCUMENTS)]

    def send(content: bytes) -> str:
        taken = pipeline.upload(content, metadata(dossier))
        assert pipeline.decide(taken["id"], "validate").status_code in {200, 202}
        return str(taken["id"])

    def archived() -> int:
        page = pipeline.client("portal").get("/documents", params={"dossier": dossier, "limit": 100}).json()
        return sum(document["status"] == "ARCHIVED" for document in page["items"])

    def at_work() -> bool:
        query = """
            SELECT 1 FROM inbox JOIN documents ON documents.id::text = document_key
            WHERE consumer = 'archiving' AND state = 'CLAIMED' AND statut = 'VALIDATED'"""
        return bool(pipeline.sql(query))

    def caught_at_work(pid: int) -> bool:
        """Whether the worker, stopped in its tracks, has a document half archived; it stays stopped only then.

        One more document each time, so that there is always work. The second look: no commit was on its way.
        """
        contents.append(small_pdf(f"more {len(contents)} {dossier}"))
        more.append(send(contents[-1]))
        os.kill(pid, signal.SIGSTOP)
        if at_work() and at_work():
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    more: list[str] = []
    with ThreadPoolExecutor(4) as pool:
        pids = pipeline.pids()
        ids = list(pool.map(send, contents[:5]))
        wait_for(archived, "the first is archived", 60)
        pipeline.end(signal.SIGTERM, *VICTIMS, pids=pids)
        ids += list(pool.map(send, contents[5:8]))  # nobody carries these on yet
        assert 1 <= archived() <= 5
        pipeline.up()
        pids = pipeline.pids()
        second = pool.map(send, contents[8:DOCUMENTS])
        wait_for(lambda: caught_at_work(pids["worker-archiving"]), "archiving is at work", 30)
        pipeline.end(signal.SIGKILL, *VICTIMS, pids=pids)
        ids += [*second, *more]
    assert at_work(), "the claim of the one who was killed is still there"
    assert len(ids) == len(contents) <= 100
    pipeline.up()
    wait_for(lambda: archived() == len(ids), "all are archived", 120)
    for document_id, content in zip(ids, contents, strict=True):
        document = pipeline.get(document_id).json()
        digest = hashlib.sha256(content).hexdigest()
        assert pipeline.ged_copies(document) == [(document["archive"]["ged_id"], digest)]
    pipeline.settle()
    expected = Counter([("receipt", "fr"), ("validated", "fr"), ("archived", "fr")])
    for document_id in ids:
        # After a kill a mail may come twice, but then as the same message.
        assert (
            Counter(kind for kind, _ in {(one.kind, one.message_id) for one in pipeline.mails(document_id)}) == expected
        )
        told = pipeline.timeline(document_id)
        states = [entry for entry in told if entry in {"STORED", "VERIFIED", "VALIDATED", "ARCHIVED"}]
        assert states == ["STORED", "VERIFIED", "VALIDATED", "ARCHIVED"]


def test_a_paused_worker_that_is_killed_starts_paused(pipeline: Pipeline) -> None:
    operator = pipeline.client("operator")
    pause = {"consumer": "renditions", "minutes": 30, "reason": "INC-1"}
    assert operator.post("/operations/pauses", json=pause).status_code == 201

    def said() -> dict[str, Any]:
        """What the worker says of itself. The relay's port is the first."""
        port = int(pipeline.settings["DPJ_WORKER_PORT_BASE"]) + 1 + CONSUMERS.index("renditions")
        with suppress(httpx.HTTPError):
            body: dict[str, Any] = httpx.get(f"http://127.0.0.1:{port}/readyz", trust_env=False).json()
            return body
        return {"waiting_for": {}, "owned": {}}

    def pauses() -> bool:
        return "pause" in said()["waiting_for"]

    def owns() -> bool:
        return "dpj.document.verified/0" in said()["owned"].get("renditions", ())

    def begun() -> bool:
        query = "SELECT 1 FROM inbox WHERE consumer = 'renditions' AND document_key = $1"
        return bool(pipeline.sql(query, str(document)))

    wait_for(pauses, "the worker is paused", 30)
    document = pipeline.upload(small_pdf("paused"), metadata(pipeline.dossier()))["id"]
    pipeline.reaches(document, "VERIFIED")
    pipeline.end(signal.SIGKILL, "worker-renditions")
    pipeline.up()
    wait_for(pauses, "the new one is paused from its start", 60)
    wait_for(owns, "it has its partitions", 60)
    assert not begun()
    assert operator.post("/operations/pauses/renditions/resume", json={"reason": "INC-1"}).status_code == 200
    wait_for(begun, "it goes on", 30)

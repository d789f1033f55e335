"""Processes end, in good order or killed, in the middle of work: every document arrives all the same, and once."""

from __future__ import annotations

import hashlib
import os
import signal
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

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
        page = pipeline.client("portal").get("/documents", params={"dossier_id": dossier, "limit": 100}).json()
        return sum(document["status"] == "ARCHIVED" for document in page["items"])

    def caught_at_work(pid: int) -> bool:
        """Whether the archiving worker, stopped in its tracks, has an event half done; it stays stopped only then."""
        os.kill(pid, signal.SIGSTOP)
        if pipeline.sql("SELECT 1 FROM inbox WHERE consumer = 'archiving' AND state = 'CLAIMED'"):
            return True
        os.kill(pid, signal.SIGCONT)
        return False

    with ThreadPoolExecutor(4) as pool:
        pids = pipeline.pids()
        ids = list(pool.map(send, contents[:5]))
        wait_for(archived, "the first is archived", 60)
        pipeline.end(signal.SIGTERM, *VICTIMS, pids=pids)
        ids += list(pool.map(send, contents[5:8]))  # nobody carries these on yet
        assert 1 <= archived() <= 5
        pipeline.up()
        pids = pipeline.pids()
        second = pool.map(send, contents[8:])
        wait_for(lambda: caught_at_work(pids["worker-archiving"]), "archiving is at work", 30)
        pipeline.end(signal.SIGKILL, *VICTIMS, pids=pids)
        ids += list(second)
    assert archived() < DOCUMENTS
    pipeline.up()
    wait_for(lambda: archived() == DOCUMENTS, "all are archived", 120)
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

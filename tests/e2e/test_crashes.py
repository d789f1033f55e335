"""Processes end, in good order or killed, in the middle of work: every document arrives all the same, and once."""

from __future__ import annotations

import hashlib
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

    with ThreadPoolExecutor(4) as pool:
        first = pool.map(send, contents[: DOCUMENTS // 2])
        wait_for(archived, "the first is archived", 60)
        pipeline.end(signal.SIGTERM, *VICTIMS)
        ids = list(first)
        pipeline.up()
        before = archived()
        second = pool.map(send, contents[DOCUMENTS // 2 :])
        wait_for(lambda: archived() > before, "work goes on", 60)
        pipeline.end(signal.SIGKILL, *VICTIMS)
        ids += list(second)
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

"""An export of what the real pipeline took in: nothing in it says whose documents they were."""

from __future__ import annotations

import json
from pathlib import Path
from uuid import uuid4

from tests.support.pipeline import TENANT, Pipeline, metadata, small_pdf


def test_names_addresses_and_ids_stay_in_production(pipeline: Pipeline, tmp_path: Path) -> None:
    mark = uuid4().hex[:10]
    address, name = f"nom-{mark}@client.example", f"passeport-{mark}.pdf"
    dossier = pipeline.dossier()
    said = metadata(dossier, email=address, tags=[f"tag-{mark}"], metadata={"numero": f"n-{mark}"})
    content = small_pdf(mark)
    taken = pipeline.upload(content, said, name=name)
    pipeline.reaches(taken["id"], "VERIFIED")
    pipeline.decide(taken["id"], "validate", comment=f"vu avec {mark}")
    archived = pipeline.reaches(taken["id"], "ARCHIVED")
    pipeline.settle()
    told = pipeline.json(
        "export", "anonymised", "--tenant", TENANT, "--to", str(tmp_path / "out"), "--reason", "TEST-1"
    )
    found = {path.name: path.read_text() for path in (tmp_path / "out").iterdir()}
    documents = [json.loads(line) for line in found["documents.jsonl"].splitlines()]
    timeline = [json.loads(line) for line in found["timeline.jsonl"].splitlines()]
    audit = [json.loads(line) for line in found["audit.jsonl"].splitlines()]
    assert told["lines"] == {
        "documents.jsonl": len(documents),
        "timeline.jsonl": len(timeline),
        "audit.jsonl": len(audit),
    }
    ours = next(line for line in documents if (line["size"], line["status"]) == (len(content), "ARCHIVED"))
    assert (ours["type"], ours["media_type"]) == ("JUSTIFICATIF_DOMICILE", "application/pdf")
    kinds = [line["type"] for line in timeline if line["document"] == ours["document"]]
    assert {"STORED", "VERIFIED", "VALIDATED", "ARCHIVED"} <= set(kinds)
    actions = {line["action"] for line in audit if line["entity"] == ours["document"]}
    assert {"document.stored", "document.archived", "document.read"} <= actions
    secrets = [
        mark,
        address,
        name,
        TENANT,
        taken["id"],
        dossier,
        taken["depositor"],
        archived["sha256"],
        archived["archive"]["ged_path"],
        "127.0.0.1",
        "client-1",
        "httpx",
        *(row[0] for row in pipeline.sql("SELECT correlation_id::text FROM documents")),
    ]
    for file, text in found.items():
        assert [secret for secret in secrets if secret in text] == [], file
    pipeline.settle()
    lines = pipeline.mongo("audit_logs", {"entity_id": told["export"]})
    assert {line["action"] for line in lines} == {"export.anonymised", "export.anonymised.completed"}
    assert pipeline.json("audit", "verify", "--tenant", TENANT)["intact"] is True

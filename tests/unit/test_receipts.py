"""A receipt proves an archiving without us: given when it is proven, and verified by the single file."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import httpx
import pytest

from domain.audit_chain import ChainEntry
from domain.documents import Document
from domain.lifecycle import Status
from domain.retention import years_after
from domain.shared.jws import compact
from processors.documents.transitions import canonical_json
from tests.support.api import assert_problem, bearer
from tests.support.audit_histories import checkpoints_of, kept_keys, signed, verified
from tests.support.audit_lines import a_chain, a_line, chain_of
from tests.support.builders import NOW, a_document
from tests.support.fakes_intake import IntakeBench
from tests.support.memory_audit_trees import MemorySigner
from verifier import dpj_verify


def archived(bench: IntakeBench, **changes: Any) -> Document:
    document = a_document(
        bench.dossier,
        Status.ARCHIVED,
        sha256=dpj_verify.hashlib.sha256(b"a contract").hexdigest(),
        size=10,
        archived_at=NOW,
        expires_at=NOW + timedelta(days=3650),
        ged_id="ged-1",
        ged_path="/dpj/acme/2026/x.pdf",
        **changes,
    )
    bench.database.put(document)
    return document


def line_of(document: Document) -> Any:
    details = {
        "ged_id": document.ged_id,
        "ged_path": document.ged_path,
        "retention_years": 10,
        "sha256": document.sha256,
        "size": document.size,
    }
    return a_line(entity_id=str(document.id), action="document.archived", details=canonical_json(details))


def chain_with(document: Document, place: int = 5, length: int = 12) -> list[ChainEntry]:
    """A chain whose entry number ``place`` archives the document."""
    lines = [a_line() for _ in range(length)]
    lines[place - 1] = line_of(document)
    return chain_of(lines)


async def sign(bench: IntakeBench, chain: list[ChainEntry], *sizes: int) -> None:
    """Chained, and checkpoints of these sizes taken."""
    before = 0
    for size in sizes:
        bench.trees.chained(chain[before:size])
        made = await bench.trees.record_next("acme", before, NOW)
        assert made is not None
        await bench.trees.record_signed(signed(made, bench.signer))
        before = size
    if before < len(chain):
        bench.trees.chained(chain[before:])


def path_of(document_id: UUID) -> str:
    return f"/api/v1/documents/{document_id}/receipt"


async def test_a_receipt_is_given_and_verifies_without_us(
    bench: IntakeBench, client: httpx.AsyncClient, tmp_path: Path, capsys: Any
) -> None:
    document = archived(bench)
    await sign(bench, chain_with(document), 4, 9, 12)
    response = await client.get(path_of(document.id), headers=bearer())
    assert response.status_code == 200, response.text
    assert response.headers["content-type"] == "application/jose"
    file, content = tmp_path / "receipt.jws", tmp_path / "contract"
    file.write_bytes(response.content)
    content.write_bytes(b"a contract")
    keys = kept_keys(tmp_path, bench.signer)
    code, answer = verified(capsys, "receipt", file, "--keys", keys, "--document", content)
    assert (code, answer["findings"]) == (0, [])
    assert (answer["document_id"], answer["ged_id"], answer["signed"]) == (str(document.id), "ged-1", 9)
    content.write_bytes(b"a contract!")
    code, answer = verified(capsys, "receipt", file, "--keys", keys, "--document", content)
    assert (code, answer["findings"][0]["kind"]) == (1, "DOCUMENT_DIFFERS")
    again = await client.get(path_of(document.id), headers=bearer("validator", subject="v"))
    assert again.content == response.content


async def test_what_a_receipt_says(bench: IntakeBench) -> None:
    document = archived(bench)
    chain = chain_with(document)
    await sign(bench, chain, 12)
    receipt = await bench.receipts.receipt(bench.caller(), document.id)
    header, said = (json.loads(base64.urlsafe_b64decode(part + "==")) for part in receipt.split(".")[:2])
    assert header == {"alg": "EdDSA", "kid": bench.signer.public.id, "typ": "dpj-receipt+jws"}
    assert (said["sha256"], said["size"], said["stored_size"]) == (document.sha256, 10, document.object_size)
    assert said["archived_at"] == NOW.isoformat(timespec="microseconds")
    assert said["retained_until"] == years_after(NOW, 10).isoformat(timespec="microseconds")
    assert said["audit"] == {"seq": 5, "entry_hash": chain[4].hash, "entry": chain[4].body.decode()}
    assert (said["inclusion"]["leaf_index"], said["inclusion"]["tree_size"]) == (4, 12)


async def test_every_read_is_audited_and_none_that_gave_nothing(bench: IntakeBench, client: httpx.AsyncClient) -> None:
    document = archived(bench)
    assert (await client.get(path_of(document.id), headers=bearer())).status_code == 409
    assert bench.database.audited() == []
    await sign(bench, chain_with(document), 12)
    await client.get(path_of(document.id), headers=bearer())
    [line] = bench.database.audited()
    assert (line.action, line.entity_id, line.tenant) == ("document.receipt.read", str(document.id), "acme")


async def test_the_proof_may_be_still_to_come(bench: IntakeBench, client: httpx.AsyncClient) -> None:
    document = archived(bench)
    chain = chain_with(document)
    for _ in range(2):
        response = await client.get(path_of(document.id), headers=bearer())
        assert_problem(response, 409, "receipt_pending")
        assert response.headers["retry-after"] == "60"
        if not bench.trees.trees:
            await sign(bench, chain, 4)  # the checkpoint does not cover the entry
    bench.signer.away = 0
    await sign_rest(bench)
    assert (await client.get(path_of(document.id), headers=bearer())).status_code == 200


async def sign_rest(bench: IntakeBench) -> None:
    made = await bench.trees.record_next("acme", bench.trees.of("acme").size, NOW)
    assert made is not None
    await bench.trees.record_signed(signed(made, bench.signer))


@pytest.mark.parametrize("status", [Status.STORED, Status.VALIDATED])
async def test_what_is_not_archived_has_none(bench: IntakeBench, client: httpx.AsyncClient, status: Status) -> None:
    document = a_document(bench.dossier, status)
    bench.database.put(document)
    response = await client.get(path_of(document.id), headers=bearer())
    assert_problem(response, 409, "receipt_not_available")
    assert "retry-after" not in response.headers


async def test_what_is_erased_has_none_any_more(bench: IntakeBench, client: httpx.AsyncClient) -> None:
    document = archived(bench)
    await sign(bench, chain_with(document), 12)
    for status in (Status.ERASING, Status.ERASED):
        bench.database.put(replace(document, status=status, wrapped_key=None))
        assert_problem(await client.get(path_of(document.id), headers=bearer()), 410, "document_erased")


async def test_who_may_have_it(bench: IntakeBench, client: httpx.AsyncClient) -> None:
    document = archived(bench)
    await sign(bench, chain_with(document), 12)
    for roles, tenant, status in (
        ("portal", "acme", 200),
        ("validator", "acme", 200),
        ("auditor", "other", 200),
        ("operator", "acme", 403),
        ("portal", "other", 404),
    ):
        response = await client.get(path_of(document.id), headers=bearer(roles, tenant=tenant))
        assert response.status_code == status, roles
    assert_problem(await client.get(path_of(uuid4()), headers=bearer()), 404, "document_not_found")


async def test_a_signer_that_is_away_is_told_with_a_time(bench: IntakeBench, client: httpx.AsyncClient) -> None:
    document = archived(bench)
    await sign(bench, chain_with(document), 12)
    bench.signer.away = 1
    response = await client.get(path_of(document.id), headers=bearer())
    assert_problem(response, 503, "keyring_unavailable")
    assert "retry-after" in response.headers


async def test_altered_tables_give_no_receipt(bench: IntakeBench, client: httpx.AsyncClient) -> None:
    document = archived(bench)
    await sign(bench, chain_with(document), 12)
    mine = bench.trees.archivings[document.id]
    for forged in (
        replace(mine, entry=mine.entry.replace(b"ged-1", b"ged-2")),
        replace(mine, seq=6),
        replace(mine, tenant="other"),
    ):
        bench.trees.archivings[document.id] = forged
        response = await client.get(path_of(document.id), headers=bearer())
        assert response.status_code in {409, 500}
        assert response.json()["code"] in {"checkpoint_conflict", "receipt_pending"}
    bench.trees.archivings[document.id] = mine
    tile = next(iter(bench.trees.of("acme").tiles))
    bench.trees.of("acme").tiles[tile] = bytes(12 * 32)
    assert_problem(await client.get(path_of(document.id), headers=bearer()), 500, "checkpoint_conflict")


@pytest.mark.parametrize(
    "changes",
    [
        {"sha256": "0" * 64},
        {"size": 11},
        {"ged_id": "ged-2"},
        {"ged_path": "/dpj/acme/2026/y.pdf"},
        {"archived_at": NOW + timedelta(seconds=1)},
    ],
)
async def test_what_was_not_audited_is_not_signed(
    bench: IntakeBench, client: httpx.AsyncClient, changes: dict[str, Any]
) -> None:
    """Somebody edits the document's row after it was archived."""
    document = archived(bench)
    await sign(bench, chain_with(document), 12)
    bench.database.put(replace(document, **changes))
    assert_problem(await client.get(path_of(document.id), headers=bearer()), 500, "checkpoint_conflict")
    assert bench.signer.signed == []


async def test_another_documents_entry_proves_nothing(bench: IntakeBench, client: httpx.AsyncClient) -> None:
    document, other = archived(bench), archived(bench)
    await sign(bench, chain_with(other), 12)
    bench.trees.archivings[document.id] = bench.trees.archivings[other.id]
    assert_problem(await client.get(path_of(document.id), headers=bearer()), 500, "checkpoint_conflict")


async def test_a_checkpoint_that_the_database_made_up_gives_no_receipt(
    bench: IntakeBench, client: httpx.AsyncClient
) -> None:
    """Entry, tiles and checkpoint fit each other, and nobody ever signed them."""
    document = archived(bench)
    chain = chain_with(document)
    bench.trees.chained(chain)
    made = await bench.trees.record_next("acme", 0, NOW)
    assert made is not None
    await bench.trees.record_signed(replace(signed(made, bench.signer), signature=bytes(64)))
    assert_problem(await client.get(path_of(document.id), headers=bearer()), 500, "checkpoint_conflict")
    assert bench.signer.signed == []


async def test_an_extended_retention_changes_no_receipt(bench: IntakeBench) -> None:
    document = archived(bench)
    await sign(bench, chain_with(document), 12)
    before = await bench.receipts.receipt(bench.caller(), document.id)
    bench.database.put(replace(document, expires_at=NOW + timedelta(days=9_000)))
    assert await bench.receipts.receipt(bench.caller(), document.id) == before


async def test_an_entry_that_names_no_content_proves_none(bench: IntakeBench, tmp_path: Path, capsys: Any) -> None:
    """Those of releases before receipts: the archiving is proven, and what was archived is said not to be."""
    document = archived(bench)
    details = {"ged_id": document.ged_id, "ged_path": document.ged_path, "retention_years": 10}
    line = a_line(entity_id=str(document.id), action="document.archived", details=canonical_json(details))
    await sign(bench, chain_of([a_line(), line]), 2)
    file, content, keys = tmp_path / "receipt.jws", tmp_path / "contract", kept_keys(tmp_path, bench.signer)
    file.write_text(await bench.receipts.receipt(bench.caller(), document.id))
    content.write_bytes(b"a contract")
    code, answer = verified(capsys, "receipt", file, "--keys", keys)
    assert (code, answer["sha256"], answer["size"], len(answer["limits"])) == (0, None, None, 1)
    dpj_verify.main(["receipt", str(file), "--keys", str(keys)])
    first, second = capsys.readouterr().out.splitlines()
    assert first.startswith("VERIFIED IN PART: ")
    assert second.startswith("NOT PROVEN: which content was archived")
    code, answer = verified(capsys, "receipt", file, "--keys", keys, "--document", content)
    assert (code, answer["findings"][0]["kind"]) == (1, "CONTENT_NOT_PROVEN")


# --- forged receipts -------------------------------------------------------------------------------------------------


async def test_any_changed_character_is_found(bench: IntakeBench, tmp_path: Path, capsys: Any) -> None:
    document = archived(bench)
    await sign(bench, chain_with(document), 12)
    receipt = await bench.receipts.receipt(bench.caller(), document.id)
    file, keys = tmp_path / "receipt.jws", kept_keys(tmp_path, bench.signer)
    for place in range(0, len(receipt), 41):
        other = "A" if receipt[place] != "A" else "B"
        file.write_text(receipt[:place] + other + receipt[place + 1 :])
        code, answer = verified(capsys, "receipt", file, "--keys", keys)
        assert (code, answer["findings"][0]["kind"]) == (1, "RECEIPT_INVALID"), place
    for text in ("", "a.b", "a.b.c", "....", receipt + ".x", "é"):
        file.write_text(text)
        assert verified(capsys, "receipt", file, "--keys", keys)[0] == 1
    file.write_text(receipt)
    assert verified(capsys, "receipt", file, "--keys", kept_keys(tmp_path, MemorySigner(5)))[0] == 1


async def test_a_receipt_signed_over_something_that_is_not_so_is_found(
    bench: IntakeBench, tmp_path: Path, capsys: Any
) -> None:
    """Even with the signing key: content, place and log must fit each other."""
    document = archived(bench)
    chain = chain_with(document)
    await sign(bench, chain, 12)
    header, payload, _ = (await bench.receipts.receipt(bench.caller(), document.id)).split(".")
    honest = json.loads(base64.urlsafe_b64decode(payload + "=="))
    file, keys = tmp_path / "receipt.jws", kept_keys(tmp_path, bench.signer)
    entry = honest["audit"]["entry"]
    other_log = checkpoints_of(chain_of([a_line() for _ in range(12)]), [12], bench.signer)[0]
    changes: list[dict[str, Any]] = [
        {},
        {"sha256": "0" * 64},
        {"document_id": str(uuid4())},
        {"tenant": "other"},
        {"size": 11},
        {"ged_id": "ged-2"},
        {"ged_path": "/elsewhere"},
        {"archived_at": (NOW + timedelta(seconds=1)).isoformat(timespec="microseconds")},
        {"type": "x"},
        {"audit": {**honest["audit"], "entry": entry.replace("ged-1", "ged-2")}},
        {"audit": {**honest["audit"], "entry_hash": "0" * 64}},
        {"audit": {**honest["audit"], "seq": 6}},
        {"inclusion": {**honest["inclusion"], "path": honest["inclusion"]["path"][1:]}},
        {"inclusion": {**honest["inclusion"], "path": [*honest["inclusion"]["path"], "00" * 32]}},
        {"inclusion": {**honest["inclusion"], "leaf_index": 3}},
        {"inclusion": {**honest["inclusion"], "tree_size": 13}},
        {"checkpoint": other_log.document},
        {"checkpoint": {**honest["checkpoint"], "signature": "A" * 86}},
    ]
    for change in changes:
        forged = dpj_verify.canonical({**honest, **change})
        text = f"{header}.{base64.urlsafe_b64encode(forged).rstrip(b'=').decode()}".encode()
        file.write_text(compact(text, bench.signer.private.sign(text)))
        code, answer = verified(capsys, "receipt", file, "--keys", keys)
        assert code == (1 if change else 0), (change, answer)


async def test_a_receipt_is_a_checkpoint_that_its_holder_kept(bench: IntakeBench, tmp_path: Path, capsys: Any) -> None:
    document = archived(bench)
    await sign(bench, chain_with(document), 12)
    file, keys, forked = tmp_path / "r.jws", kept_keys(tmp_path, bench.signer), tmp_path / "forked.json"
    file.write_text(await bench.receipts.receipt(bench.caller(), document.id))
    forked.write_bytes(checkpoints_of(chain_of([a_line() for _ in range(12)]), [12], bench.signer)[0].content)
    code, answer = verified(capsys, "receipt", file, "--keys", keys, "--known", forked)
    assert (code, answer["findings"][0]["kind"]) == (1, "FORKED")
    assert verified(capsys, "receipt", file, "--keys", keys, "--known", file)[0] == 0
    forked.write_bytes(checkpoints_of(a_chain(3, "other"), [3], bench.signer, "other")[0].content)
    assert verified(capsys, "receipt", file, "--keys", keys, "--known", forked)[0] == 2

"""No e-mail address, file name or data key stands clear anywhere but where it has to."""

from __future__ import annotations

import asyncio
import base64
import io
from collections.abc import Iterable
from uuid import uuid4

import asyncpg
import httpx
from bson import json_util

from tests.support.pipeline import TENANT, Pipeline, metadata, small_pdf


def forms_of(secret: bytes) -> set[bytes]:
    """The secret as it is, in hex, and in base64 at each of the three alignments."""
    found = {secret, secret.hex().encode(), secret.hex().upper().encode()}
    for shift in range(3):
        encoded = base64.b64encode(b"\0" * shift + secret)
        inner = encoded[4 if shift else 0 : len(encoded) // 4 * 4 - 4]
        found |= {inner, inner.replace(b"+", b"-").replace(b"/", b"_")}
    return found


def traces(places: dict[str, bytes], secrets: Iterable[bytes]) -> list[tuple[str, bytes]]:
    """(place, secret) wherever a form of a secret stands."""
    return [
        (place, secret)
        for secret in secrets
        for form in forms_of(secret)
        for place, held in places.items()
        if form in held
    ]


def test_personal_data_and_keys_stand_nowhere_in_the_clear(pipeline: Pipeline) -> None:
    mark = uuid4().hex[:10]
    address, name = f"prenom.nom-{mark}@client.example", f"releve-confidentiel-{mark}.pdf"
    said = metadata(pipeline.dossier(), email=address, language="en")
    taken = pipeline.upload(small_pdf(mark), said, name=name, key=f"key-{mark}")
    assert taken["file_name"] == name
    pipeline.decide(taken["id"], "validate")
    pipeline.reaches(taken["id"], "ARCHIVED")
    assert pipeline.get(taken["id"], "/content").status_code == 200
    pipeline.settle()
    assert {mail.to for mail in pipeline.mails(taken["id"])} == {address}

    places = {f"table {table}": held for table, held in dump(pipeline).items()}
    for number, record in enumerate(pipeline.records()):
        places[f"{record.topic} {number}"] = b"\n".join((record.key, record.value, record.headers))
    for collection in pipeline.mongo_collections():
        places[f"mongo {collection}"] = json_util.dumps(pipeline.mongo(collection)).encode()
    for path in [*(pipeline.home / "logs").glob("worker-*.log"), *(pipeline.home / "logs").glob("[ar][pe][il]*.log")]:
        places[f"log {path.name}"] = path.read_bytes()
    assert {"log api.log", "log relay.log", "log worker-notification.log", "mongo audit_logs"} <= places.keys()
    assert any(taken["id"].encode() in held for place, held in places.items() if place.startswith("dpj.document"))
    assert taken["id"].encode() in places["mongo audit_logs"]

    assert traces(places, [address.encode(), address.split("@", 1)[0].encode()]) == []
    keys = data_keys(pipeline)
    assert len(keys) >= 1
    assert traces(places, keys) == []
    assert traces(places, [name.encode(), mark.encode() + b".pdf"]) == []


def dump(pipeline: Pipeline) -> dict[str, bytes]:
    """Every table, as COPY gives it."""

    async def run() -> dict[str, bytes]:
        connection = await asyncpg.connect(pipeline.settings["DPJ_POSTGRES_DSN"], timeout=10)
        try:
            tables = [
                row[0]
                for row in await connection.fetch("SELECT tablename FROM pg_tables WHERE schemaname = current_schema()")
            ]
            found = {}
            for table in tables:
                rows = io.BytesIO()
                query = f"SELECT to_jsonb(t) FROM {table} t"  # noqa: S608 - names of our own tables
                await connection.copy_from_query(query, output=rows, timeout=60)
                found[table] = rows.getvalue()
            return found
        finally:
            await connection.close()

    return asyncio.run(run())


def data_keys(pipeline: Pipeline) -> list[bytes]:
    """Every document's data key, opened by Vault as the pipeline's role may."""
    given = pipeline.settings
    rows = pipeline.sql("SELECT id, cle_enveloppee FROM documents WHERE tenant = $1 AND cle_enveloppee <> ''", TENANT)
    with httpx.Client(base_url=f"{given['DPJ_VAULT_ADDR']}/v1", timeout=30, trust_env=False) as vault:
        login = {"role_id": given["DPJ_VAULT_ROLE_ID"], "secret_id": given["DPJ_VAULT_SECRET_ID"]}
        token = vault.post("/auth/approle/login", json=login).raise_for_status().json()["auth"]["client_token"]
        batch = [{"ciphertext": wrapped, "context": context(str(document))} for document, wrapped in rows]
        path = f"/transit/decrypt/dpj-tenant-{TENANT}"
        answer = vault.post(path, json={"batch_input": batch}, headers={"X-Vault-Token": token}).raise_for_status()
        keys = [base64.b64decode(one["plaintext"]) for one in answer.json()["data"]["batch_results"]]
    assert {len(key) for key in keys} == {32}
    return keys


def context(document_id: str) -> str:
    """Tenant, document and role, each with its length before it."""
    fields = [field.encode() for field in (TENANT, document_id, "content")]
    return base64.b64encode(b"".join(len(field).to_bytes(2, "big") + field for field in fields)).decode()

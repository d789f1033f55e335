"""A document whose event dies before integrity, as its portal sees it, and what an operator does about it: the writer's schema is put
back into the registry, and the letters are redriven."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any
from uuid import uuid4

import httpx
import pytest

from domain.events import DocumentUploaded
from schemas.catalog import schema_of
from tests.support.pipeline import TENANT, Pipeline, metadata, small_pdf, wait_for

CONSUMERS = {"integrity", "archiving", "notification"}


class LaterRelease:
    """Schemas that a later release would have, in the real registry. ``unknown_id``: the next that it will give."""

    def __init__(self, url: str) -> None:
        self._url = url.rstrip("/")
        self.unknown_id = self.register() + 1

    def register(self) -> int:
        """Register a schema of DocumentUploaded that nobody has registered; its id."""
        schema = {**schema_of(DocumentUploaded), "doc": f"A later release's, {uuid4()}"}
        body = {"schemaType": "AVRO", "schema": json.dumps(schema)}
        address = f"{self._url}/subjects/test.{uuid4().hex}-value/versions"
        answer = httpx.post(address, json=body, trust_env=False, timeout=20)
        assert answer.status_code == 200, answer.text
        return int(answer.json()["id"])

    def put_back(self) -> None:
        given = 0
        while given < self.unknown_id:
            given = self.register()
        assert given == self.unknown_id


@contextmanager
def written_by(pipeline: Pipeline, schema_id: int) -> Iterator[None]:
    """Meanwhile uploads are written as by a process that has that schema: with its id, and a fingerprint that nobody knows here."""
    pipeline.sql(
        f"""
        CREATE OR REPLACE FUNCTION a_later_release() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
            NEW.body := '\\x00'::bytea || int4send({schema_id}) || substr(NEW.body, 6);
            NEW.headers := NEW.headers - 'schema';
            RETURN NEW; END $$
        """
    )
    pipeline.sql(
        "CREATE TRIGGER later BEFORE INSERT ON outbox FOR EACH ROW WHEN (NEW.topic = 'dpj.document.uploaded')"
        " EXECUTE FUNCTION a_later_release()"
    )
    try:
        yield
    finally:
        pipeline.sql("DROP TRIGGER later ON outbox")
        pipeline.sql("DROP FUNCTION a_later_release")


@pytest.fixture
def later_release(pipeline: Pipeline) -> LaterRelease:
    return LaterRelease(pipeline.settings["DPJ_REGISTRY_URL"])


def test_a_portal_sees_that_its_document_stands_still_until_schema_and_letters_are_put_back(
    pipeline: Pipeline, later_release: LaterRelease
) -> None:
    with written_by(pipeline, later_release.unknown_id):
        taken = pipeline.upload(small_pdf("of a later release"), metadata(pipeline.dossier()))
    document = taken["id"]
    assert (taken["status"], taken["processing"]["status"]) == ("STORED", "UNDER_WAY")

    def now() -> dict[str, Any]:
        found: dict[str, Any] = pipeline.get(document).json()
        return found

    def letters() -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = pipeline.json("dlq", "list", "--document", document)["letters"]
        return found

    stopped = wait_for(lambda: (found := now())["processing"]["status"] == "STOPPED" and found, "it is stopped", 30)
    wait_for(lambda: now()["processing"]["step"] == "integrity", "integrity gave it up", 30)
    processing = now()["processing"]
    assert (stopped["status"], processing["code"]) == ("STORED", "event_undecodable")
    assert processing["since"] >= taken["created_at"]
    told = json.dumps(processing)
    assert not [word for word in ("dpj.", "partition", "offset", "Error", "Undecodable", "topic") if word in told]
    listed = pipeline.client("portal").get("/documents", params={"dossier": taken["dossier_id"]}).json()["items"]
    assert [one["processing"] for one in listed] == [processing]
    wait_for(lambda: {one["consumer"] for one in letters()} == CONSUMERS, "all three gave it up", 30)

    # Each record costs one letter: who buried it is owed the event no more, so it is neither lost nor sent again.
    def waits() -> list[tuple[str, str | None]]:
        shown = pipeline.json("doc", "show", document, "--tenant", TENANT)
        return sorted((one["state"], one["consumer"]) for one in shown["waits"])

    wait_for(lambda: waits() == [("dead", name) for name in sorted(CONSUMERS)], "nothing is owed any more", 30)
    sent_again = "SELECT count(*) FROM outbox WHERE key = $1 AND re_emissions > 0"
    assert pipeline.sql(sent_again, document.encode())[0][0] == 0

    refused = json.loads(pipeline.dpj("dlq", "redrive", "--document", document, "--apply", "--json", status=1))
    assert (refused["done"], refused["refused"]) == (0, 3)
    assert now()["processing"] == processing

    later_release.put_back()
    done = pipeline.json("dlq", "redrive", "--document", document, "--apply")
    assert (done["done"], done["refused"]) == (3, 0)
    rested = wait_for(lambda: (found := now())["status"] == "VERIFIED" and found, "it is verified", 30)
    assert rested["processing"]["status"] in {"AT_REST", "STOPPED"}
    wait_for(lambda: now()["processing"]["status"] == "AT_REST", "nothing is stopped any more", 30)
    assert now()["processing"]["code"] is None
    assert letters() == []
    assert now()["archive"]["planned"] is not None

"""The sample documents are what their manifest says, and intake's rules give the end that it names."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from domain.documents import Language
from domain.errors import DPJError
from domain.refusals import FileEmpty
from ingest_api.sniffing import HEAD_SIZE, MagicSniffer
from processors.documents.media_types import media_type
from storage.migrations.versions.v0002_document_types import TYPES

SAMPLES = Path(__file__).resolve().parent.parent.parent / "samples"
DOCUMENTS: list[dict[str, Any]] = json.loads((SAMPLES / "manifest.json").read_text("utf-8"))["documents"]
RULES: dict[Any, tuple[Any, ...]] = {row[0]: row for row in TYPES}

every_document = pytest.mark.parametrize("row", DOCUMENTS, ids=[row["file"] for row in DOCUMENTS])


def test_the_manifest_lists_every_file_and_the_folder_is_small():
    files = {path.name: path.stat().st_size for path in SAMPLES.iterdir()}
    assert set(files) == {row["file"] for row in DOCUMENTS} | {"README.md", "manifest.json"}
    assert sum(files.values()) < 3_000_000
    readme = (SAMPLES / "README.md").read_text("utf-8")
    assert not [name for name in files if name not in readme and name != "README.md"]


@every_document
def test_a_document_is_the_one_that_is_listed(row: dict[str, Any]):
    content = (SAMPLES / row["file"]).read_bytes()
    assert (len(content), hashlib.sha256(content).hexdigest()) == (row["size"], row["sha256"])
    assert row["language"] in {language.value for language in Language}


def end_at_intake(row: dict[str, Any]) -> str:
    """What intake's rules and the document type make of it, in the manifest's words."""
    content = (SAMPLES / row["file"]).read_bytes()
    _, _, _, formats, megabytes, active, archived, *_ = RULES[row["type_code"]]
    assert active
    assert len(content) <= megabytes * 1_000_000
    try:
        if not content:
            raise FileEmpty
        recorded = media_type(row["media_type"], MagicSniffer().sniff(content[:HEAD_SIZE]), frozenset(formats))
    except DPJError as refused:
        return f"refused:{refused.code}"
    assert recorded == row["media_type"]
    return "archived" if archived else "validated"


@every_document
def test_intake_takes_or_refuses_it_as_listed(row: dict[str, Any]):
    possible = end_at_intake(row)
    refused = possible.startswith("refused:")
    # What intake takes may still be rejected by a validator.
    assert row["end"] in ({possible} if refused else {possible, "rejected"})
    assert row["thumbnail"] in ({None} if refused else {"THUMBNAILS_READY", "NO_THUMBNAIL: UNDECODABLE"})

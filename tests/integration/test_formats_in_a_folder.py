"""What a real API process stored in a folder under a key file opens by docs/ENVELOPE.md alone (``tests/second_implementation``)."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from tests.second_implementation import documents
from tests.second_implementation.documents import Context, WrappedKey
from tests.support.api_processes import TENANT, ApiProcesses, a_pdf

#: More than two chunks of the envelope.
SIZE = (2 << 20) + 99


async def test_a_document_in_a_folder_opens(stack: Mapping[str, str], database_dsn: str, tmp_path: Path) -> None:
    embedded = {"object_store": "filesystem", "objects_dir": str(tmp_path / "objects"), "keyring": "local"}
    content = a_pdf(bytes(SIZE))
    async with ApiProcesses(stack, database_dsn, **embedded).up() as processes:
        answer = await processes.post(content, await processes.dossier())
        assert answer.status_code == 201, answer.text
        query = "SELECT * FROM documents WHERE id = $1::text::uuid"
        (row,) = await processes.sql(query, answer.json()["id"])
        sealed, etag = documents.read_stored_file(tmp_path / "objects", row["chemin_stockage"])
    assert (etag, len(sealed)) == (row["etag_objet"], row["taille_objet"])
    wrapped = WrappedKey(row["cle_schema"], row["cle_nom"], row["cle_version"], row["cle_enveloppee"])
    context = Context(TENANT, answer.json()["id"])
    assert processes.settings.keyring_file is not None
    key = documents.unwrap_by_file(wrapped, context, processes.settings.keyring_file)
    clear = documents.open_envelope(sealed, key, context)
    assert clear == content
    assert hashlib.sha256(clear).hexdigest() == row["checksum_sha256"]

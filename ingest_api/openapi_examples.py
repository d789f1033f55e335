"""One example per operation: curl commands, as they stand in the OpenAPI document (``x-codeSamples``) and in docs/API.md.

``tests/e2e/test_documented_examples.py`` runs each against the real API, in this order. Variables are those of the shell: API, TOKEN, and
ids that earlier answers gave. A command is what a reader may type: no option is there for the test's sake.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

_AUTH: Final = '-H "Authorization: Bearer $TOKEN"'
_JSON: Final = "-H 'Content-Type: application/json'"


def _get(path: str, *options: str) -> str:
    return _command(*options, _AUTH, f'"$API{path}"')


def _post(path: str, body: str) -> str:
    return _command(_AUTH, _JSON, f"-d '{body}'", f'"$API{path}"')


def _command(*words: str) -> str:
    """One word a line, but for short commands."""
    whole = " ".join(("curl", *words))
    return whole if len(whole) <= 100 else " \\\n  ".join(("curl", *words))


#: By operation, in the order in which a document's life has them.
COMMANDS: Final[Mapping[str, str]] = {
    "list_document_types": _get("/api/v1/document-types"),
    "create_dossier": _post(
        "/api/v1/dossiers",
        '{"number": "D-2026-0042", "client_id": "C-1", "journey_type": "LOAN",'
        ' "steps": [{"code": "IDENTITY", "name": "Identity", "mandatory_documents": ["CNI"]}]}',
    ),
    "get_dossier": _get("/api/v1/dossiers/$DOSSIER"),
    "list_dossiers": _get("/api/v1/dossiers?limit=10"),
    "upload_document": _command(
        _AUTH,
        "-H 'Idempotency-Key: 5f0c1d2e'",
        """-F 'metadata={"type": "CNI", "dossier_id": "'"$DOSSIER"'", "depositor": {"email": "marie@example.org",\
 "language": "fr"}};type=application/json'""",
        "-F 'file=@carte.jpg;type=image/jpeg'",
        '"$API/api/v1/documents"',
    ),
    "get_document": _get("/api/v1/documents/$DOCUMENT"),
    "list_documents": _get("/api/v1/documents?dossier=$DOSSIER&status=VERIFIED"),
    "search_documents": _post("/api/v1/document-search", '{"file_name": "carte.jpg"}'),
    "list_document_events": _get("/api/v1/documents/$DOCUMENT/events"),
    "get_document_content": _get("/api/v1/documents/$DOCUMENT/content", "-o carte-again.jpg"),
    "get_document_thumbnail": _get("/api/v1/documents/$DOCUMENT/thumbnail?size=256", "-o thumbnail"),
    "create_document_link": _post("/api/v1/documents/$DOCUMENT/links", '{"purpose": "partner-review", "seconds": 900}'),
    "open_link": _command("-o carte-again.jpg", '"$API$LINK_URL"'),
    "revoke_document_link": _command("-X DELETE", _AUTH, '"$API/api/v1/documents/$DOCUMENT/links/$LINK"'),
    "validate_document": _post("/api/v1/documents/$DOCUMENT/validate", '{"comment": "All there."}'),
    "reject_document": _post("/api/v1/documents/$DOCUMENT/reject", '{"reason": "The back is missing."}'),
    "get_document_receipt": _get("/api/v1/documents/$DOCUMENT/receipt", "-o receipt.jws"),
    "get_retention": _get("/api/v1/documents/$DOCUMENT/retention"),
    "extend_retention": _post(
        "/api/v1/documents/$DOCUMENT/retention", '{"until": "2099-01-01T00:00:00Z", "reason": "TICKET-42"}'
    ),
    "set_legal_hold": _post(
        "/api/v1/documents/$DOCUMENT/legal-holds", '{"reference": "CASE-1", "reason": "LITIGATION"}'
    ),
    "lift_legal_hold": _post("/api/v1/documents/$DOCUMENT/legal-holds/CASE-1/lift", '{"reason": "CASE-CLOSED"}'),
    "erase_document": _post(
        "/api/v1/documents/$DOCUMENT/erase", '{"reason": "TICKET-42", "legal_basis": "GDPR_17_1_B"}'
    ),
    "get_erasure_receipt": _get("/api/v1/documents/$DOCUMENT/erasure-receipt", "-o erasure.jws"),
    "revoke_token": _post("/api/v1/revocations", '{"session_id": "0b1c2d3e"}'),
}

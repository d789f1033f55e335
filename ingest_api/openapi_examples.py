"""One example per operation: curl commands (``x-codeSamples`` in the OpenAPI document) and answers, as docs/API.md shows them.

``tests/e2e/test_documented_examples.py`` runs each against the real API, in this order. Variables are those of the shell: API, TOKEN, and
ids that earlier answers gave. A command is what a reader may type: no option is there for the test's sake.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

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


_DISCARD: Final = '{"act": "discard", "consumer": "notification", "code": "event_undecodable"'

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
    "get_erasure_order": _get("/api/v1/documents/$DOCUMENT/erasure-order"),
    "confirm_erasure": _post("/api/v1/documents/$DOCUMENT/erase/confirm", """{"order_id": "'"$ORDER"'"}"""),
    "withdraw_erasure": _post("/api/v1/documents/$DOCUMENT/erase/withdraw", """{"order_id": "'"$ORDER"'"}"""),
    "get_erasure_receipt": _get("/api/v1/documents/$DOCUMENT/erasure-receipt", "-o erasure.jws"),
    "revoke_token": _post("/api/v1/revocations", '{"session_id": "0b1c2d3e"}'),
    "list_dead_letter_groups": _get("/api/v1/operations/dead-letters"),
    "list_dead_letters": _get(
        "/api/v1/operations/dead-letters/group?consumer=notification&code=event_undecodable"
        "&error_class=EventUndecodable&limit=10"
    ),
    "plan_act": _post("/api/v1/operations/plans", _DISCARD + "}"),
    "confirm_plan": _command(
        _AUTH,
        _JSON,
        "-H 'Idempotency-Key: 7a1b2c3d'",
        f"""-d '{_DISCARD}, "plan_hash": "'"$PLAN"'", "reason": "TICKET-42", "canary": 1, "second_person": true}}'""",
        '"$API/api/v1/operations/batches"',
    ),
    "confirm_batch": _command("-X POST", _AUTH, '"$API/api/v1/operations/batches/$BATCH/confirm"'),
    "get_batch": _get("/api/v1/operations/batches/$BATCH"),
    "list_batch_items": _get("/api/v1/operations/batches/$BATCH/items"),
    "stop_batch": _command("-X POST", _AUTH, '"$API/api/v1/operations/batches/$BATCH/stop"'),
    "continue_batch": _command("-X POST", _AUTH, '"$API/api/v1/operations/batches/$BATCH/continue"'),
    "list_batches": _get("/api/v1/operations/batches?limit=10"),
    "pause_consumer": _post(
        "/api/v1/operations/pauses", '{"consumer": "renditions", "minutes": 5, "reason": "TICKET-42"}'
    ),
    "list_orders": _get("/api/v1/operations/orders"),
    "list_pauses": _get("/api/v1/operations/pauses"),
    "resume_consumer": _post("/api/v1/operations/pauses/renditions/resume", '{"reason": "TICKET-42"}'),
}

_ME: Final = "/api/v1/documents/6f1f6c3e-0c1b-4c38-9a55-3b1d5f0b7a01"
_DOSSIER: Final = "123e4567-e89b-42d3-a456-426614174000"
_ACTOR: Final = "9d2c7e0f" * 4
_AT: Final = "2026-05-04T08:00:00Z"
_BATCH_ID: Final = "2b1c9f60-5d0e-4f7e-9a39-0f5b7a1d6c42"
_BATCH: Final[dict[str, Any]] = {
    "id": _BATCH_ID,
    "act": "discard",
    "plan_hash": "5b8d0f3a" * 8,
    "state": "LOOK",
    "stopped": None,
    "by": _ACTOR,
    "reason": "TICKET-42",
    "second": None,
    "canary": 1,
    "stop_after": 5,
    "counts": {},
    "created_at": _AT,
    "changed_at": _AT,
    "links": {
        "self": f"/api/v1/operations/batches/{_BATCH_ID}",
        "items": f"/api/v1/operations/batches/{_BATCH_ID}/items",
    },
}
_PAUSE: Final[dict[str, Any]] = {
    "consumer": "renditions",
    "by": _ACTOR,
    "reason": "TICKET-42",
    "since": _AT,
    "until": "2026-05-04T08:05:00Z",
}
_LETTER: Final[dict[str, Any]] = {
    "number": 17,
    "consumer": "notification",
    "code": "event_undecodable",
    "error_class": "EventUndecodable",
}
_DOCUMENT: Final[dict[str, Any]] = {
    "id": "6f1f6c3e-0c1b-4c38-9a55-3b1d5f0b7a01",
    "status": "STORED",
    "processing": {"status": "UNDER_WAY", "step": None, "code": None, "since": None, "advice": "Look again later."},
    "tenant": "acme",
    "dossier_id": _DOSSIER,
    "step_id": None,
    "type": "CNI",
    "mandatory": True,
    "file_name": "carte.jpg",
    "media_type": "image/jpeg",
    "size": 251864,
    "sha256": "5b8d0f3a" * 8,
    "version": 1,
    "parent_id": None,
    "depositor": _ACTOR,
    "language": "fr",
    "tags": [],
    "metadata": {},
    "decision": None,
    "pending_decision": None,
    "archive": {"planned": None, "retention_years": None, "ged_id": None, "ged_path": None, "archived_at": None},
    "failure_code": None,
    "thumbnail_note": None,
    "created_at": _AT,
    "updated_at": _AT,
    "deposited_at": _AT,
    "links": {
        "self": _ME,
        "content": f"{_ME}/content",
        "thumbnail": f"{_ME}/thumbnail?size=256",
        "events": f"{_ME}/events",
        "dossier": f"/api/v1/dossiers/{_DOSSIER}",
    },
}

_OPEN_ORDER: Final[dict[str, Any]] = {
    "id": "7c9e6679-7425-40de-944b-e07fc1f90ae7",
    "act": "document.erasure",
    "subject": _DOCUMENT["id"],
    "tenant": "acme",
    "reason": "TICKET-42",
    "legal_basis": "GDPR_17_1_B",
    "below_version": None,
    "own": False,
    "ordered_by": _ACTOR,
    "ordered_at": _AT,
    "expires_at": "2026-05-07T08:00:00Z",
    "confirmed_by": None,
    "confirmed_at": None,
    "links": {
        "document": _ME,
        "confirm": f"{_ME}/erase/confirm",
        "withdraw": f"{_ME}/erase/withdraw",
    },
}

#: Answers by the name of their schema. The same tests hold that real ones have the same members.
ANSWERS: Final[Mapping[str, Mapping[str, Any]]] = {
    "DocumentView": _DOCUMENT,
    "DossierView": {
        "id": _DOSSIER,
        "number": "D-2026-0042",
        "client_id": "C-1",
        "journey_type": "LOAN",
        "status": "OPEN",
        "current_step": "IDENTITY",
        "priority": 0,
        "steps": [
            {
                "id": "0f9d7c1e-2b3a-4c5d-8e6f-7a8b9c0d1e2f",
                "code": "IDENTITY",
                "name": "Identity",
                "position": 1,
                "status": "TO_DO",
                "mandatory_documents": ["CNI"],
                "optional_documents": [],
            }
        ],
        "created_at": _AT,
        "updated_at": _AT,
        "links": {
            "self": f"/api/v1/dossiers/{_DOSSIER}",
            "documents": f"/api/v1/documents?dossier={_DOSSIER}",
        },
    },
    "ErasureView": {
        "document_id": _DOCUMENT["id"],
        "status": "ERASING",
        "order": None,
        "links": {"document": _ME, "receipt": f"{_ME}/erasure-receipt"},
    },
    "LinkView": {
        "id": "c56a4180-65aa-42ec-a945-5fd21dec0538",
        "document_id": _DOCUMENT["id"],
        "purpose": "partner-review",
        "url": "/api/v1/links/l1.0b1c2d3e.xWpBgGWqQuypRV_SHewFOA",
        "created_at": _AT,
        "expires_at": "2026-05-04T08:15:00Z",
    },
    "OrderView": {
        "id": "7d444840-9dc0-41d1-b245-5ffdce74fad2",
        "document_id": _DOCUMENT["id"],
        "reason": "TICKET-42",
        "legal_basis": "GDPR_17_1_B",
        "ordered_by": _ACTOR,
        "ordered_at": _AT,
        "expires_at": "2026-05-07T08:00:00Z",
    },
    "RetentionView": {
        "document_id": _DOCUMENT["id"],
        "status": "ARCHIVED",
        "until": "2099-01-01T00:00:00Z",
        "held": True,
        "holds": [
            {
                "reference": "CASE-1",
                "reason": "LITIGATION",
                "set_by": _ACTOR,
                "set_at": _AT,
                "lifted_by": None,
                "lifted_at": None,
                "lifted_reason": None,
            }
        ],
    },
    "DeadLetterGroups": {
        "items": [
            {
                "consumer": "notification",
                "code": "event_undecodable",
                "error_class": "EventUndecodable",
                "count": 3,
                "new": 0,
                "oldest": _AT,
                "newest": _AT,
            }
        ]
    },
    "DeadLetterPage": {
        "items": [
            {
                **_LETTER,
                "event_id": "8f14e45f-ceea-567a-9b5c-3f5a2b0c7d11",
                "document_id": None,
                "tenant": None,
                "origin": "dpj.document.archived/0/12",
                "address": "notification/0/4",
                "attempts": 1,
                "replays": 0,
                "made_at": _AT,
            }
        ],
        "next_cursor": None,
    },
    "PlanView": {
        "hash": "5b8d0f3a" * 8,
        "act": "discard",
        "more": False,
        "forecast": [{"outcome": "done", "note": "off the list: PLAN", "code": "off_the_list", "count": 3}],
        "left_out": [],
        "items": [{"name": "17", "forecast": "done", "note": "off the list: PLAN", "code": "off_the_list"}],
    },
    "BatchView": _BATCH,
    "BatchList": {"items": [_BATCH]},
    "BatchItemPage": {
        "items": [
            {
                "rank": 1,
                "name": "17",
                "forecast": "done",
                "result": "done",
                "note": "off the list: TICKET-42",
                "code": "off_the_list",
                "came_back": False,
                "done_at": _AT,
            }
        ],
        "next_after": None,
    },
    "PauseView": _PAUSE,
    "OrderPage": {"items": [_OPEN_ORDER], "next_cursor": None},
    "PauseList": {"items": [_PAUSE]},
    "Problem": {
        "type": "urn:dpj:problem:metadata_invalid",
        "title": "Invalid metadata",
        "status": 422,
        "detail": "The fields named in errors are not valid.",
        "code": "metadata_invalid",
        "advice": "Correct what detail and errors name.",
        "traceId": "0af76519" * 4,
        "errors": [{"field": "type", "code": "required", "message": "The field is required."}],
    },
}

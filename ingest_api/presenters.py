"""Domain objects as the API shows them: no sealed field, no key, no object name."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, cast

from domain.documents import Decision, Document, DocumentType, Dossier, TimelineEntry
from domain.lifecycle import Status
from domain.personal_texts import ClearDocument
from domain.processing import UNDER_WAY, Processing, ProcessingStatus
from ingest_api.models import (
    ArchiveView,
    DecisionView,
    DocumentTypeView,
    DocumentView,
    DossierView,
    EventView,
    ProcessingView,
    StepView,
)

API: str = "/api/v1"

_ADVICE: Final[Mapping[ProcessingStatus, str]] = {
    ProcessingStatus.UNDER_WAY: "Look again later.",
    ProcessingStatus.STOPPED: "Wait no longer: report the document id to the operators.",
    ProcessingStatus.AT_REST: "Nothing is under way: the state changes only if somebody acts.",
}


def absolute(links: Mapping[str, str], public_url: str) -> dict[str, str]:
    """Links of ours with the address in front that clients know us by; empty: as they are, from the root."""
    return {name: public_url + link for name, link in links.items()}


def document_view(shown: ClearDocument, processing: Processing, public_url: str = "") -> DocumentView:
    document, texts = shown.document, shown.texts
    return DocumentView(
        id=document.id,
        status=document.status,
        processing=processing_view(processing),
        tenant=document.tenant,
        dossier_id=document.dossier_id,
        step_id=document.step_id,
        type=document.type_code,
        mandatory=document.mandatory,
        file_name=texts.file_name,
        media_type=document.mime_type,
        size=document.size,
        sha256=document.sha256,
        version=document.version_number,
        parent_id=document.parent_id,
        depositor=document.depositor_id,
        language=document.language.value,
        tags=list(texts.tags),
        metadata=texts.metadata,
        decision=_decision(document, texts.decision_note),
        pending_decision=_pending(document.pending_decision, texts.pending_note),
        archive=ArchiveView(
            planned=document.archive_planned,
            retention_years=document.retention_years,
            ged_id=document.ged_id,
            ged_path=document.ged_path,
            archived_at=document.archived_at,
        ),
        failure_code=document.failure_code,
        thumbnail_note=document.thumbnail_note,
        created_at=document.created_at,
        updated_at=document.updated_at,
        deposited_at=document.deposited_at,
        links=absolute(_links(document), public_url),
    )


def document_body(shown: ClearDocument) -> Mapping[str, Any]:
    """The view as JSON values, but for what ``JUST_STORED`` says: what an Idempotency-Key keeps, personal texts apart, and gives again."""
    return document_view(shown, UNDER_WAY).model_dump(mode="json", exclude={"processing"})


def processing_view(processing: Processing) -> ProcessingView:
    return ProcessingView(
        status=processing.status,
        step=cast("Any", processing.step),
        code=processing.code,
        since=processing.since,
        advice=_ADVICE[processing.status],
    )


def dossier_view(dossier: Dossier, public_url: str = "") -> DossierView:
    return DossierView(
        id=dossier.id,
        number=dossier.number,
        client_id=dossier.client_id,
        journey_type=dossier.journey_type,
        status=dossier.status,
        current_step=dossier.current_step,
        priority=dossier.priority,
        steps=[
            StepView(
                id=step.id,
                code=step.code,
                name=step.name,
                position=step.position,
                status=step.status,
                mandatory_documents=list(step.mandatory_documents),
                optional_documents=list(step.optional_documents),
            )
            for step in dossier.steps
        ],
        created_at=dossier.created_at,
        updated_at=dossier.updated_at,
        links=absolute(
            {
                "self": f"{API}/dossiers/{dossier.id}",
                "documents": f"{API}/documents?dossier={dossier.id}",
            },
            public_url,
        ),
    )


def event_view(entry: TimelineEntry) -> EventView:
    return EventView(type=entry.type, by=entry.actor, at=entry.at, details=entry.details)


def type_view(rule: DocumentType) -> DocumentTypeView:
    return DocumentTypeView(
        code=rule.code,
        label=rule.label,
        description=rule.description,
        formats=sorted(rule.allowed_formats),
        max_size=rule.max_size_bytes,
        active=rule.active,
        archived=rule.archived,
        retention_years=rule.retention_years,
        validation_rules=rule.validation_rules,
        metadata_template=rule.metadata_template,
    )


def _decision(document: Document, note: str | None) -> DecisionView | None:
    if document.validator_id is None or document.decided_at is None:
        return None
    rejected = document.rejection_reason is not None
    return DecisionView(
        status=Status.REJECTED if rejected else Status.VALIDATED,
        by=document.validator_id,
        at=document.decided_at,
        note=note,
    )


def _pending(decision: Decision | None, note: str | None) -> DecisionView | None:
    if decision is None:
        return None
    return DecisionView(status=decision.to, by=decision.actor, at=decision.at, note=note or None)


def _links(document: Document) -> dict[str, str]:
    me = f"{API}/documents/{document.id}"
    links = {
        "self": me,
        "content": f"{me}/content",
        "thumbnail": f"{me}/thumbnail?size=256",
        "events": f"{me}/events",
        "dossier": f"{API}/dossiers/{document.dossier_id}",
    }
    return {**links, "receipt": f"{me}/receipt"} if document.status is Status.ARCHIVED else links


#: What the answer to an upload says, also when an Idempotency-Key gives it again: it is that moment's.
JUST_STORED: Final[Mapping[str, Any]] = processing_view(UNDER_WAY).model_dump(mode="json")

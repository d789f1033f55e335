"""Personal texts of documents: sealed before they are in a row, opened for an answer or a mail.

All texts of a row are under one key, that of ``Document.personal_key``: what is added later (a decision's note) is sealed under the
same, and resealing moves them together. The database holds that too.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Final, Protocol
from uuid import UUID

import structlog

from domain.documents import Document
from domain.errors import PersonalKeyMissing, WrongKey
from domain.personal_texts import (
    ClearDocument,
    ClearTexts,
    CurrentKeys,
    PersonalField,
    TextContext,
    UploadedTexts,
    normalised,
)
from processors.ports.personal_data import PersonalData

_LABELS: Final = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False)

_log = structlog.get_logger()


class ColumnKeys(Protocol):
    """Keys that seal documents' texts and make the indexes to look them up by. Raises KeyringUnavailable.

    Keys in a file, or whatever else can do this: nobody above it sees a key.
    """

    def current(self) -> CurrentKeys: ...

    def seal(self, place: TextContext, text: str, key: str) -> str:
        """Under the key of that id, different at each call. Raises PersonalKeyMissing."""
        ...

    def open(self, place: TextContext, sealed: str) -> str:
        """Raises WrongKey if it was altered or belongs elsewhere, PersonalKeyMissing."""
        ...

    def indexes(self, tenant: str, field: PersonalField, text: str) -> Mapping[str, bytes]:
        """By look-up key id, the current one first. Texts that are the same once normalised have the same."""
        ...


class PersonalTexts:
    """Seals and opens documents' texts. ``personal`` opens the e-mail addresses of rows that are older than ``keys``.

    With ``sealed_only`` there are no such rows any more: one in that form was put there by somebody else, and does not open.
    """

    def __init__(self, keys: ColumnKeys, personal: PersonalData, *, sealed_only: bool = False) -> None:
        self._keys = keys
        self._personal = personal
        self._sealed_only = sealed_only

    async def check(self) -> None:
        """Raises KeyringUnavailable if there are no keys to be had now."""
        self._keys.current()

    def sealed(self, tenant: str, document_id: UUID, given: UploadedTexts) -> dict[str, Any]:
        """Fields of a new Document. Raises KeyringUnavailable."""
        current = self._keys.current()

        def seal(field: PersonalField, text: str) -> str:
            return self._keys.seal(TextContext(tenant, document_id, field), text, current.sealing)

        def index(field: PersonalField, text: str) -> bytes:
            found = self._keys.indexes(tenant, field, text).get(current.lookup)
            if found is None:
                raise PersonalKeyMissing("The keys were changed in this moment.")
            return found

        labels = {"tags": given.tags, "metadata": dict(given.metadata)} if given.tags or given.metadata else None
        return {
            "original_name": seal(PersonalField.FILE_NAME, given.file_name),
            "depositor_email_sealed": seal(PersonalField.EMAIL, given.email),
            "depositor_name_sealed": given.depositor_name and seal(PersonalField.DEPOSITOR_NAME, given.depositor_name),
            "labels_sealed": labels and seal(PersonalField.LABELS, _LABELS.encode(labels)),
            "personal_key": current.sealing,
            "lookup_key": current.lookup,
            "file_name_index": index(PersonalField.FILE_NAME, given.file_name),
            "email_index": index(PersonalField.EMAIL, given.email),
        }

    def note(self, document: Document, text: str) -> str:
        """A decision's note as ``document``'s row may hold it; an empty one stays empty. Raises WrongKey, KeyringUnavailable."""
        if not text:
            return text
        if document.personal_key is None:
            return self._open(document, PersonalField.NOTE, text)
        return self._keys.seal(_place(document, PersonalField.NOTE), text, document.personal_key)

    def opened_note(self, document: Document, held: str | None) -> str | None:
        """Raises WrongKey or KeyringUnavailable."""
        return held and self._open(document, PersonalField.NOTE, held)

    def email(self, document: Document) -> str:
        """The depositor's address. Raises WrongKey or KeyringUnavailable."""
        held = self._open(document, PersonalField.EMAIL, document.depositor_email_sealed)
        return held if document.personal_key else self._personal.unseal(held)

    def depositor_name(self, document: Document) -> str | None:
        """Raises WrongKey or KeyringUnavailable."""
        held = document.depositor_name_sealed
        return held and self._open(document, PersonalField.DEPOSITOR_NAME, held)

    def file_name(self, document: Document) -> str:
        """Raises WrongKey or KeyringUnavailable."""
        return self._open(document, PersonalField.FILE_NAME, document.original_name)

    def shown(self, document: Document) -> ClearDocument:
        """For an answer. A text that does not open is told to the operators and shown empty: a list must not fail for one row.

        Raises KeyringUnavailable.
        """

        def open_text(field: PersonalField, held: str | None) -> str | None:
            try:
                return held and self._open(document, field, held)
            except WrongKey:
                _log.error("personal_text_unreadable", document_id=str(document.id), field=field.value)
                return ""

        tags, metadata = ((), {}) if self._sealed_only else (document.tags, document.metadata)
        if labels := open_text(PersonalField.LABELS, document.labels_sealed):
            tags, metadata = _labels(labels)
        pending = document.pending_decision
        texts = ClearTexts(
            file_name=open_text(PersonalField.FILE_NAME, document.original_name) or "",
            tags=tags,
            metadata=metadata,
            decision_note=open_text(PersonalField.NOTE, document.rejection_reason or document.validation_comment),
            pending_note=open_text(PersonalField.NOTE, pending.note if pending else None),
        )
        return ClearDocument(document, texts)

    def is_found_by(self, document: Document, field: PersonalField, text: str) -> bool:
        """Whether it really has the text that its index says. Raises KeyringUnavailable."""
        try:
            held = self.email(document) if field is PersonalField.EMAIL else self.file_name(document)
        except WrongKey:
            return False
        return normalised(held) == normalised(text)

    def indexes(self, tenant: str, field: PersonalField, text: str) -> tuple[bytes, ...]:
        """What documents of the tenant that have the text are found by. Raises KeyringUnavailable."""
        return tuple(self._keys.indexes(tenant, field, text).values())

    def resealed(self, document: Document) -> Document:
        """The same, its texts under the current keys. Raises WrongKey or KeyringUnavailable."""
        tags, metadata = document.tags, document.metadata
        if document.labels_sealed:
            tags, metadata = _labels(self._open(document, PersonalField.LABELS, document.labels_sealed))
        given = UploadedTexts(
            file_name=self.file_name(document),
            email=self.email(document),
            depositor_name=self.depositor_name(document),
            tags=tags,
            metadata=metadata,
        )
        pending, comment, reason = document.pending_decision, document.validation_comment, document.rejection_reason
        new = replace(
            document, **self.sealed(document.tenant, document.id, given), tags=(), metadata={}, pending_decision=None
        )
        return replace(
            new,
            validation_comment=comment and self.note(new, self._open(document, PersonalField.NOTE, comment)),
            rejection_reason=reason and self.note(new, self._open(document, PersonalField.NOTE, reason)),
            pending_decision=pending
            and replace(pending, note=self.note(new, self.opened_note(document, pending.note) or "")),
        )

    def _open(self, document: Document, field: PersonalField, held: str) -> str:
        if document.personal_key is not None:
            return self._keys.open(_place(document, field), held)
        if held and self._sealed_only:
            raise WrongKey("A text that is not sealed stands in a document's row.")
        return held


def _labels(text: str) -> tuple[tuple[str, ...], Mapping[str, Any]]:
    """Tags and metadata, as ``PersonalTexts.sealed`` writes them."""
    fields = json.loads(text)
    return tuple(fields["tags"]), fields["metadata"]


def _place(document: Document, field: PersonalField) -> TextContext:
    return TextContext(document.tenant, document.id, field)

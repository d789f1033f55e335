"""A GED, a content store, a renderer and a mail server in memory, for archiving, notification and integrity."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any
from uuid import UUID, uuid4

from domain.archive import GedDocument, GedObject
from domain.documents import Document, Language
from domain.errors import ArchiveMismatch, WrongKey
from domain.events import (
    DocumentArchived,
    DocumentQuarantined,
    DocumentRejected,
    DocumentUploaded,
    DocumentValidated,
)
from domain.mail import OutgoingMail, RenderedMail
from domain.subjects import SealedAuditField, Subject
from tests.support.builders import NOW, a_document

CONTENT = b"%PDF-1.7 " + bytes(range(256)) * 4
SHA256 = hashlib.sha256(CONTENT).hexdigest()

Path = tuple[str, ...]


def stored(*args: Any, **changes: Any) -> Document:
    """A document whose recorded size and hash are those of ``CONTENT``."""
    return replace(a_document(*args, **changes), size=len(CONTENT), sha256=SHA256)


def common(document: Document, at: datetime = NOW) -> dict[str, Any]:
    return {
        "event_id": uuid4(),
        "sequence": document.sequence,
        "occurred_at": at,
        "correlation_id": uuid4(),
        "tenant": document.tenant,
        "document_id": document.id,
        "actor": "u-1",
    }


def uploaded(document: Document) -> DocumentUploaded:
    return DocumentUploaded(
        **common(document),
        object_key=document.object_key,
        size=document.size or 0,
        mime_type="application/pdf",
        sha256=document.sha256 or "",
        type_code=document.type_code,
        dossier_ref="d-1",
    )


def validated(document: Document) -> DocumentValidated:
    return DocumentValidated(**common(document), validator="u-validator", comment_code="NONE")


def rejected(document: Document) -> DocumentRejected:
    return DocumentRejected(**common(document), validator="u-validator", comment_code="NOTED")


def quarantined(document: Document) -> DocumentQuarantined:
    return DocumentQuarantined(**common(document), reason_code="integrity_mismatch")


def archived(document: Document) -> DocumentArchived:
    return DocumentArchived(**common(document), ged_id="g-1", ged_path="/dpj/x", sha256=SHA256, retention_years=7)


class MemoryContent:
    """Gives every document ``content`` in pieces; ``error`` is raised after the first one."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.content = content
        self.error: Exception | None = None
        self.reads: list[UUID] = []
        self.open = 0

    async def read(self, document: Document) -> AsyncIterator[bytes]:
        self.reads.append(document.id)
        self.open += 1
        try:
            half = len(self.content) // 2
            yield self.content[:half]
            if self.error is not None:
                raise self.error
            yield self.content[half:]
        finally:
            self.open -= 1


@dataclass
class MemoryGedObject:
    id: str
    content: bytes | None
    document: GedDocument | None = None


class MemoryGed:
    """Objects by path. Like real ones it takes two of one name when asked twice; ``crash`` maps a call to what it raises.

    ``tells_sizes`` off: object descriptions come without a size. ``mangles``: what it stores is not what it was sent.
    """

    def __init__(self) -> None:
        self.objects: list[tuple[Path, MemoryGedObject]] = [((), MemoryGedObject("root", None))]
        self.calls: list[str] = []
        self.crash: dict[str, Exception] = {}
        self.tells_sizes = True
        self.mangles = False
        self.loses_folder_once = False
        self.loses_folders = False

    def documents(self) -> list[tuple[Path, MemoryGedObject]]:
        return [(path, held) for path, held in self.objects if held.content is not None]

    def folders(self) -> list[Path]:
        return [path for path, held in self.objects if held.content is None]

    def put(self, path: Path, content: bytes) -> str:
        held = MemoryGedObject(uuid4().hex, content)
        self.objects.append((path, held))
        return held.id

    def _call(self, name: str) -> None:
        self.calls.append(name)
        if name in self.crash:
            raise self.crash.pop(name)

    def _as_object(self, held: MemoryGedObject) -> GedObject:
        size = len(held.content) if held.content is not None and self.tells_sizes else None
        return GedObject(held.id, size)

    async def find(self, path: Sequence[str]) -> GedObject | None:
        self._call("find")
        return next((self._as_object(held) for at, held in self.objects if at == tuple(path)), None)

    async def children(self, folder: Sequence[str]) -> AsyncIterator[tuple[str, GedObject]]:
        self._call("children")
        for at, held in list(self.objects):
            if at and at[:-1] == tuple(folder):
                yield at[-1], self._as_object(held)

    async def create_folder(self, path: Sequence[str]) -> None:
        self._call("create_folder")
        assert tuple(path[:-1]) in self.folders()
        self.objects.append((tuple(path), MemoryGedObject(uuid4().hex, None)))

    async def create(
        self, folder: Sequence[str], document: GedDocument, content: AsyncIterable[bytes]
    ) -> GedObject | None:
        self._call("create")
        if self.loses_folder_once or self.loses_folders:
            self.loses_folder_once = False
            self.objects = [((), MemoryGedObject("root", None))]
        if tuple(folder) not in self.folders():
            return None
        received = b"".join([piece async for piece in content])
        if len(received) != document.size:
            raise ArchiveMismatch
        held = MemoryGedObject(uuid4().hex, received[::-1] if self.mangles else received, document)
        self.objects.append(((*folder, document.name), held))
        self._call("created")
        return self._as_object(held)

    async def read(self, object_id: str) -> AsyncIterator[bytes]:
        self._call("read")
        for _, held in self.objects:
            if held.id == object_id and held.content is not None:
                yield held.content[:100]
                yield held.content[100:]

    async def description_of(self, object_id: str) -> str | None:
        self._call("described")
        found = [held for _, held in self.objects if held.id == object_id and held.content is not None]
        if not found:
            return None
        return found[0].document.description if found[0].document is not None else ""

    def move(self, object_id: str, path: Path) -> None:
        """As a user of the GED does."""
        self.objects = [(path if held.id == object_id else at, held) for at, held in self.objects]

    async def delete(self, object_id: str) -> None:
        self._call("delete")
        self.objects = [(path, held) for path, held in self.objects if held.id != object_id]


class MemoryMails:
    """Renders the names of what it is given, and takes mails; ``error`` refuses the next one."""

    def __init__(self) -> None:
        self.sent: list[OutgoingMail] = []
        self.rendered: list[tuple[str, Language, Mapping[str, Any]]] = []
        self.error: Exception | None = None

    def render(self, template: str, language: Language, values: Mapping[str, Any]) -> RenderedMail:
        self.rendered.append((template, language, values))
        return RenderedMail(template, "text", "<p>html</p>")

    async def send(self, mail: OutgoingMail) -> None:
        if self.error is not None:
            error, self.error = self.error, None
            raise error
        self.sent.append(mail)


class PlainSeals:
    """Seals by a prefix; keys of subjects are names."""

    @property
    def subjects(self) -> PlainSubjectSeals:
        return PlainSubjectSeals()

    def seal(self, text: str) -> str:
        return f"sealed:{text}"

    def unseal(self, sealed: str) -> str:
        return sealed.removeprefix("sealed:")

    def pseudonym(self, purpose: str, value: str) -> str:
        return f"{purpose}-{value}"


class PlainSubjectSeals:
    def new(self, subject: Subject) -> str:
        return f"key-{subject.tenant}-{subject.id}"

    def seal(
        self, wrapped: str, subject: Subject, fields: Mapping[SealedAuditField, str]
    ) -> Mapping[SealedAuditField, str]:
        return {field: f"{wrapped}:{field.value}:{text}" for field, text in fields.items()}

    def unseal(self, wrapped: str, subject: Subject, field: SealedAuditField, sealed: str) -> str:
        if not sealed.startswith(f"{wrapped}:{field.value}:"):
            raise WrongKey
        return sealed.removeprefix(f"{wrapped}:{field.value}:")

    def is_of_subject(self, sealed: str) -> bool:
        return sealed.startswith("key-")

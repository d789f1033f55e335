"""Taking a document in. The steps are numbered here and in ``receive``:

1. the intent: row PENDING with this attempt's random object key and a lease, the Idempotency-Key claimed with it;
2. one pass over the stream: sniff, count, SHA-256, encrypt, put; no clear byte touches a disk;
3. the end of the content is looked at, and what the store says it holds compared with what was sent;
4. one transaction, only while the lease is held: STORED, wrapped key, DocumentUploaded, audit line and the key that it is sealed
   under, Idempotency-Key completed;
5. the answer.

Whatever fails before step 4's commit leaves no document, object or event (``processors.documents.upload_attempts``).
"""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterable, Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol
from uuid import UUID, uuid4

import structlog

from domain.documents import Document, DocumentType, Language
from domain.errors import DPJError
from domain.events import DocumentUploaded
from domain.keys import DataKey, EncryptionContext, WrappedKey
from domain.lifecycle import Status
from domain.objects import StoredObject
from domain.personal_texts import ClearDocument, ClearTexts, UploadedTexts
from domain.reconciliation import new_object_key
from domain.records import IdempotencyRecord, UploadReferences
from domain.refusals import (
    ChecksumMismatch,
    ContentMismatch,
    DocumentGone,
    DossierUnknown,
    ExtensionMismatch,
    FileTooLarge,
    IdempotencyInProgress,
    IdempotencyKeyReused,
    ParentUnknown,
    StepUnknown,
    TypeInactive,
)
from domain.shared.crash_points import reach
from domain.shared.tracing import recorded_trace
from domain.subjects import Subject
from processors.documents.callers import Caller, Origins
from processors.documents.file_extensions import fits
from processors.documents.hashing_upload_stream import HashingUploadStream
from processors.documents.idempotency_keys import check_idempotency_key
from processors.documents.media_types import media_type
from processors.documents.personal_texts import PersonalTexts
from processors.documents.transitions import Origin, canonical_json, plan_transition
from processors.documents.upload_attempts import Scope, UploadAttempt, UploadAttempts, UploadLease, UploadWork
from processors.ports.clock import Clock
from processors.ports.database import HasUploadRecords, Transactions
from processors.ports.personal_data import PersonalData

CREATED: Final = 201

BuildAnswer = Callable[[ClearDocument], Mapping[str, Any]]

_log = structlog.get_logger()


class Sniffer(Protocol):
    """Tells a file's media type from its first bytes, and from its last ones whether it is a whole file of that type."""

    @property
    def wanted(self) -> int:
        """How many of the first bytes it looks at."""
        ...

    @property
    def tail_wanted(self) -> int:
        """How many of the last bytes it looks at."""
        ...

    def sniff(self, head: bytes) -> str: ...

    def is_whole(self, media_type: str, head: bytes, tail: bytes) -> bool:
        """``media_type`` is what ``sniff`` said of ``head``."""
        ...


class ContentWriter(Protocol):
    """See ``processors.documents.content.EncryptedContent``."""

    async def new_key(self, context: EncryptionContext) -> tuple[DataKey, WrappedKey]: ...

    async def store(
        self, key: DataKey, context: EncryptionContext, object_key: str, clear: AsyncIterable[bytes]
    ) -> StoredObject: ...

    async def verify_stored(self, stored: StoredObject, clear_size: int) -> None: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Upload:
    """What a portal sends. ``content`` is read once, piece by piece; ``at_least`` is a known lower bound of its size.

    ``sha256`` (lower-case hex) and ``declared_type`` are what the portal says of the content, if it does.
    """

    type_code: str
    dossier_id: UUID
    file_name: str = field(repr=False)
    depositor_email: str = field(repr=False)
    depositor_name: str | None = field(default=None, repr=False)
    language: Language
    content: AsyncIterable[bytes] = field(repr=False)
    step_id: UUID | None = None
    parent_id: UUID | None = None
    tags: tuple[str, ...] = ()
    metadata: Mapping[str, Any] = field(default_factory=dict, repr=False)
    sha256: str | None = None
    declared_type: str | None = None
    idempotency_key: str | None = None
    at_least: int = 0

    def description(self) -> str:
        """All but the content, as one text: equal uploads have equal descriptions."""
        return canonical_json(
            {
                "type": self.type_code,
                "dossier": self.dossier_id,
                "step": self.step_id,
                "parent": self.parent_id,
                "file_name": self.file_name,
                "email": self.depositor_email,
                **({} if self.depositor_name is None else {"depositor_name": self.depositor_name}),
                "language": self.language.value,
                "tags": self.tags,
                "metadata": self.metadata,
                "sha256": self.sha256,
                "media_type": self.declared_type,
            }
        )

    def personal_texts(self) -> UploadedTexts:
        """What of it is personal."""
        return UploadedTexts(
            file_name=self.file_name,
            email=self.depositor_email,
            depositor_name=self.depositor_name,
            tags=self.tags,
            metadata=self.metadata,
        )

    def answer_fields(self) -> dict[str, Any]:
        """Members of the answer that are not kept with an Idempotency-Key: the same upload says them again."""
        return {"file_name": self.file_name, "tags": list(self.tags), "metadata": dict(self.metadata)}


@dataclass(frozen=True, slots=True)
class UploadResult:
    """The answer: HTTP status and body, as they were given the first time. ``replayed``: nothing was stored this time."""

    status: int
    body: Mapping[str, Any]
    replayed: bool


@dataclass(frozen=True, slots=True)
class _StartedUpload:
    attempt: UploadAttempt
    rule: DocumentType


@dataclass(frozen=True, slots=True)
class _ExistingUpload:
    record: IdempotencyRecord
    rule: DocumentType


class IntakeDatabase(Transactions[UploadWork], HasUploadRecords, Protocol):
    """Transactions, and an upload's rows in one call each way."""


class Intake:
    """The use case of ``POST /documents``."""

    def __init__(
        self,
        database: IntakeDatabase,
        content: ContentWriter,
        attempts: UploadAttempts,
        sniffer: Sniffer,
        personal: PersonalData,
        texts: PersonalTexts,
        clock: Clock,
        *,
        match_extension: bool = False,
    ) -> None:
        """``match_extension``: a name that ends as files of another type do is refused."""
        self._database = database
        self._content = content
        self._attempts = attempts
        self._sniffer = sniffer
        self._personal = personal
        self._texts = texts
        self._clock = clock
        self._origins = Origins(personal, clock)
        self._match_extension = match_extension

    async def receive(self, caller: Caller, upload: Upload, build_answer: BuildAnswer) -> UploadResult:
        """Take the upload in and answer; ``build_answer`` makes the answer's body, which the Idempotency-Key keeps, personal texts apart.

        Raises what ``domain.refusals`` lists under "the upload itself", and the transient errors of the dependencies.
        """
        origin = self._origins.bare(caller)
        scope = self._scope(caller, origin, upload.idempotency_key)
        fingerprint = self._fingerprint(upload)
        begun = await self._begin(caller, upload, origin, scope, fingerprint)  # 1
        if isinstance(begun, _ExistingUpload):
            return await _replay(begun, upload, fingerprint)
        reach("intake.intent")
        document = begun.attempt.document
        if document.subject_key is not None:
            origin = self._origins.under_key(document.subject_key, document, caller, origin)
        try:
            async with self._attempts.with_renewed_lease(begun.attempt) as lease:
                return await self._store_content(begun, upload, lease, origin, build_answer)  # 2 to 5
        except BaseException as error:
            code = error.code if isinstance(error, DPJError) else type(error).__name__
            _log.info("upload_failed", document_id=str(begun.attempt.document.id), code=code)
            await self._attempts.discard(begun.attempt)
            raise

    async def _begin(
        self, caller: Caller, upload: Upload, origin: Origin, scope: Scope | None, fingerprint: str
    ) -> _StartedUpload | _ExistingUpload:
        document_id = uuid4()
        object_key = new_object_key(document_id)
        claim = IdempotencyRecord(
            document_id=document_id,
            object_key=object_key,
            metadata_fingerprint=fingerprint,
            content_sha256=None,
            done=False,
            expired=False,
            response=None,
            clear_key=upload.idempotency_key,
        )
        references = await self._database.uploads.references(
            caller.tenant, upload.type_code, upload.dossier_id, upload.step_id, upload.parent_id
        )
        document = self._pending_document(caller, upload, origin, references, claim)
        refusal = _refusal(upload, references)
        lease = self._attempts.lease_seconds
        if refusal is not None and scope is None:
            raise refusal
        if (
            refusal is not None
            or upload.parent_id is not None
            or not await self._database.uploads.begin(document, scope, claim, lease)
        ):
            # A key's first answer is given again before anything else is looked at.
            begun = await self._claim(document, scope, claim, refusal)
            if isinstance(begun, IdempotencyRecord):
                return _ExistingUpload(begun, references.rule)
            document = begun
        return _StartedUpload(UploadAttempt(document, scope), references.rule)

    async def _claim(
        self, document: Document, scope: Scope | None, claim: IdempotencyRecord, refusal: DPJError | None
    ) -> IdempotencyRecord | Document:
        """What stands under the key; else the upload has begun, and this is its row. Raises ``refusal`` if the key is free.

        Versions of one parent are numbered one after another, under its row's lock.
        """
        async with self._database.transaction() as work:
            if scope is not None:
                held = await work.idempotency.claim(scope, claim, self._attempts.lease_seconds)
                if held is not None:
                    return held
            if refusal is not None:
                raise refusal
            if document.parent_id is not None:
                number = await work.documents.next_version(document.parent_id)
                document = replace(document, version_number=number)
            await work.uploads.begin(document, self._attempts.lease_seconds)
        return document

    def _pending_document(
        self,
        caller: Caller,
        upload: Upload,
        origin: Origin,
        references: UploadReferences,
        claim: IdempotencyRecord,
    ) -> Document:
        return Document(
            id=claim.document_id,
            tenant=caller.tenant,
            dossier_id=upload.dossier_id,
            step_id=upload.step_id,
            type_code=upload.type_code,
            category=None,
            stored_name=str(claim.document_id),
            object_key=claim.object_key,
            status=Status.PENDING,
            mandatory=upload.type_code in (references.mandatory_documents or ()),
            depositor_id=origin.actor,
            language=upload.language,
            version_number=(references.parent_version or 0) + 1,
            parent_id=upload.parent_id,
            correlation_id=origin.correlation_id,
            trace_id=recorded_trace(),
            created_at=origin.at,
            updated_at=origin.at,
            **self._texts.sealed(caller.tenant, claim.document_id, upload.personal_texts()),
            subject_key=self._personal.subjects.new(Subject(caller.tenant, claim.document_id)),
        )

    async def _store_content(
        self,
        begun: _StartedUpload,
        upload: Upload,
        lease: UploadLease,
        origin: Origin,
        build_answer: BuildAnswer,
    ) -> UploadResult:
        document, rule = begun.attempt.document, begun.rule
        stream = HashingUploadStream(upload.content, rule.max_size_bytes, lease, tail_wanted=self._sniffer.tail_wanted)
        head = await stream.head(self._sniffer.wanted)
        sniffed = self._sniffer.sniff(head)
        mime_type = media_type(upload.declared_type, sniffed, rule.allowed_formats)
        if self._match_extension and not fits(upload.file_name, mime_type):
            raise ExtensionMismatch(f"The file's name does not end as one of {mime_type} may.")
        context = EncryptionContext(document.tenant, document.id)
        key, wrapped = await self._content.new_key(context)
        with key:
            stored = await self._content.store(key, context, document.object_key, stream.chunks())  # 2
        reach("intake.stored")
        if upload.sha256 is not None and upload.sha256 != stream.sha256:
            raise ChecksumMismatch("The bytes received do not have the announced SHA-256.")
        if not self._sniffer.is_whole(sniffed, head, stream.tail):
            raise ContentMismatch(
                f"The content begins as {mime_type} and does not end so: it is something else, or cut off."
            )
        await self._content.verify_stored(stored, stream.size)  # 3
        reach("intake.checked")
        facts = {
            "mime_type": mime_type,
            "size": stream.size,
            "sha256": stream.sha256,
            "wrapped_key": wrapped,
            "object_etag": stored.etag,
            "object_size": stored.size,
        }
        body = await self._finish(begun.attempt, upload, origin, facts, build_answer)  # 4
        reach("intake.committed")
        _log.info("document_stored", document_id=str(document.id), tenant=document.tenant, size=stream.size)
        return UploadResult(CREATED, body, replayed=False)  # 5

    async def _finish(
        self,
        attempt: UploadAttempt,
        upload: Upload,
        origin: Origin,
        facts: Mapping[str, Any],
        build_answer: BuildAnswer,
    ) -> Mapping[str, Any]:
        document = attempt.document
        dossier_ref = self._personal.pseudonym("dossier", str(document.dossier_id))
        origin = replace(origin, at=self._clock.now())
        change = plan_transition(
            document,
            Status.STORED,
            origin,
            events=[
                lambda common: DocumentUploaded(
                    **common,
                    object_key=document.object_key,
                    size=facts["size"],
                    mime_type=facts["mime_type"],
                    sha256=facts["sha256"],
                    type_code=document.type_code,
                    dossier_ref=dossier_ref,
                )
            ],
            # With the SHA-256: after a restore of the database the audit log alone says what was taken in.
            details={
                "size": facts["size"],
                "mime_type": facts["mime_type"],
                "type": document.type_code,
                "sha256": facts["sha256"],
            },
            deposited_at=origin.at,
            **facts,
        )
        texts = ClearTexts(file_name=upload.file_name, tags=upload.tags, metadata=upload.metadata)
        body = build_answer(ClearDocument(change.new, texts))
        kept = {**body, **dict.fromkeys(upload.answer_fields())}
        await self._database.uploads.complete(change, attempt.scope, {"status": CREATED, "body": kept})
        return body

    def _scope(self, caller: Caller, origin: Origin, key: str | None) -> Scope | None:
        """The key is kept as a keyed hash: clients make them of what they have, file names and addresses too."""
        if key is None:
            return None
        check_idempotency_key(key)
        hashed = self._personal.pseudonym("idempotency-key", f"{caller.tenant} {origin.actor} {key}")
        return caller.tenant, origin.actor, hashed

    def _fingerprint(self, upload: Upload) -> str:
        """Keyed, because a description holds an e-mail address and could otherwise be guessed from its hash."""
        digest = hashlib.sha256(upload.description().encode()).hexdigest()
        return self._personal.pseudonym("idempotency", digest)


async def _replay(held: _ExistingUpload, upload: Upload, fingerprint: str) -> UploadResult:
    """The first answer again, if this is the same upload; its content is read to the end and stored nowhere."""
    record = held.record
    if record.done and record.response is None:
        raise DocumentGone("The document that came with this key was erased.")
    if record.metadata_fingerprint != fingerprint:
        raise IdempotencyKeyReused("The key came with other metadata before.")
    if not record.done or record.response is None:
        raise IdempotencyInProgress("An upload with this key is under way.")
    stream = HashingUploadStream(upload.content, held.rule.max_size_bytes, UploadLease())
    async for _ in stream.chunks():
        pass
    if stream.sha256 != record.content_sha256:
        raise IdempotencyKeyReused("The key came with other content before.")
    return UploadResult(
        int(record.response["status"]), {**record.response["body"], **upload.answer_fields()}, replayed=True
    )


def _refusal(upload: Upload, references: UploadReferences) -> DPJError | None:
    """What is wrong with the upload before a byte of it is read."""
    rule = references.rule
    if not rule.active:
        return TypeInactive("The document type is not in use.")
    if upload.at_least > rule.max_size_bytes:
        return FileTooLarge(f"The document type takes at most {rule.max_size_bytes} bytes.")
    if not references.dossier_known:
        return DossierUnknown("The tenant has no such dossier.")
    if upload.step_id is not None and references.mandatory_documents is None:
        return StepUnknown("The dossier has no such step.")
    if upload.parent_id is not None and references.parent_version is None:
        return ParentUnknown("The dossier has no such document.")
    return None

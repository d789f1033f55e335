"""Every error the pipeline raises on purpose: one root, a stable code, a kind.

The kind says what may be done about it and is all that delivery looks at:

* ``REFUSED``: the caller's request can't be met as it is; nothing was changed.
* ``TRANSIENT``: a dependency is away; the same call may succeed later.
* ``PERMANENT``: this document or event can't be processed, however often it is tried.

What a code means over HTTP and in metrics is in ``domain.failures``. ``detail`` reaches users, so it never holds personal
data, secrets or a dependency's own words.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class Kind(Enum):
    """What may be done about an error."""

    REFUSED = "refused"
    TRANSIENT = "transient"
    PERMANENT = "permanent"


class DPJError(Exception):
    """Root of all errors. ``code`` is part of the API and never changes its meaning."""

    code: ClassVar[str] = "internal_error"
    kind: ClassVar[Kind] = Kind.PERMANENT

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail or self.code)
        self.detail = detail


class Refused(DPJError):
    kind = Kind.REFUSED


class Transient(DPJError):
    """``waiting_for`` names the dependency in metrics and in /readyz; ``retry_after`` is in seconds.

    ``outage`` is False where the failure is this one call's (a queue of ours is full, one key is not there yet): it says
    nothing of the dependency as a whole, so circuit breakers don't count it.
    """

    kind = Kind.TRANSIENT
    waiting_for: ClassVar[str] = "dependency"
    retry_after: ClassVar[int] = 5

    def __init__(self, detail: str = "", *, outage: bool = True) -> None:
        super().__init__(detail)
        self.outage = outage


class Permanent(DPJError):
    kind = Kind.PERMANENT


# --- Refused: access -------------------------------------------------------------------------------------------------


class Unauthenticated(Refused):
    code = "unauthenticated"


class Forbidden(Refused):
    code = "forbidden"


# --- Refused: what was asked for -------------------------------------------------------------------------------------


class DocumentNotFound(Refused):
    code = "document_not_found"


class DossierNotFound(Refused):
    code = "dossier_not_found"


class DossierExists(Refused):
    code = "dossier_exists"


class DossierUnknown(Refused):
    """An upload names a dossier that the tenant does not have."""

    code = "dossier_unknown"


class StepUnknown(Refused):
    """An upload names a step that its dossier does not have."""

    code = "step_unknown"


class ParentUnknown(Refused):
    """An upload names a parent version that its dossier does not have."""

    code = "parent_unknown"


class TransitionRefused(Refused):
    """The lifecycle table has no such transition from the document's present state."""

    code = "transition_refused"


class StateChanged(Refused):
    """Another actor changed the document between our look and our write."""

    code = "state_changed"


class ContentNotAvailable(Refused):
    code = "content_not_available"


class DocumentGone(Refused):
    """The document is being erased, or was: nothing of it can be had any more."""

    code = "document_erased"


class LegalHoldStands(Refused):
    """A legal hold keeps the document from being erased, whatever the legal basis."""

    code = "legal_hold"


class LegalHoldNotFound(Refused):
    code = "legal_hold_not_found"


class RetentionRunning(Refused):
    """The document has to be kept until its retention ends, unless a legal basis for erasing it before is stated."""

    code = "retention_running"


class RetentionNotExtended(Refused):
    """A retention can be made longer, never shorter."""

    code = "retention_not_extended"


class ReceiptNotFound(Refused):
    """The document was not erased, or its erasure is not complete yet."""

    code = "erasure_receipt_not_found"


class ThumbnailNotFound(Refused):
    code = "thumbnail_not_found"


class RangeNotSatisfiable(Refused):
    code = "range_not_satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__("The range lies outside the document.")
        self.size = size


class CursorInvalid(Refused):
    code = "cursor_invalid"


class ParameterInvalid(Refused):
    code = "parameter_invalid"


# --- Refused: the upload itself --------------------------------------------------------------------------------------


class MediaTypeUnsupported(Refused):
    """The request body is neither multipart/form-data nor a raw body of a known form."""

    code = "media_type_unsupported"


class BodyMalformed(Refused):
    code = "body_malformed"


class BodyTruncated(Refused):
    code = "body_truncated"


class BodyTooSlow(Refused):
    code = "body_too_slow"


class MetadataInvalid(Refused):
    code = "metadata_invalid"


class FileEmpty(Refused):
    code = "file_empty"


class FileTooLarge(Refused):
    code = "file_too_large"


class TypeUnknown(Refused):
    code = "type_unknown"


class TypeInactive(Refused):
    code = "type_inactive"


class FormatNotAllowed(Refused):
    """The sniffed content is of a format that the document type does not allow."""

    code = "format_not_allowed"


class ContentMismatch(Refused):
    """The declared media type is not what the content is."""

    code = "content_mismatch"


class ChecksumMismatch(Refused):
    """The SHA-256 that the portal announced is not that of the bytes received."""

    code = "checksum_mismatch"


class UploadSuperseded(Refused):
    """The upload's lease ran out and it was abandoned or taken over; nothing of it is kept."""

    code = "upload_superseded"


class IdempotencyKeyInvalid(Refused):
    code = "idempotency_key_invalid"


class IdempotencyKeyReused(Refused):
    code = "idempotency_key_reused"


class IdempotencyInProgress(Refused):
    code = "idempotency_in_progress"


# --- Transient: a dependency is away ---------------------------------------------------------------------------------


class DatabaseUnavailable(Transient):
    code = "database_unavailable"
    waiting_for = "postgresql"


class ObjectStoreUnavailable(Transient):
    code = "object_store_unavailable"
    waiting_for = "object_store"


class KeyringUnavailable(Transient):
    code = "keyring_unavailable"
    waiting_for = "keyring"


class BrokerUnavailable(Transient):
    code = "broker_unavailable"
    waiting_for = "kafka"


class RegistryUnavailable(Transient):
    code = "registry_unavailable"
    waiting_for = "schema_registry"


class GedUnavailable(Transient):
    code = "ged_unavailable"
    waiting_for = "ged"


class GedOutcomeUnknown(GedUnavailable):
    """A creation may have taken place, or may still do so: nobody knows yet."""

    code = "ged_outcome_unknown"


class MailUnavailable(Transient):
    code = "mail_unavailable"
    waiting_for = "smtp"


class AuditStoreUnavailable(Transient):
    """MongoDB is away: the audit log or the extended metadata can't be written or read."""

    code = "audit_store_unavailable"
    waiting_for = "mongodb"


class RendererUnavailable(Transient):
    """No rendering child can be started, or the pool is closing; it says nothing about the document."""

    code = "renderer_unavailable"
    waiting_for = "renderer"


class IdentityUnavailable(Transient):
    """The keys that verify tokens can't be had."""

    code = "identity_unavailable"
    waiting_for = "identity_provider"


class DocumentBusy(Transient):
    """Another worker of the group holds this document; it will be free when that one finishes or its lease ends."""

    code = "document_busy"
    waiting_for = "other_worker"


class ClaimLost(Transient):
    """Our lease on an event was taken over while we worked on it; whoever holds it now finishes it."""

    code = "claim_lost"
    waiting_for = "other_worker"


# --- Permanent: this document or event can't be processed ------------------------------------------------------------


class EventUndecodable(Permanent):
    code = "event_undecodable"


class SchemaMissing(Permanent):
    """The registry does not hold the schema that this release writes; ``dpj schemas register`` does that."""

    code = "schema_missing"


class SchemaRefused(Permanent):
    """The registry finds a schema invalid, or unable to read an earlier version of its subject."""

    code = "schema_refused"


class ObjectMissing(Permanent):
    """The object store answers that it has no such object."""

    code = "object_missing"


class EnvelopeInvalid(Permanent):
    """Stored bytes are not a valid envelope: altered, truncated, or extended."""

    code = "envelope_invalid"


class WrongKey(Permanent):
    """The data key does not open this envelope (commitment), or the wrapped key does not belong to this document."""

    code = "wrong_key"


class IntegrityMismatch(Permanent):
    """The stored document is not the one that was received."""

    code = "integrity_mismatch"


class ArchiveMismatch(Permanent):
    """What the GED gives back is not what it was sent."""

    code = "archive_mismatch"


class ArchiveRefused(Permanent):
    """The GED refuses this document for good."""

    code = "archive_refused"


class MailRefused(Permanent):
    """The mail server refuses this message or recipient for good."""

    code = "mail_refused"


class AuditConflict(Permanent):
    """The audit store holds another entry in the place of one of ours: it was altered, or two chains were mixed."""

    code = "audit_conflict"


class GivenUpByOperator(Permanent):
    """The event was held until an operator ordered it to be given up."""

    code = "given_up_by_operator"


class UnexpectedFailure(Permanent):
    """A defect of ours: an error nobody foresaw, still there after the bounded retries."""

    code = "unexpected_failure"

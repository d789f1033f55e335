"""What was refused: what was asked for can't be done as it was asked, whatever is up or away. See ``domain.errors``."""

from __future__ import annotations

from domain.errors import Refused

# --- Access ----------------------------------------------------------------------------------------------------------


class Unauthenticated(Refused):
    code = "unauthenticated"


class Forbidden(Refused):
    code = "forbidden"


class TenantUnknown(Refused):
    """Nobody created the tenant, so nothing is done in its name."""

    code = "tenant_unknown"


class TenantNotYours(Refused):
    """An operator who is bound to tenants named another one; nobody says whether there is one of that name."""

    code = "tenant_not_yours"


class OperatorBound(Refused):
    """An operator who is bound to tenants asked for what concerns all of them."""

    code = "operator_bound"


class DepositorDecides(Refused):
    """Who deposited a document may not decide about it where duties are separated."""

    code = "depositor_may_not_decide"


class SecondPersonNeeded(Refused):
    """The act takes two persons, and this is the one who ordered it, or nobody ordered it yet."""

    code = "second_person_needed"


class OrderNotFound(Refused):
    """There is no such order, or it has expired, or another one stands in its place."""

    code = "order_not_found"


class OrderNotYours(Refused):
    """Who gave an order withdraws it; another one leaves it unconfirmed."""

    code = "order_not_yours"


class OrderConfirmed(Refused):
    """Two persons have agreed: what was ordered is being carried out."""

    code = "order_confirmed"


class RestoreNotLookedAt(Refused):
    """A repair is what a look of the last hour found, and there is none."""

    code = "restore_not_looked_at"


class SignInAgain(Refused):
    """An act without a way back, by somebody who said too long ago who he is."""

    code = "sign_in_again"


class PlanChanged(Refused):
    """What was confirmed is not what would be done now: a plan is confirmed by the hash of what was read."""

    code = "plan_changed"


class NothingToDo(Refused):
    """A plan in which nothing would be done."""

    code = "nothing_to_do"


class BatchNotFound(Refused):
    code = "batch_not_found"


class BatchStateRefused(Refused):
    """The batch is not in a state from which that is possible."""

    code = "batch_state"


class ConsumerUnknown(Refused):
    code = "consumer_unknown"


class PauseRefused(Refused):
    """The consumer is paused by somebody already, or is not."""

    code = "pause_refused"


class RateLimited(Refused):
    """A client's quota named ``limit`` is used up for ``retry_after`` seconds; ``headers`` say so to the client."""

    code = "rate_limited"

    def __init__(self, limit: str, retry_after: int, headers: tuple[tuple[str, str], ...] = ()) -> None:
        super().__init__(f"The quota {limit} is used up.")
        self.limit = limit
        self.retry_after = retry_after
        self.headers = headers


# --- What was asked for ----------------------------------------------------------------------------------------------


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


class ReceiptNotAvailable(Refused):
    """The document's state gives it no receipt: it is not archived."""

    code = "receipt_not_available"


class ReceiptPending(Refused):
    """The document is archived; the checkpoint that proves it is still to come, in about ``retry_after`` seconds."""

    code = "receipt_pending"

    def __init__(self, detail: str = "", *, retry_after: int = 60) -> None:
        super().__init__(detail)
        self.retry_after = retry_after


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


class ErasureReceiptNotFound(Refused):
    """The document was not erased, or its erasure is not complete yet."""

    code = "erasure_receipt_not_found"


class LinkNotFound(Refused):
    """There is no such link, or none any more: one answer for all, so that guessing tells nothing."""

    code = "link_not_found"


class LinksUnavailable(Refused):
    """No link can be made: the site has no key for links, or the document has too many."""

    code = "links_unavailable"


class ThumbnailNotFound(Refused):
    code = "thumbnail_not_found"


class ThumbnailSizeInvalid(Refused):
    """A thumbnail is asked for in a size that no document has one of."""

    code = "thumbnail_size_invalid"


class RangeNotSatisfiable(Refused):
    code = "range_not_satisfiable"

    def __init__(self, size: int) -> None:
        super().__init__("The range lies outside the document.")
        self.size = size


class CursorInvalid(Refused):
    code = "cursor_invalid"


class ParameterInvalid(Refused):
    code = "parameter_invalid"


class TokenAlreadyExpired(Refused):
    """A revocation names a time that has passed: the token counts no longer by itself, or the time is wrong."""

    code = "token_already_expired"


# --- The upload itself -----------------------------------------------------------------------------------------------


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


class ExtensionMismatch(Refused):
    """The file's name ends as files of another type do."""

    code = "extension_mismatch"


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


# --- An operator's act on keys ---------------------------------------------------------------------------------------


class TenantInvalid(Refused):
    """No tenant can have this name."""

    code = "tenant_invalid"


class KeyVersionInUse(Refused):
    """A version of a key can't be retired: something is still wrapped under it, or may be in a moment."""

    code = "key_version_in_use"


class PersonalKeyInUse(Refused):
    """A personal-data key can't be retired: documents' texts are still sealed, or looked up, under it."""

    code = "personal_key_in_use"

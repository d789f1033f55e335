"""The one table that says what each error code means outside: HTTP status, title, advice, metric label, delivery policy.

Metric labels are the codes themselves; ``policy`` follows from the error's kind and is listed so that operators can read
it here: ``answer`` (tell the caller), ``hold`` (wait and try again as long as it takes), ``dead_letter`` (give up on it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from domain import errors
from domain.errors import DPJError, Kind

POLICY_OF_KIND: Final[dict[Kind, str]] = {
    Kind.REFUSED: "answer",
    Kind.TRANSIENT: "hold",
    Kind.PERMANENT: "dead_letter",
}


@dataclass(frozen=True, slots=True)
class Failure:
    """One row: ``http_status``, a short ``title``, ``advice`` (what to do), ``label`` for metrics, ``policy``."""

    http_status: int
    title: str
    advice: str
    label: str
    policy: str


_ROWS: Final[tuple[tuple[type[DPJError], int, str, str], ...]] = (
    (DPJError, 500, "Internal error", "Try again; if it persists, report the trace id to the operators."),
    (errors.Unauthenticated, 401, "Not authenticated", "Send a valid, unexpired Bearer token."),
    (errors.Forbidden, 403, "Not allowed", "Use a token whose role allows this action."),
    (errors.DocumentNotFound, 404, "Document not found", "Check the id; documents of other tenants are not visible."),
    (errors.DossierNotFound, 404, "Dossier not found", "Check the id; dossiers of other tenants are not visible."),
    (errors.DossierExists, 409, "Dossier exists", "Use the existing dossier of that number."),
    (errors.DossierUnknown, 422, "Unknown dossier", "Create the dossier first, or name one of your own."),
    (errors.StepUnknown, 422, "Unknown step", "Name a step of that dossier, or leave the step out."),
    (errors.ParentUnknown, 422, "Unknown parent version", "Name an earlier document of the same dossier."),
    (errors.TransitionRefused, 409, "Not possible in this state", "Read the document's state, then decide again."),
    (errors.StateChanged, 409, "State changed meanwhile", "Read the document's state, then decide again."),
    (errors.ContentNotAvailable, 409, "Content not available", "The document's state does not allow reading it."),
    (errors.DocumentGone, 410, "Erased", "The document was erased; see its erasure receipt."),
    (errors.LegalHoldStands, 409, "Under a legal hold", "Have the legal holds lifted first."),
    (errors.LegalHoldNotFound, 404, "No such legal hold", "See GET /api/v1/documents/{id}/retention."),
    (errors.RetentionRunning, 409, "Retention has not ended", "State a legal basis, or wait until it has ended."),
    (errors.RetentionNotExtended, 409, "Retention not extended", "Name a time after the present end."),
    (errors.ReceiptNotFound, 404, "No erasure receipt", "Read the document's state; the receipt comes with ERASED."),
    (errors.ThumbnailNotFound, 404, "No thumbnail", "The detail says whether one is still to come."),
    (errors.RangeNotSatisfiable, 416, "Range not satisfiable", "Ask for bytes within the document's size."),
    (errors.CursorInvalid, 400, "Invalid cursor", "Use next_cursor of the previous page unchanged."),
    (errors.ParameterInvalid, 400, "Invalid parameter", "Correct the parameters named in errors."),
    (errors.MediaTypeUnsupported, 415, "Unsupported request media type", "Send multipart/form-data or a raw body."),
    (errors.BodyMalformed, 400, "Malformed body", "Send well-formed multipart: part metadata, then part file."),
    (errors.BodyTruncated, 400, "Truncated body", "Send the body again, whole, with the same Idempotency-Key."),
    (errors.BodyTooSlow, 408, "Body too slow", "Send the body again over a faster connection."),
    (errors.MetadataInvalid, 422, "Invalid metadata", "Correct the fields named in errors."),
    (errors.FileEmpty, 422, "Empty file", "Send a file with content."),
    (errors.FileTooLarge, 413, "File too large", "See the maximum size of the document type."),
    (errors.TypeUnknown, 422, "Unknown document type", "See GET /api/v1/document-types."),
    (errors.TypeInactive, 422, "Inactive document type", "See GET /api/v1/document-types."),
    (errors.FormatNotAllowed, 415, "Format not allowed", "See the formats that the document type allows."),
    (errors.ContentMismatch, 415, "Content is not what was declared", "Declare the file's real media type."),
    (errors.ChecksumMismatch, 422, "Checksum mismatch", "Compute the SHA-256 of the bytes sent, or send them again."),
    (errors.UploadSuperseded, 409, "Upload superseded", "Send the document again with the same Idempotency-Key."),
    (errors.IdempotencyKeyInvalid, 400, "Invalid Idempotency-Key", "Use 1 to 128 visible ASCII characters."),
    (errors.IdempotencyKeyReused, 422, "Idempotency-Key reused", "Use a new key for a different document."),
    (errors.IdempotencyInProgress, 409, "Upload in progress", "Wait, then repeat the request with the same key."),
    (errors.DatabaseUnavailable, 503, "Database unavailable", "Repeat the request after Retry-After."),
    (errors.ObjectStoreUnavailable, 503, "Object store unavailable", "Repeat the request after Retry-After."),
    (errors.KeyringUnavailable, 503, "Keyring unavailable", "Repeat the request after Retry-After."),
    (errors.BrokerUnavailable, 503, "Broker unavailable", "Repeat the request after Retry-After."),
    (errors.RegistryUnavailable, 503, "Schema registry unavailable", "Repeat the request after Retry-After."),
    (errors.GedUnavailable, 503, "GED unavailable", "Repeat the request after Retry-After."),
    (errors.GedOutcomeUnknown, 503, "Outcome in the GED unknown", "Repeat the request after Retry-After."),
    (errors.MailUnavailable, 503, "Mail server unavailable", "Repeat the request after Retry-After."),
    (errors.AuditStoreUnavailable, 503, "Audit store unavailable", "Repeat the request after Retry-After."),
    (errors.RendererUnavailable, 503, "Renderer unavailable", "Repeat the request after Retry-After."),
    (errors.IdentityUnavailable, 503, "Token keys unavailable", "Repeat the request after Retry-After."),
    (errors.DocumentBusy, 503, "Document busy", "Repeat the request after Retry-After."),
    (errors.ClaimLost, 503, "Claim lost", "Repeat the request after Retry-After."),
    (errors.EventUndecodable, 500, "Undecodable event", "See the dead letters of the consumer."),
    (errors.SchemaMissing, 500, "Schema not registered", "Run: dpj schemas register."),
    (errors.SchemaRefused, 500, "Schema refused", "Run: python -m schemas.compatibility, then mend the schema."),
    (errors.ObjectMissing, 500, "Stored object missing", "Report the document id to the operators."),
    (errors.EnvelopeInvalid, 500, "Stored object damaged", "Report the document id to the operators."),
    (errors.WrongKey, 500, "Stored object not readable", "Report the document id to the operators."),
    (errors.IntegrityMismatch, 500, "Stored object differs", "Report the document id to the operators."),
    (errors.ArchiveMismatch, 500, "Archived copy differs", "Look at the GED, then report the document id."),
    (errors.ArchiveRefused, 500, "Archive refused", "Look at the GED, then report the document id."),
    (errors.MailRefused, 500, "Mail refused", "Check the recipient's address."),
    (errors.AuditConflict, 500, "Audit log differs", "Run: dpj audit verify."),
    (errors.GivenUpByOperator, 500, "Given up by an operator", "See the dead letters of the consumer."),
    (errors.UnexpectedFailure, 500, "Unexpected failure", "Report the trace id to the operators."),
)

FAILURES: Final[dict[str, Failure]] = {
    error.code: Failure(status, title, advice, error.code, POLICY_OF_KIND[error.kind])
    for error, status, title, advice in _ROWS
}

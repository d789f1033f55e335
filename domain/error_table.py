"""The one table that says what each error code means outside: HTTP status, title, advice, metric label, delivery policy.

Metric labels are the codes themselves; ``policy`` follows from the error's kind and is listed so that operators can read
it here: ``answer`` (tell the caller), ``hold`` (wait and try again as long as it takes), ``dead_letter`` (give up on it).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from domain import errors, refusals
from domain.errors import DPJError, ErrorKind

POLICY_OF_KIND: Final[dict[ErrorKind, str]] = {
    ErrorKind.REFUSED: "answer",
    ErrorKind.TRANSIENT: "hold",
    ErrorKind.PERMANENT: "dead_letter",
}


@dataclass(frozen=True, slots=True)
class ErrorEntry:
    """One row: ``http_status``, a short ``title``, ``advice`` (what to do), ``label`` for metrics, ``policy``."""

    http_status: int
    title: str
    advice: str
    label: str
    policy: str


_ROWS: Final[tuple[tuple[type[DPJError], int, str, str], ...]] = (
    (DPJError, 500, "Internal error", "Try again; if it persists, report the trace id to the operators."),
    (refusals.Unauthenticated, 401, "Not authenticated", "Send a valid, unexpired Bearer token."),
    (refusals.Forbidden, 403, "Not allowed", "Use a token whose role allows this action."),
    (refusals.TenantUnknown, 403, "Unknown tenant", "Operators: dpj keys create --tenant TENANT."),
    (refusals.TenantNotYours, 403, "Not your tenant", "Name one of your tenants, or ask an operator of that one."),
    (refusals.OperatorBound, 403, "Bound to tenants", "Ask an operator who is bound to no tenant."),
    (refusals.DepositorDecides, 403, "Deposited by yourself", "Have another validator decide about it."),
    (refusals.SecondPersonNeeded, 403, "Second person needed", "Have another operator confirm the order."),
    (refusals.OrderNotFound, 404, "No such order", "Read the order that stands, or order it again."),
    (refusals.OrderNotYours, 403, "Not your order", "Have who gave it withdraw it, or leave it unconfirmed."),
    (
        refusals.RestoreNotLookedAt,
        409,
        "Restore not looked at",
        "Have the act check_restore done first, then plan the repair.",
    ),
    (refusals.OrderConfirmed, 409, "Order confirmed", "Repeat the confirming command until it is done."),
    (refusals.SignInAgain, 403, "A new sign-in is needed", "Sign in again, then confirm the act."),
    (refusals.PlanChanged, 409, "The plan has changed", "Read the new plan, then confirm it."),
    (refusals.NothingToDo, 409, "Nothing to do", "Read the plan: it says why nothing would be done."),
    (refusals.BatchNotFound, 404, "No such batch", "See GET /api/v1/operations/batches."),
    (refusals.BatchStateRefused, 409, "Not possible in this state", "Read the batch's state, then decide again."),
    (refusals.ConsumerUnknown, 404, "No such consumer", "The detail names the consumers."),
    (refusals.PauseRefused, 409, "Not possible now", "See GET /api/v1/operations/pauses."),
    (refusals.RateLimited, 429, "Too many requests", "Wait as long as Retry-After says, then go on more slowly."),
    (refusals.DocumentNotFound, 404, "Document not found", "Check the id; documents of other tenants are not visible."),
    (refusals.DossierNotFound, 404, "Dossier not found", "Check the id; dossiers of other tenants are not visible."),
    (refusals.DossierExists, 409, "Dossier exists", "Use the existing dossier of that number."),
    (refusals.DossierUnknown, 422, "Unknown dossier", "Create the dossier first, or name one of your own."),
    (refusals.StepUnknown, 422, "Unknown step", "Name a step of that dossier, or leave the step out."),
    (refusals.ParentUnknown, 422, "Unknown parent version", "Name an earlier document of the same dossier."),
    (refusals.TransitionRefused, 409, "Not possible in this state", "Read the document's state, then decide again."),
    (refusals.StateChanged, 409, "State changed meanwhile", "Read the document's state, then decide again."),
    (refusals.ContentNotAvailable, 409, "Content not available", "The document's state does not allow reading it."),
    (refusals.ReceiptNotAvailable, 409, "No receipt", "The detail says why; a receipt comes with archiving."),
    (refusals.ReceiptPending, 409, "Receipt still to come", "Repeat the request after Retry-After."),
    (refusals.DocumentGone, 410, "Erased", "The document was erased; see its erasure receipt."),
    (refusals.LegalHoldStands, 409, "Under a legal hold", "Have the legal holds lifted first."),
    (refusals.LegalHoldNotFound, 404, "No such legal hold", "See GET /api/v1/documents/{id}/retention."),
    (refusals.RetentionRunning, 409, "Retention has not ended", "State a legal basis, or wait until it has ended."),
    (refusals.RetentionNotExtended, 409, "Retention not extended", "Name a time after the present end."),
    (
        refusals.ErasureReceiptNotFound,
        404,
        "No erasure receipt",
        "Read the document's state; the receipt comes with ERASED.",
    ),
    (refusals.LinkNotFound, 404, "No such link", "Ask whoever gave you the link for a new one."),
    (refusals.LinksUnavailable, 409, "No link can be made", "See the detail; operators set DPJ_LINK_KEY_FILE."),
    (refusals.ThumbnailNotFound, 404, "No thumbnail", "The detail says whether one is still to come."),
    (refusals.ThumbnailSizeInvalid, 422, "No thumbnails of that size", "Ask for one of the sizes in the detail."),
    (refusals.RangeNotSatisfiable, 416, "Range not satisfiable", "Ask for bytes within the document's size."),
    (refusals.CursorInvalid, 400, "Invalid cursor", "Use next_cursor of the previous page unchanged."),
    (refusals.ParameterInvalid, 400, "Invalid parameter", "Correct what detail and errors name."),
    (refusals.MediaTypeUnsupported, 415, "Unsupported request media type", "Send multipart/form-data or a raw body."),
    (
        refusals.BodyMalformed,
        400,
        "Malformed body",
        "Send multipart/form-data: part metadata, then part file, and no other.",
    ),
    (refusals.BodyTruncated, 400, "Truncated body", "Send the body again, whole, with the same Idempotency-Key."),
    (refusals.BodyTooSlow, 408, "Body too slow", "Send the body again over a faster connection."),
    (
        refusals.TokenAlreadyExpired,
        422,
        "Token has expired already",
        "Leave expires_at out if it is not known, or name when the token expires.",
    ),
    (refusals.MetadataInvalid, 422, "Invalid metadata", "Correct what detail and errors name."),
    (refusals.FileEmpty, 422, "Empty file", "Send a file with content."),
    (refusals.FileTooLarge, 413, "File too large", "See the maximum size of the document type."),
    (refusals.TypeUnknown, 422, "Unknown document type", "See GET /api/v1/document-types."),
    (refusals.TypeInactive, 422, "Inactive document type", "See GET /api/v1/document-types."),
    (refusals.FormatNotAllowed, 415, "Format not allowed", "See the formats that the document type allows."),
    (refusals.ContentMismatch, 415, "Content is not what was declared", "Declare the real media type; send it whole."),
    (refusals.ExtensionMismatch, 415, "Name does not fit the content", "Give the name the ending of its media type."),
    (refusals.ChecksumMismatch, 422, "Checksum mismatch", "Compute the SHA-256 of the bytes sent, or send them again."),
    (refusals.UploadSuperseded, 409, "Upload superseded", "Send the document again with the same Idempotency-Key."),
    (refusals.IdempotencyKeyInvalid, 400, "Invalid Idempotency-Key", "Use 1 to 128 visible ASCII characters."),
    (refusals.IdempotencyKeyReused, 422, "Idempotency-Key reused", "Use a new key for a different document."),
    (refusals.IdempotencyInProgress, 409, "Upload in progress", "Wait, then repeat the request with the same key."),
    (
        refusals.TenantInvalid,
        422,
        "Invalid tenant",
        "Use 1 to 63 letters, digits, '.', '_' and '-'; 'system' is the site's own.",
    ),
    (refusals.KeyVersionInUse, 409, "Key version in use", "Run: dpj keys rewrap, then dpj keys status."),
    (refusals.PersonalKeyInUse, 409, "Personal-data key in use", "Run: dpj personal reseal, then dpj personal status."),
    (errors.DatabaseUnavailable, 503, "Database unavailable", "Repeat the request after Retry-After."),
    (errors.DatabaseLocked, 503, "Locked in the database", "Repeat the request after Retry-After."),
    (errors.DatabaseTimeout, 503, "Database too slow", "Repeat the request after Retry-After."),
    (errors.DatabaseConflict, 503, "Conflict in the database", "Repeat the request after Retry-After."),
    (
        errors.DatabaseConnectionsExhausted,
        503,
        "No connection to the database is free",
        "Repeat the request after Retry-After.",
    ),
    (
        errors.DatabaseFull,
        503,
        "Database full",
        "Operators: make room on the database's disk, then it goes on by itself.",
    ),
    (errors.RestoreUnderWay, 503, "A restore is being looked at", "Operators: dpj restore check. Repeat it later."),
    (errors.ObjectStoreUnavailable, 503, "Object store unavailable", "Repeat the request after Retry-After."),
    (errors.KeyringUnavailable, 503, "Keyring unavailable", "Repeat the request after Retry-After."),
    (errors.TenantKeyMissing, 503, "No key for this tenant", "Operators: dpj keys create --tenant TENANT."),
    (errors.KeyVersionRetired, 503, "Key version retired", "Repeat the request after Retry-After."),
    (errors.PersonalKeyMissing, 503, "Personal-data key missing", "Operators: see dpj personal status."),
    (errors.KeyringLoginRefused, 503, "Keyring login refused", "Operators: start the process with a new secret id."),
    (errors.BrokerUnavailable, 503, "Broker unavailable", "Repeat the request after Retry-After."),
    (errors.RegistryUnavailable, 503, "Schema registry unavailable", "Repeat the request after Retry-After."),
    (errors.GedUnavailable, 503, "GED unavailable", "Repeat the request after Retry-After."),
    (errors.GedOutcomeUnknown, 503, "Outcome in the GED unknown", "Repeat the request after Retry-After."),
    (errors.MailUnavailable, 503, "Mail server unavailable", "Repeat the request after Retry-After."),
    (errors.AuditStoreUnavailable, 503, "Audit store unavailable", "Repeat the request after Retry-After."),
    (errors.AntivirusUnavailable, 503, "Antivirus unavailable", "Repeat the request after Retry-After."),
    (
        errors.AntivirusLimitExceeded,
        503,
        "Antivirus limit exceeded",
        "If it stays, raise the antivirus's limits, or give the event up.",
    ),
    (errors.CheckpointStoreUnavailable, 503, "Checkpoint store unavailable", "Repeat the request after Retry-After."),
    (errors.RendererUnavailable, 503, "Renderer unavailable", "Repeat the request after Retry-After."),
    (errors.IdentityUnavailable, 503, "Token keys unavailable", "Repeat the request after Retry-After."),
    (errors.RevocationsUnavailable, 503, "Revocations unknown", "Repeat the request after Retry-After."),
    (errors.DocumentBusy, 503, "Document busy", "Repeat the request after Retry-After."),
    (errors.ClaimLost, 503, "Claim lost", "Repeat the request after Retry-After."),
    (errors.WorkStuck, 503, "Work came to no end", "Repeat the request after Retry-After."),
    (errors.EventUndecodable, 500, "Undecodable event", "See the dead letters of the consumer."),
    (errors.RecordDamaged, 500, "Damaged record", "See the dead letters of the consumer, and the broker's disks."),
    (errors.SchemaMissing, 500, "Schema not registered", "Run: dpj schemas register."),
    (errors.SchemaRefused, 500, "Schema refused", "Run: python -m schemas.compatibility, then mend the schema."),
    (errors.ObjectMissing, 500, "Stored object missing", "Report the document id to the operators."),
    (errors.EnvelopeInvalid, 500, "Stored object damaged", "Report the document id to the operators."),
    (errors.WrongKey, 500, "Stored object not readable", "Report the document id to the operators."),
    (errors.IntegrityMismatch, 500, "Stored object differs", "Report the document id to the operators."),
    (errors.MalwareFound, 500, "Malware found", "Report the document id to the operators."),
    (errors.ContentUnscannable, 500, "Content not scannable", "Report the document id to the operators."),
    (errors.ArchiveMismatch, 500, "Archived copy differs", "Look at the GED, then report the document id."),
    (errors.ArchiveRefused, 500, "Archive refused", "Look at the GED, then report the document id."),
    (errors.MailRefused, 500, "Mail refused", "Check the recipient's address."),
    (errors.AuditConflict, 500, "Audit log differs", "Run: dpj audit verify."),
    (errors.CheckpointConflict, 500, "Audit log differs from its checkpoints", "Run: dpj audit verify."),
    (errors.GivenUpByOperator, 500, "Given up by an operator", "See the dead letters of the consumer."),
    (errors.UnexpectedFailure, 500, "Unexpected failure", "Report the trace id to the operators."),
)

ERROR_TABLE: Final[dict[str, ErrorEntry]] = {
    error.code: ErrorEntry(status, title, advice, error.code, POLICY_OF_KIND[error.kind])
    for error, status, title, advice in _ROWS
}

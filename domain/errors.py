"""Every error the pipeline raises on purpose: one root, a stable code, a kind.

The kind says what may be done about it and is all that delivery looks at:

* ``REFUSED``: the caller's request can't be met as it is; nothing was changed. Those are in ``domain.refusals``.
* ``TRANSIENT``: a dependency is away; the same call may succeed later.
* ``PERMANENT``: this document or event can't be processed, however often it is tried.

What a code means over HTTP and in metrics is in ``domain.error_table``. ``detail`` reaches users, so it never holds personal
data, secrets or a dependency's own words.
"""

from __future__ import annotations

from enum import Enum
from typing import ClassVar


class ErrorKind(Enum):
    """What may be done about an error."""

    REFUSED = "refused"
    TRANSIENT = "transient"
    PERMANENT = "permanent"


class DPJError(Exception):
    """Root of all errors. ``code`` is part of the API and never changes its meaning."""

    code: ClassVar[str] = "internal_error"
    kind: ClassVar[ErrorKind] = ErrorKind.PERMANENT

    def __init__(self, detail: str = "", *, advice: str = "") -> None:
        super().__init__(detail or self.code)
        self.detail = detail
        #: What to do about this one, where the table's advice for all of its code is not enough.
        self.advice = advice


class Refused(DPJError):
    kind = ErrorKind.REFUSED


class Transient(DPJError):
    """``waiting_for`` names the dependency in metrics and in /readyz; ``retry_after`` is in seconds.

    ``outage`` is False where the failure is this one call's (a queue of ours is full, one key is not there yet): it says
    nothing of the dependency as a whole, so circuit breakers don't count it.
    """

    kind = ErrorKind.TRANSIENT
    waiting_for: ClassVar[str] = "dependency"
    retry_after: ClassVar[int] = 5

    def __init__(self, detail: str = "", *, outage: bool = True) -> None:
        super().__init__(detail)
        self.outage = outage


class Permanent(DPJError):
    kind = ErrorKind.PERMANENT


# --- Transient: a dependency is away ---------------------------------------------------------------------------------


class DatabaseUnavailable(Transient):
    code = "database_unavailable"
    waiting_for = "postgresql"


class DatabaseLocked(DatabaseUnavailable):
    """Another transaction holds a lock on what this call needs, for longer than the call waits."""

    code = "database_locked"
    retry_after = 10


class DatabaseTimeout(DatabaseUnavailable):
    """The database took too long over one statement, and ended it."""

    code = "database_timeout"
    retry_after = 10


class DatabaseConflict(DatabaseUnavailable):
    """The database chose this transaction as the victim of a deadlock, or found it at odds with another one: nothing is written."""

    code = "database_conflict"
    retry_after = 1


class DatabaseConnectionsExhausted(DatabaseUnavailable):
    """Every connection is in use: the server's (its ``max_connections``) or this process's own."""

    code = "database_connections_exhausted"


class DatabaseFull(DatabaseUnavailable):
    """The database's disk is full."""

    code = "database_full"
    retry_after = 30


class RestoreUnderWay(Transient):
    """A store was restored, and somebody looks at what that means: nothing is deleted meanwhile, and of a database that was restored to
    before no document is served until what was erased since is erased again."""

    code = "restore_under_way"
    waiting_for = "restore"
    retry_after = 60

    def __init__(self, detail: str = "") -> None:
        super().__init__(detail, outage=False)


class ObjectStoreUnavailable(Transient):
    code = "object_store_unavailable"
    waiting_for = "object_store"


class KeyringUnavailable(Transient):
    code = "keyring_unavailable"
    waiting_for = "keyring"


class TenantKeyMissing(KeyringUnavailable):
    """Nobody has created a key for this tenant (``dpj keys create``), or the keyring does not let us use it."""

    code = "tenant_key_missing"
    retry_after = 60

    def __init__(self, detail: str = "", *, outage: bool = False) -> None:
        super().__init__(detail, outage=outage)


class KeyVersionRetired(KeyringUnavailable):
    """A key was wrapped under a version that was retired meanwhile: nothing may be kept under it any more."""

    code = "key_version_retired"

    def __init__(self, detail: str = "", *, outage: bool = False) -> None:
        super().__init__(detail, outage=outage)


class PersonalKeyMissing(KeyringUnavailable):
    """The key that a personal text is sealed under has not come to this process yet (``dpj personal``)."""

    code = "personal_key_missing"
    waiting_for = "personal_keys"

    def __init__(self, detail: str = "", *, outage: bool = False) -> None:
        super().__init__(detail, outage=outage)


class KeyringLoginRefused(KeyringUnavailable):
    """What this process was given to log in with is used up or invalid: it needs another, and so a new start."""

    code = "keyring_login_refused"


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
    """MongoDB is away: the audit log or the extended metadata can't be written or read. (Where both are in PostgreSQL:
    DatabaseUnavailable.)"""

    code = "audit_store_unavailable"
    waiting_for = "mongodb"


class AntivirusUnavailable(Transient):
    """The antivirus is away, slow, or can't answer: what it has not looked at waits."""

    code = "antivirus_unavailable"
    waiting_for = "antivirus"


class AntivirusLimitExceeded(AntivirusUnavailable):
    """The antivirus says that this document is beyond a limit. Where its settings are the reason, the document waits until they are
    mended, or somebody gives it up; ``processors.events.retry_limited_scanner`` tells when the document is."""

    code = "antivirus_limit_exceeded"


class CheckpointStoreUnavailable(Transient):
    """Where audit checkpoints stay is away, or lacks the lock that keeps them."""

    code = "checkpoint_store_unavailable"
    waiting_for = "checkpoint_store"


class RendererUnavailable(Transient):
    """No rendering child can be started, or the pool is closing; it says nothing about the document."""

    code = "renderer_unavailable"
    waiting_for = "renderer"


class IdentityUnavailable(Transient):
    """The keys that verify tokens can't be had."""

    code = "identity_unavailable"
    waiting_for = "identity_provider"


class RevocationsUnavailable(Transient):
    """Which tokens are revoked can't be found out, and what was last known is too old."""

    code = "revocations_unavailable"
    waiting_for = "revocation_store"
    retry_after = 1


class DocumentBusy(Transient):
    """Another worker of the group holds this document; it will be free when that one finishes or its lease ends."""

    code = "document_busy"
    waiting_for = "other_worker"


class ClaimLost(Transient):
    """Our lease on an event was taken over while we worked on it; whoever holds it now finishes it."""

    code = "claim_lost"
    waiting_for = "other_worker"


class WorkStuck(Transient):
    """Work on an event came to no end within its deadline, though nothing it waits for said that it is away."""

    code = "work_stuck"
    waiting_for = "retry"


# --- Permanent: this document or event can't be processed ------------------------------------------------------------


class EventUndecodable(Permanent):
    code = "event_undecodable"


class RecordDamaged(Permanent):
    """A record of Kafka is proved broken: its batch's checksum, its compression, its structure or a header's name is wrong."""

    code = "record_damaged"


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


class MalwareFound(Permanent):
    """The antivirus names something in the document."""

    code = "malware_found"


class ContentUnscannable(Permanent):
    """The document is made so that the antivirus can't look through it to its end."""

    code = "content_unscannable"


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


class CheckpointConflict(Permanent):
    """The audit database is not what the last checkpoint signed: it was altered, or restored from before."""

    code = "checkpoint_conflict"


class GivenUpByOperator(Permanent):
    """The event was held until an operator ordered it to be given up."""

    code = "given_up_by_operator"


class UnexpectedFailure(Permanent):
    """A defect of ours: an error nobody foresaw, still there after the bounded retries."""

    code = "unexpected_failure"

"""Removes rows that have served their time: finished inbox entries, old Idempotency-Keys, places of audit events, uploads
that never became documents."""

from __future__ import annotations

from typing import Final

from domain.shared.crash_points import reach
from storage.postgres.connections import Connections

BATCH_ROWS: Final = 5_000
#: What no worker has noted for so long is held by none.
HELD_SECONDS: Final = 86_400.0
#: How long a link's row is kept after its end, for who asks what it was.
LINKS_SECONDS: Final = 30 * 86_400.0
#: The longest retention that a topic of ours has, and a segment.
LETTERS_DAYS: Final = 31.0
#: An order that expired counts no longer; the audit log has it.
ORDERS_SECONDS: Final = 86_400.0

#: Each deletes one batch of rows older than $1 seconds, at most $2 of them.
_STATEMENTS: Final = {
    "inbox": """
        DELETE FROM inbox WHERE (consumer, event_id) IN (
            SELECT consumer, event_id FROM inbox
            WHERE state <> 'CLAIMED' AND updated_at < now() - make_interval(secs => $1) LIMIT $2)
    """,
    "idempotency_keys": """
        DELETE FROM idempotency_keys WHERE (tenant, caller, key) IN (
            SELECT tenant, caller, key FROM idempotency_keys
            WHERE (done OR lease_until < now()) AND created_at < now() - make_interval(secs => $1) LIMIT $2)
    """,
    "audit_chained": """
        DELETE FROM audit_chained WHERE event_id IN (
            SELECT event_id FROM audit_chained WHERE chained_at < now() - make_interval(secs => $1) LIMIT $2)
    """,
    "dead_letter_marks": """
        DELETE FROM dead_letter_marks WHERE ctid IN (
            SELECT ctid FROM dead_letter_marks WHERE marked_at < now() - make_interval(secs => $1) LIMIT $2)
    """,
    "lettres_mortes": """
        DELETE FROM lettres_mortes WHERE numero IN (
            SELECT numero FROM lettres_mortes WHERE ecrite_a < now() - make_interval(secs => $1) LIMIT $2)
    """,
    # With their items. One that is under way is not forgotten, however old.
    "lots": """
        DELETE FROM lots WHERE id IN (
            SELECT id FROM lots WHERE etat NOT IN ('CANARY', 'RUNNING') AND cree_a < now() - make_interval(secs => $1)
            LIMIT $2)
    """,
    "pauses": """
        DELETE FROM pauses WHERE numero IN (
            SELECT numero FROM pauses WHERE jusqu_a < now() - make_interval(secs => $1) LIMIT $2)
    """,
    "held_events": """
        DELETE FROM held_events WHERE (consumer, event_id) IN (
            SELECT consumer, event_id FROM held_events WHERE noted_at < now() - make_interval(secs => $1) LIMIT $2)
    """,
    "document_links": """
        DELETE FROM document_links WHERE id IN (
            SELECT id FROM document_links WHERE expires_at < now() - make_interval(secs => $1) LIMIT $2)
    """,
    "ordres": """
        DELETE FROM ordres WHERE id IN (
            SELECT id FROM ordres WHERE expire_a < now() - make_interval(secs => $1) LIMIT $2)
    """,
    # They hold a file name and a sealed address; their objects went when they were abandoned, or since: reconciling finds those
    # by these rows.
    "documents": """
        DELETE FROM documents WHERE id IN (
            SELECT id FROM documents
            WHERE statut = 'ABANDONED' AND updated_at < now() - make_interval(secs => $1) LIMIT $2)
    """,
}


class PostgresHousekeeping:
    """An event is remembered for ``keep_days``: longer than Kafka could deliver it again. Safe to run in several processes.

    ``letters_days``: how long a topic of dead letters keeps one at most; its entry in the index goes with it.
    """

    def __init__(
        self,
        postgres: Connections,
        *,
        keep_days: float,
        idempotency_hours: float,
        abandoned_hours: float,
        letters_days: float = LETTERS_DAYS,
    ) -> None:
        self._postgres = postgres
        events = keep_days * 86_400.0
        self._ages = {
            "inbox": events,
            "audit_chained": events,
            "dead_letter_marks": events,
            "lettres_mortes": letters_days * 86_400.0,
            "lots": events,
            "pauses": events,
            "held_events": HELD_SECONDS,
            "document_links": LINKS_SECONDS,
            "ordres": ORDERS_SECONDS,
            "idempotency_keys": idempotency_hours * 3_600.0,
            "documents": abandoned_hours * 3_600.0,
        }

    async def run_once(self) -> dict[str, int]:
        """Rows removed by table. Raises DatabaseUnavailable; what was removed stays removed."""
        removed = dict.fromkeys(self._ages, 0)
        for table, age in self._ages.items():
            count = BATCH_ROWS
            while count == BATCH_ROWS:
                async with self._postgres.connection() as connection:
                    status = await connection.execute(_STATEMENTS[table], age, BATCH_ROWS)
                reach("housekeeping.pruned")
                count = int(status.split()[-1])
                removed[table] += count
        return removed

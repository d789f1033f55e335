"""Ends sessions whose process stopped in the middle of an exchange: no timeout of the server's does.

The driver prepares a statement with Parse, Describe and Flush, and sends Bind only after the answer. A process that is frozen
in between (stopped, swapped out, its machine paused) leaves its session ``active`` and reading: it is not idle, so
``idle_in_transaction_session_timeout`` does not count, and PostgreSQL holds ``statement_timeout`` off while it reads a message.
The same goes for a session that writes more than the sockets take. Its transaction keeps its rows until the process wakes up.
PostgreSQL 17 has ``transaction_timeout`` for it; older ones have nothing.
"""

from __future__ import annotations

from typing import Final

import structlog

from storage.postgres.connections import APPLICATION_NAMES, STATEMENT_SECONDS, Connections

log = structlog.get_logger()


class PostgresFrozenSessions:
    """Looks for sessions of our processes on this database, under our role: nobody else's is touched. ``seconds``: for so long a
    process may be silent between two messages of one exchange; one that works answers within milliseconds."""

    def __init__(self, postgres: Connections, *, seconds: float = STATEMENT_SECONDS) -> None:
        self._postgres = postgres
        self._seconds: Final = seconds

    async def run_once(self) -> int:
        """The sessions ended. Their processes find them gone, as after any loss of a session. Raises DatabaseUnavailable."""
        async with self._postgres.connection() as connection:
            ended: int = await connection.fetchval(
                """
                SELECT count(*) FILTER (WHERE pg_terminate_backend(pid)) FROM pg_stat_activity
                WHERE datname = current_database() AND usename = current_user AND application_name = ANY($1)
                    AND state = 'active' AND wait_event IN ('ClientRead', 'ClientWrite')
                    AND state_change < clock_timestamp() - make_interval(secs => $2)
                """,
                list(APPLICATION_NAMES),
                self._seconds,
            )
        if ended:
            log.warning("frozen_sessions_ended", sessions=ended)
        return ended

"""What the processes say of themselves at /readyz, read for the overview. What is missing or malformed in an answer is unknown."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final

from domain.consumers import CONSUMERS
from operations.kafka.watchdog import NOT_WAITING
from operations.overview.model import (
    CircuitOverview,
    DependencyOverview,
    PartitionOwner,
    ReconcileOverview,
    StalledPartition,
)

#: How the audit worker names a step that waits: ``audit checkpoint: keyring``.
_AUDIT_STEP: Final = "audit "
AWAY: Final = "away"


@dataclass(frozen=True, slots=True)
class ProcessAnswers:
    """``answers``: the body of each process by its name (``relay``, ``worker-archiving``, ``watchdog``); None if it does not answer."""

    answers: Mapping[str, Mapping[str, Any] | None]

    @property
    def silent(self) -> tuple[str, ...]:
        return tuple(name for name, body in self.answers.items() if body is None)

    def waits_for(self, consumer: str) -> tuple[str, ...] | None:
        """None if its worker does not answer; empty if it waits for nothing."""
        body = self._of_consumer(consumer)
        if body is None:
            return None
        waiting = _mapping(body.get("waiting_for"))
        return tuple(sorted(name for name in waiting if name not in NOT_WAITING and not name.startswith(_AUDIT_STEP)))

    def lost(self, consumer: str) -> int:
        """Events that the relay, which goes through the whole outbox once a minute, has found that Kafka brings no more."""
        count = _mapping((self.answers.get("relay") or {}).get("events_owed")).get(consumer, 0)
        return count if isinstance(count, int) else 0

    def owners(self, consumer: str) -> Mapping[str, PartitionOwner]:
        """Who has a partition (``topic/number``) of a consumer, as far as processes say so."""
        found: dict[str, PartitionOwner] = {}
        for name, body in self.answers.items():
            owned, process = _mapping((body or {}).get("owned")).get(consumer), _mapping((body or {}).get("process"))
            host, pid = process.get("host"), process.get("pid")
            if isinstance(owned, list) and isinstance(host, str) and isinstance(pid, int):
                found |= {str(place): PartitionOwner(process=name, host=host, pid=pid) for place in owned}
        return found

    def away_since(self, dependency: str) -> datetime | None:
        """The earliest that a process gives."""
        found = [
            _moment(_mapping(body.get("dependencies_away_since")).get(dependency))
            for body in self.answers.values()
            if body is not None
        ]
        return min((one for one in found if one is not None), default=None)

    def stalled(self, consumer: str) -> tuple[StalledPartition, ...] | None:
        """None if the watchdog does not answer, or can't see because the broker is away."""
        body = self.answers.get("watchdog")
        if body is None or _mapping(body.get("waiting_for")):
            return None
        found = []
        for one in body.get("stalled") or ():
            with suppress(KeyError, TypeError, ValueError):
                if one["consumer"] == consumer:
                    found.append(
                        StalledPartition(
                            topic=str(one["topic"]),
                            partition=int(one["partition"]),
                            seconds=float(one["seconds"]),
                            held_up_by=one.get("held_up_by"),
                        )
                    )
        return tuple(found)

    @property
    def dependencies(self) -> tuple[DependencyOverview, ...]:
        seen: dict[str, dict[str, str]] = {}
        for name, body in self.answers.items():
            for dependency, state in _mapping((body or {}).get("dependencies")).items():
                seen.setdefault(dependency, {})[name] = str(state)
            # The API asks when it is asked, and gives the failure where there is one.
            for dependency, answer in _mapping((body or {}).get("checks")).items():
                seen.setdefault(dependency, {})[name] = "ok" if answer == "ok" else AWAY
        return tuple(
            DependencyOverview(
                name=dependency,
                away=AWAY in states.values(),
                away_since=self.away_since(dependency),
                processes=tuple(states),
            )
            for dependency, states in sorted(seen.items())
        )

    @property
    def circuits(self) -> tuple[CircuitOverview, ...]:
        return tuple(
            CircuitOverview(process=name, dependency=dependency, state=str(state))
            for name, body in self.answers.items()
            for dependency, state in _mapping((body or {}).get("circuits")).items()
        )

    @property
    def audit_steps_stopped(self) -> tuple[str, ...] | None:
        """Steps that wait for a person. None if the audit worker does not answer."""
        body = self._of_consumer("audit")
        if body is None:
            return None
        steps = body.get("audit_stopped")
        return tuple(map(str, steps)) if isinstance(steps, list) else None

    @property
    def watchdog_looked(self) -> datetime | None:
        body = self.answers.get("watchdog")
        return None if body is None else _moment(body.get("looked"))

    @property
    def reconcile(self) -> ReconcileOverview | None:
        """None if the relay does not answer, or has made no whole run since it started."""
        body = self.answers.get("relay")
        run = _mapping((body or {}).get("reconcile"))
        at = _moment(run.get("finished_at"))
        if at is None:
            return None
        findings = {name: int(count) for name, count in _mapping(run.get("findings")).items() if count}
        return ReconcileOverview(finished_at=at, findings=findings)

    def _of_consumer(self, consumer: str) -> Mapping[str, Any] | None:
        """The answer of the process that runs it: one process may run several, under the name of its first."""
        for name in (consumer, *CONSUMERS):
            body = self.answers.get(f"worker-{name}")
            if body is not None and consumer in _mapping(body.get("consumers")):
                return body
        return None


def _mapping(value: Any) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}


def _moment(value: Any) -> datetime | None:
    with suppress(ValueError, TypeError):
        found = datetime.fromisoformat(value)
        return found if found.tzinfo is not None else None
    return None

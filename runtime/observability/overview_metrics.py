"""The overview as metrics, read from the watchdog's last look whenever they are scraped.

What is unknown is absent, never 0; ``dpj_overview_known`` says which part is. A moment is exported as a moment
(``..._timestamp_seconds``): ``time() - x`` then goes on growing when nobody looks any more, where an age would stand still. Ages are
only those that have to be 0 while nothing waits (``dpj_lag_seconds``), or run backwards (``dpj_retention_margin_seconds``).
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import datetime
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import GaugeMetricFamily
from prometheus_client.registry import Collector

from domain.error_table import ERROR_TABLE
from operations.overview.model import ConsumerOverview, Overview

#: A look that is older says nothing of now: its figures go, and the moment of the look stays.
STALE_SECONDS: Final = 300.0
#: A dead letter's code is a header, where strangers may write.
OTHER_CODE: Final = "other"

#: Labels of each metric; the name is what Prometheus has.
LABELS: Final[dict[str, tuple[str, ...]]] = {
    "dpj_lag_records": ("consumer", "topic", "partition"),
    "dpj_lag_seconds": ("consumer", "topic", "partition"),
    "dpj_lag_known": ("consumer",),
    "dpj_retention_margin_seconds": ("consumer", "topic"),
    "dpj_events_held": ("consumer", "dependency"),
    "dpj_events_held_oldest_timestamp_seconds": ("consumer", "dependency"),
    "dpj_dead_letters_open": ("consumer", "code"),
    "dpj_outbox_waiting_rows": (),
    "dpj_outbox_oldest_timestamp_seconds": (),
    "dpj_documents_waiting": ("status",),
    "dpj_documents_oldest_timestamp_seconds": ("status",),
    "dpj_oldest_document_timestamp_seconds": (),
    "dpj_oldest_deposit_timestamp_seconds": (),
    "dpj_checkpoint_newest_timestamp_seconds": (),
    "dpj_checkpoint_uncovered_tenants": (),
    "dpj_checkpoint_due_timestamp_seconds": (),
    "dpj_overview_known": ("part",),
    "dpj_overview_last_look_timestamp_seconds": (),
    "dpj_watchdog_last_look_timestamp_seconds": (),
}
_HELP: Final[dict[str, str]] = {
    "dpj_lag_records": "Records that the consumer has not consumed",
    "dpj_lag_seconds": "How long ago the first of them was written; 0 if there is none",
    "dpj_lag_known": "1 if lag and age of all the consumer's partitions are known",
    "dpj_retention_margin_seconds": "Until the topic may delete a record that the consumer has not consumed",
    "dpj_events_held": "Events that the consumer's workers hold",
    "dpj_events_held_oldest_timestamp_seconds": "Since when the first of them is held",
    "dpj_dead_letters_open": "Dead letters that nobody has handled",
    "dpj_outbox_waiting_rows": "Outbox rows that wait for the relay; counting ends at 10000",
    "dpj_outbox_oldest_timestamp_seconds": "When the first of them was written",
    "dpj_documents_waiting": "Documents in a state in which they do not stay; counting ends at 10000",
    "dpj_documents_oldest_timestamp_seconds": "Since when the first of them waits",
    "dpj_oldest_document_timestamp_seconds": "Since when the document that has waited longest has waited for the pipeline",
    "dpj_oldest_deposit_timestamp_seconds": "When that document was deposited",
    "dpj_checkpoint_newest_timestamp_seconds": "When the newest signed checkpoint was taken",
    "dpj_checkpoint_uncovered_tenants": "Tenants with audit entries that no signed checkpoint covers",
    "dpj_checkpoint_due_timestamp_seconds": "Among those tenants, when the oldest newest checkpoint was taken",
    "dpj_overview_known": "1 if this part of the last look is known",
    "dpj_overview_last_look_timestamp_seconds": "When the whole pipeline was last looked at",
    "dpj_watchdog_last_look_timestamp_seconds": "When the watchdog last saw the consumers' offsets",
}

_Sample = tuple[str, tuple[str, ...], float]


class OverviewMetrics(Collector):
    """``looked_at_offsets``: when the watchdog last saw the offsets, in Unix seconds; None if it has not yet."""

    def __init__(
        self,
        registry: CollectorRegistry,
        looked_at_offsets: Callable[[], float | None],
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._looked_at_offsets = looked_at_offsets
        self._clock = clock
        self._last: Overview | None = None
        registry.register(self)

    def looked(self, found: Overview) -> None:
        self._last = found

    def describe(self) -> Iterable[GaugeMetricFamily]:
        return [_family(name) for name in LABELS]

    def collect(self) -> Iterator[GaugeMetricFamily]:
        families = {name: _family(name) for name in LABELS}
        for name, labels, value in self._samples():
            families[name].add_metric(labels, value)
        yield from (family for family in families.values() if family.samples)

    def _samples(self) -> Iterator[_Sample]:
        if (looked := self._looked_at_offsets()) is not None:
            yield "dpj_watchdog_last_look_timestamp_seconds", (), looked
        found = self._last
        if found is None:
            return
        yield "dpj_overview_last_look_timestamp_seconds", (), found.at.timestamp()
        if self._clock() - found.at.timestamp() > STALE_SECONDS:
            return
        for consumer in found.consumers:
            yield from _of_consumer(consumer)
        yield from _of_stores(found)
        yield from _known(found)


def _family(name: str) -> GaugeMetricFamily:
    return GaugeMetricFamily(name, _HELP[name], labels=LABELS[name])


def _of_consumer(one: ConsumerOverview) -> Iterator[_Sample]:
    yield "dpj_lag_known", (one.consumer,), float(one.known)
    margins: dict[str, float] = {}
    for part in one.partitions or ():
        place = (one.consumer, part.topic, str(part.partition))
        yield "dpj_lag_records", place, part.lag
        if part.behind_seconds is not None:
            yield "dpj_lag_seconds", place, part.behind_seconds
        if part.retention_margin_seconds is not None:
            margins[part.topic] = min(part.retention_margin_seconds, margins.get(part.topic, float("inf")))
    for topic, margin in margins.items():
        yield "dpj_retention_margin_seconds", (one.consumer, topic), margin
    held: dict[str, tuple[int, datetime]] = {}
    for group in one.held or ():
        count, since = held.get(group.waiting_for, (0, group.since))
        held[group.waiting_for] = count + group.count, min(since, group.since)
    for dependency, (count, since) in held.items():
        yield "dpj_events_held", (one.consumer, dependency), count
        yield "dpj_events_held_oldest_timestamp_seconds", (one.consumer, dependency), since.timestamp()
    dead: dict[str, int] = {}
    for letters in one.dead_open or ():
        code = letters.code if letters.code in ERROR_TABLE else OTHER_CODE
        dead[code] = dead.get(code, 0) + letters.count
    for code, count in dead.items():
        yield "dpj_dead_letters_open", (one.consumer, code), count


def _of_stores(found: Overview) -> Iterator[_Sample]:
    if found.outbox is not None:
        yield "dpj_outbox_waiting_rows", (), found.outbox.waiting.number
        yield from _moment("dpj_outbox_oldest_timestamp_seconds", (), found.outbox.oldest)
    for state in found.states or ():
        yield "dpj_documents_waiting", (state.status.value,), state.count.number
        yield from _moment("dpj_documents_oldest_timestamp_seconds", (state.status.value,), state.oldest)
    if found.oldest is not None:
        yield from _moment("dpj_oldest_document_timestamp_seconds", (), found.oldest.waits_since)
        yield from _moment("dpj_oldest_deposit_timestamp_seconds", (), found.oldest.deposited_at)
    if found.checkpoints is not None:
        yield "dpj_checkpoint_uncovered_tenants", (), found.checkpoints.uncovered
        yield from _moment("dpj_checkpoint_newest_timestamp_seconds", (), found.checkpoints.newest)
        yield from _moment("dpj_checkpoint_due_timestamp_seconds", (), found.checkpoints.overdue_since)


def _known(found: Overview) -> Iterator[_Sample]:
    consumers: Sequence[ConsumerOverview] = found.consumers
    parts = {
        "kafka": all(one.partitions is not None for one in consumers),
        "outbox": found.outbox is not None,
        "states": found.states is not None,
        "held": all(one.held is not None for one in consumers),
        "dead_letters": all(one.dead_open is not None for one in consumers),
        "oldest": not found.oldest_unknown,
        "checkpoints": found.checkpoints is not None,
    }
    for part, known in parts.items():
        yield "dpj_overview_known", (part,), float(known)


def _moment(name: str, labels: tuple[str, ...], at: datetime | None) -> Iterator[_Sample]:
    if at is not None:
        yield name, labels, at.timestamp()

"""The overview as metrics: unknown is absent, labels are bounded, an old look says nothing of now."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from prometheus_client import CollectorRegistry, generate_latest

from domain.consumers import CONSUMERS
from domain.lifecycle import Status
from domain.overview import (
    CheckpointsOverview,
    Count,
    DeadGroup,
    ErasuresOverview,
    HeldGroup,
    OutboxOverview,
    StateOverview,
)
from operations.overview.model import Overview
from runtime.observability.overview_metrics import LABELS, STALE_SECONDS, OverviewMetrics
from tests.support.builders import NOW
from tests.support.overviews import a_consumer, a_partition, an_oldest, an_overview

HOUR_AGO = NOW - timedelta(hours=1)


def everything() -> Overview:
    partition = a_partition(
        partition=3, committed=5, end=9, lag=4, behind_seconds=12.5, retention_margin_seconds=1000.0
    )
    empty = replace(partition, partition=4, committed=9, lag=0, behind_seconds=0.0, retention_margin_seconds=None)
    sooner = replace(partition, partition=5, retention_margin_seconds=900.0)
    consumer = a_consumer(
        "archiving",
        lag=8,
        behind_seconds=12.5,
        known=True,
        partitions=(partition, empty, sooner),
        held=(
            HeldGroup(waiting_for="ged", code="ged_unavailable", count=3, since=HOUR_AGO, attempts=9),
            HeldGroup(waiting_for="ged", code="ged_busy", count=2, since=NOW, attempts=1),
        ),
        dead_open=(
            DeadGroup(code="archive_refused", error_class="A", count=2, newest=NOW, new=None),
            DeadGroup(code="archive_refused", error_class="B", count=1, newest=NOW, new=None),
            DeadGroup(code="strangers write here", error_class="C", count=5, newest=NOW, new=None),
        ),
    )
    return an_overview(
        consumers=(consumer,),
        outbox=OutboxOverview(waiting=Count(30), oldest=HOUR_AGO, refused=Count(1), refused_since=NOW),
        states=(StateOverview(status=Status.STORED, count=Count(7), oldest=HOUR_AGO),),
        oldest=an_oldest(waits_since=HOUR_AGO, deposited_at=HOUR_AGO - timedelta(days=1)),
        oldest_unknown=False,
        checkpoints=CheckpointsOverview(newest=NOW, overdue_since=HOUR_AGO, uncovered=2),
        erasures=ErasuresOverview(waiting=Count(1), oldest=NOW),
    )


class Scrape:
    def __init__(self, found: Overview | None, *, at: datetime = NOW, offsets: float | None = NOW.timestamp()) -> None:
        self.registry = CollectorRegistry()
        metrics = OverviewMetrics(self.registry, lambda: offsets, at.timestamp)
        if found is not None:
            metrics.looked(found)

    def value(self, name: str, **labels: str) -> float | None:
        return self.registry.get_sample_value(name, labels)

    @property
    def names(self) -> set[str]:
        return {sample.name for family in self.registry.collect() for sample in family.samples}


def test_everything_that_is_known_is_there() -> None:
    scrape = Scrape(everything())
    place = {"consumer": "archiving", "topic": "dpj.document.uploaded"}
    assert scrape.value("dpj_lag_records", **place, partition="3") == 4
    assert scrape.value("dpj_lag_seconds", **place, partition="3") == 12.5
    assert scrape.value("dpj_lag_seconds", **place, partition="4") == 0
    assert scrape.value("dpj_lag_known", consumer="archiving") == 1
    assert scrape.value("dpj_retention_margin_seconds", **place) == 900
    assert scrape.value("dpj_events_held", consumer="archiving", dependency="ged") == 5
    held = scrape.value("dpj_events_held_oldest_timestamp_seconds", consumer="archiving", dependency="ged")
    assert held == HOUR_AGO.timestamp()
    assert scrape.value("dpj_dead_letters_open", consumer="archiving", code="archive_refused") == 3
    assert scrape.value("dpj_outbox_waiting_rows") == 30
    assert scrape.value("dpj_outbox_oldest_timestamp_seconds") == HOUR_AGO.timestamp()
    assert scrape.value("dpj_documents_waiting", status="STORED") == 7
    assert scrape.value("dpj_documents_oldest_timestamp_seconds", status="STORED") == HOUR_AGO.timestamp()
    assert scrape.value("dpj_oldest_document_timestamp_seconds") == HOUR_AGO.timestamp()
    assert scrape.value("dpj_oldest_deposit_timestamp_seconds") == HOUR_AGO.timestamp() - 86_400
    assert scrape.value("dpj_checkpoint_newest_timestamp_seconds") == NOW.timestamp()
    assert scrape.value("dpj_checkpoint_due_timestamp_seconds") == HOUR_AGO.timestamp()
    assert scrape.value("dpj_checkpoint_uncovered_tenants") == 2
    assert scrape.value("dpj_overview_known", part="oldest") == 1
    assert scrape.value("dpj_watchdog_last_look_timestamp_seconds") == NOW.timestamp()
    assert scrape.names == set(LABELS)


def test_a_code_of_a_stranger_is_no_label() -> None:
    assert Scrape(everything()).value("dpj_dead_letters_open", consumer="archiving", code="other") == 5
    assert b"stranger" not in generate_latest(Scrape(everything()).registry)


def test_unknown_is_absent_and_said_to_be_unknown() -> None:
    scrape = Scrape(an_overview())
    assert scrape.names == {
        "dpj_lag_known",
        "dpj_overview_known",
        "dpj_overview_last_look_timestamp_seconds",
        "dpj_watchdog_last_look_timestamp_seconds",
    }
    assert {scrape.value("dpj_lag_known", consumer=name) for name in CONSUMERS} == {0}
    for part in ("kafka", "outbox", "states", "held", "dead_letters", "oldest", "checkpoints"):
        assert scrape.value("dpj_overview_known", part=part) == 0


def test_an_age_that_could_not_be_read_is_absent_beside_a_lag_that_is_known() -> None:
    found = everything()
    unread = replace(found.consumers[0].partitions[0], behind_seconds=None)  # type: ignore[index]
    consumer = replace(found.consumers[0], partitions=(unread,), known=False)
    scrape = Scrape(replace(found, consumers=(consumer,)))
    place = {"consumer": "archiving", "topic": "dpj.document.uploaded", "partition": "3"}
    assert (scrape.value("dpj_lag_records", **place), scrape.value("dpj_lag_seconds", **place)) == (4, None)
    assert scrape.value("dpj_lag_known", consumer="archiving") == 0


def test_nothing_waiting_is_zero_and_has_no_oldest() -> None:
    outbox = OutboxOverview(waiting=Count(0), oldest=None, refused=Count(0), refused_since=None)
    scrape = Scrape(an_overview(outbox=outbox))
    assert scrape.value("dpj_outbox_waiting_rows") == 0
    assert scrape.value("dpj_outbox_oldest_timestamp_seconds") is None


@pytest.mark.parametrize(("seconds", "there"), [(STALE_SECONDS - 1, True), (STALE_SECONDS + 1, False)])
def test_the_figures_of_an_old_look_go_and_its_moment_stays(seconds: float, there: bool) -> None:
    scrape = Scrape(everything(), at=NOW + timedelta(seconds=seconds))
    assert (scrape.value("dpj_outbox_waiting_rows") is not None) is there
    assert scrape.value("dpj_overview_last_look_timestamp_seconds") == NOW.timestamp()


def test_before_the_first_look_nothing_is_said() -> None:
    assert Scrape(None, offsets=None).names == set()

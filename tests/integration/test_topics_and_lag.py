"""Topics and lag on a real broker, with topics and groups of the test's own."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import replace
from uuid import uuid4

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition

from domain.errors import BrokerUnavailable
from operations.kafka.lag import PartitionLag, measure
from operations.kafka.topics import DAY_MS, TopicPlan, ensure_topics


@pytest.fixture
def bootstrap(stack: Mapping[str, str]) -> str:
    return stack["DPJ_KAFKA_BOOTSTRAP"]


@pytest.fixture
def plan(bootstrap: str) -> TopicPlan:
    plan = TopicPlan(name=f"test.lag.{uuid4().hex}", partitions=2, replication=1, retention_days=3)
    assert [report.state for report in ensure_topics(bootstrap, [plan])] == ["created"]
    return plan


def _send(bootstrap: str, topic: str, counts: Mapping[int, int], *, age: float = 0.0) -> None:
    producer = Producer({"bootstrap.servers": bootstrap})
    stamp = int((time.time() - age) * 1000)
    for partition, count in counts.items():
        for _ in range(count):
            producer.produce(topic, b"x" * 1000, partition=partition, timestamp=stamp)
    assert producer.flush(20) == 0


def _commit(bootstrap: str, group: str, topic: str, offsets: Mapping[int, int]) -> None:
    client = Consumer({"bootstrap.servers": bootstrap, "group.id": group})
    client.commit(
        offsets=[TopicPartition(topic, partition, offset) for partition, offset in offsets.items()], asynchronous=False
    )
    client.close()


def _facts(rows: list[PartitionLag]) -> list[tuple[int, int, int | None, int]]:
    return [(row.partition, row.end, row.committed, row.lag) for row in rows]


def test_existing_topics_are_compared_and_left_alone(bootstrap: str, plan: TopicPlan) -> None:
    assert [report.state for report in ensure_topics(bootstrap, [plan])] == ["ok"]
    other = replace(plan, partitions=4, retention_days=5)
    for _ in range(2):
        (report,) = ensure_topics(bootstrap, [other])
        assert report.state == "differs"
        assert report.differences == (
            "partitions 2, planned 4",
            f"retention.ms {3 * DAY_MS}, planned {5 * DAY_MS}",
        )


def test_an_empty_topic_has_no_lag(bootstrap: str, plan: TopicPlan) -> None:
    rows = measure(bootstrap, {f"test-{uuid4().hex}": [plan.name]})
    assert _facts(rows) == [(0, 0, None, 0), (1, 0, None, 0)]
    assert [row.behind for row in rows] == [None, None]


def test_a_group_that_never_committed_is_behind_by_everything(bootstrap: str, plan: TopicPlan) -> None:
    _send(bootstrap, plan.name, {0: 5, 1: 2}, age=600)
    rows = measure(bootstrap, {f"test-{uuid4().hex}": [plan.name]})
    assert _facts(rows) == [(0, 5, None, 5), (1, 2, None, 2)]
    assert all(row.behind is not None and 595 < row.behind < 660 for row in rows)


def test_lag_counts_from_the_commit_and_ages_by_the_first_unconsumed_record(bootstrap: str, plan: TopicPlan) -> None:
    group = f"test-{uuid4().hex}"
    _send(bootstrap, plan.name, {0: 300, 1: 10}, age=3600)
    _send(bootstrap, plan.name, {0: 100}, age=60)
    _commit(bootstrap, group, plan.name, {0: 300, 1: 10})
    first, second = measure(bootstrap, {group: [plan.name]})
    assert _facts([first, second]) == [(0, 400, 300, 100), (1, 10, 10, 0)]
    assert first.behind is not None
    assert 55 < first.behind < 120
    assert second.behind is None


def test_groups_at_different_places_of_one_partition_are_each_measured(bootstrap: str, plan: TopicPlan) -> None:
    early, late = f"test-{uuid4().hex}", f"test-{uuid4().hex}"
    _send(bootstrap, plan.name, {0: 50}, age=3600)
    _send(bootstrap, plan.name, {0: 50}, age=60)
    _commit(bootstrap, early, plan.name, {0: 10})
    _commit(bootstrap, late, plan.name, {0: 60})
    rows = [row for row in measure(bootstrap, {early: [plan.name], late: [plan.name]}) if row.partition == 0]
    assert [row.lag for row in rows] == [90, 40]
    assert rows[0].behind is not None
    assert rows[1].behind is not None
    assert 3590 < rows[0].behind < 3700
    assert 55 < rows[1].behind < 120


def test_measuring_commits_nothing(bootstrap: str, plan: TopicPlan) -> None:
    group = f"test-{uuid4().hex}"
    _send(bootstrap, plan.name, {0: 3})
    for _ in range(2):
        assert _facts(measure(bootstrap, {group: [plan.name]}))[0] == (0, 3, None, 3)


def test_a_topic_that_is_not_there_has_no_rows(bootstrap: str) -> None:
    assert measure(bootstrap, {f"test-{uuid4().hex}": [f"test.absent.{uuid4().hex}"]}) == []


def test_a_broker_that_is_away_is_told_within_the_deadline() -> None:
    began = time.monotonic()
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:9"):
        measure("127.0.0.1:9", {"test": ["t"]}, deadline=1.0)
    with pytest.raises(BrokerUnavailable, match=r"127\.0\.0\.1:9"):
        ensure_topics("127.0.0.1:9", [TopicPlan(name="t", partitions=1, replication=1, retention_days=1)], deadline=1.0)
    assert time.monotonic() - began < 10

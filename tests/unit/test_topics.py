"""Planned topics, and what is said of existing ones that differ."""

from __future__ import annotations

from domain.events import TOPICS
from operations.kafka.topics import DAY_MS, TopicPlan, differences, planned_topics

PLAN = TopicPlan(name="t", partitions=6, replication=3, retention_days=30)


def test_every_event_and_every_consumer_has_its_topic() -> None:
    plans = {plan.name: plan for plan in planned_topics(partitions=6, replication=1, retention_days=7)}
    letters = {f"dpj.dlq.{name}" for name in ("integrity", "renditions", "archiving", "notification", "audit")}
    assert set(plans) == set(TOPICS) | letters
    assert {plans[name].partitions for name in TOPICS} == {6}
    assert {plans[name].partitions for name in letters} == {1}
    assert {plan.config["retention.ms"] for plan in plans.values()} == {str(7 * DAY_MS)}
    assert {plan.config["segment.ms"] for plan in plans.values()} == {str(DAY_MS)}


def test_writes_need_two_of_three_replicas_and_the_only_one_of_one() -> None:
    assert PLAN.config["min.insync.replicas"] == "2"
    single = TopicPlan(name="t", partitions=6, replication=1, retention_days=30)
    assert single.config["min.insync.replicas"] == "1"


def test_a_topic_as_planned_has_no_differences() -> None:
    assert differences(PLAN, 6, 3, PLAN.config | {"segment.bytes": "1"}) == ()


def test_each_difference_is_told_with_both_values() -> None:
    found = differences(PLAN, 3, 1, PLAN.config | {"retention.ms": "-1"})
    assert found == (
        "partitions 3, planned 6",
        "replication 1, planned 3",
        f"retention.ms -1, planned {30 * DAY_MS}",
    )
    assert differences(PLAN, 6, 3, {})[-1].startswith("min.insync.replicas unset")

"""The topics of the pipeline: created where they are missing, compared where they exist, never changed.

More partitions or a shorter retention would move keys or drop events, so an existing topic that differs is reported and
left to a person.
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException
from confluent_kafka import admin as kafka_admin

from domain.consumers import CONSUMERS
from domain.errors import BrokerUnavailable
from domain.events import TOPICS, dead_letter_topic

DAY_MS: Final = 24 * 60 * 60 * 1000
#: How long a segment takes records; the brokers' own 7 days would keep each record for up to 7 days more.
SEGMENT_DAYS: Final = 1
#: Dead letters are few and read by people: one partition keeps them in the order of their arrival.
DEAD_LETTER_PARTITIONS: Final = 1
POLL_SECONDS: Final = 0.1

_kafka: Any = kafka_admin  # the package says it is typed, but exports these names only implicitly


@dataclass(frozen=True, slots=True, kw_only=True)
class TopicPlan:
    """A topic as it should be. A record is kept for ``retention_days``, and for up to ``SEGMENT_DAYS`` and some minutes more:
    records go by segments, and a segment goes when its last record is that old."""

    name: str
    partitions: int
    replication: int
    retention_days: int

    @property
    def config(self) -> dict[str, str]:
        """Topic settings. With three replicas a write needs two, so that one broker may be away and nothing is lost."""
        return {
            "cleanup.policy": "delete",
            "retention.ms": str(self.retention_days * DAY_MS),
            "segment.ms": str(SEGMENT_DAYS * DAY_MS),
            "min.insync.replicas": "2" if self.replication >= 3 else "1",
        }


@dataclass(frozen=True, slots=True)
class TopicReport:
    """``state`` is created, ok or differs; ``differences`` says what is not as planned."""

    name: str
    state: str
    differences: tuple[str, ...] = ()


def planned_topics(*, partitions: int, replication: int, retention_days: int) -> list[TopicPlan]:
    """One topic per event type and one for each consumer's dead letters."""

    def plan(name: str, count: int) -> TopicPlan:
        return TopicPlan(name=name, partitions=count, replication=replication, retention_days=retention_days)

    return [
        *(plan(name, partitions) for name in TOPICS),
        *(plan(dead_letter_topic(consumer), DEAD_LETTER_PARTITIONS) for consumer in CONSUMERS),
    ]


def differences(plan: TopicPlan, partitions: int, replication: int, config: dict[str, str]) -> tuple[str, ...]:
    """What of an existing topic is not as planned, one short text each."""
    found = []
    if partitions != plan.partitions:
        found.append(f"partitions {partitions}, planned {plan.partitions}")
    if replication != plan.replication:
        found.append(f"replication {replication}, planned {plan.replication}")
    found += [
        f"{name} {config.get(name, 'unset')}, planned {wanted}"
        for name, wanted in plan.config.items()
        if config.get(name) != wanted
    ]
    return tuple(found)


def ensure_topics(
    bootstrap: str, plans: Sequence[TopicPlan], *, deadline: float = 30.0, security: Mapping[str, str] | None = None
) -> list[TopicReport]:
    """Create what is missing, compare the rest; safe to repeat and to run twice at once; ``security`` is what librdkafka is told
    beside the address. Raises BrokerUnavailable."""
    admin = _kafka.AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, **(security or {})})
    ends = time.monotonic() + deadline
    try:
        known = admin.list_topics(timeout=deadline).topics
        created = _create(admin, [plan for plan in plans if plan.name not in known], deadline)
        while missing := [plan.name for plan in plans if plan.name not in known]:
            # A creation is answered before every broker's metadata shows it.
            if time.monotonic() > ends:
                raise BrokerUnavailable(f"Kafka does not show the new topic {missing[0]} in time.")
            time.sleep(POLL_SECONDS)
            known = admin.list_topics(timeout=deadline).topics
        configs = _configs(admin, [plan.name for plan in plans], deadline)
    except KafkaException as error:
        raise _translated(error, bootstrap) from None
    return [_report(plan, known[plan.name], configs[plan.name], plan.name in created) for plan in plans]


def missing_topics(
    bootstrap: str, plans: Sequence[TopicPlan], *, deadline: float = 30.0, security: Mapping[str, str] | None = None
) -> list[str]:
    """Names of planned topics that are not there. Raises BrokerUnavailable."""
    admin = _kafka.AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, **(security or {})})
    try:
        known = admin.list_topics(timeout=deadline).topics
    except KafkaException as error:
        raise _translated(error, bootstrap) from None
    return [plan.name for plan in plans if plan.name not in known]


def retentions(
    bootstrap: str, names: Iterable[str], *, deadline: float = 10.0, security: Mapping[str, str] | None = None
) -> dict[str, float | None]:
    """For how many seconds each topic that exists keeps a record at least, by its own setting ``retention.ms``; None: without end.

    Raises BrokerUnavailable.
    """
    admin = _kafka.AdminClient({"bootstrap.servers": bootstrap, "log_level": 0, **(security or {})})
    try:
        known = admin.list_topics(timeout=deadline).topics
        configs = _configs(admin, [name for name in names if name in known], deadline)
    except KafkaException as error:
        raise _translated(error, bootstrap) from None
    found: dict[str, float | None] = {}
    for name, config in configs.items():
        milliseconds = int(config["retention.ms"])
        kept = "delete" not in config.get("cleanup.policy", "delete") or milliseconds < 0
        found[name] = None if kept else milliseconds / 1000
    return found


def _create(admin: Any, plans: Iterable[TopicPlan], deadline: float) -> set[str]:
    wanted = [_kafka.NewTopic(plan.name, plan.partitions, plan.replication, config=plan.config) for plan in plans]
    created: set[str] = set()
    if not wanted:
        return created
    for name, future in admin.create_topics(wanted, operation_timeout=deadline, request_timeout=deadline).items():
        try:
            future.result(deadline)
            created.add(name)
        except KafkaException as error:
            if error.args[0].code() != KafkaError.TOPIC_ALREADY_EXISTS:  # somebody was faster: it is compared below
                raise
    return created


def _configs(admin: Any, names: Iterable[str], deadline: float) -> dict[str, dict[str, str]]:
    resources = [_kafka.ConfigResource(_kafka.ResourceType.TOPIC, name) for name in names]
    if not resources:
        return {}
    answers = admin.describe_configs(resources, request_timeout=deadline)
    return {
        resource.name: {entry.name: entry.value for entry in future.result(deadline).values()}
        for resource, future in answers.items()
    }


def _report(plan: TopicPlan, topic: Any, config: dict[str, str], created: bool) -> TopicReport:
    if created:
        return TopicReport(plan.name, "created")
    replication = min((len(partition.replicas) for partition in topic.partitions.values()), default=0)
    found = differences(plan, len(topic.partitions), replication, config)
    return TopicReport(plan.name, "differs" if found else "ok", found)


def _translated(error: KafkaException, bootstrap: str) -> BrokerUnavailable:
    reason = error.args[0].name() if error.args and isinstance(error.args[0], KafkaError) else "unknown"
    return BrokerUnavailable(f"Kafka at {bootstrap} does not do what is asked ({reason}).")

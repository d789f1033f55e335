"""One Faust app and consumer group per processor. Faust gives the group, the assignment, the records and the agent's stream.

What is true of Faust 0.15.3 and shapes this module: an event whose agent raises is acknowledged, and ``stream.take`` and
``concurrency`` acknowledge too early. So no stream acknowledges anything. The topics are declared with ``acks=False``:
Faust then commits nothing of its own accord, not even records it skips during a rebalance, and delivery commits what it
has finished. ``stream_wait_empty`` and ``broker_max_poll_interval`` would make Faust wait for, or leave the group because
of, a held event.
"""

from __future__ import annotations

import ssl
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import faust
from faust.assignor.partition_assignor import PartitionAssignor
from faust.types import TP

from domain.consumers import group_of
from streams.fetching import FetchConsumer, FetchTopic
from streams.lanes import Partition

NEVER_SECONDS = 31_536_000.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ConsumerSettings:
    """What a consumer needs to know about the broker. ``bootstrap`` is ``host:port[,host:port]``;
    ``scratch`` a folder that Faust insists on creating, though nothing is written to it. After ``session_seconds`` without a
    heartbeat a member's partitions go to the others: so long does what a killed worker held stand still.
    One that stops gives the events at work ``drain`` seconds to end. Over TLS, ``tls`` is for Faust's client and ``security`` what
    librdkafka is told."""

    bootstrap: str
    scratch: str
    fetch_records: int = 100
    session_seconds: float = 15.0
    drain: float = 0.0
    security: Mapping[str, str] = field(default_factory=dict)
    tls: ssl.SSLContext | None = None


class ConsumerFlow:
    """Push-back through Faust's own buffer signals: the partition leaves and rejoins the fetch set, nothing is paused or sought."""

    def __init__(self, app: Any) -> None:
        self._app = app

    def hold(self, partition: Partition) -> None:
        self._app.consumer.on_buffer_full(TP(partition.topic, partition.number))

    def resume(self, partition: Partition) -> None:
        self._app.consumer.on_buffer_drop(TP(partition.topic, partition.number))


class ConsumerOffsets:
    """Commits offsets that delivery has finished."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def commit(self, offsets: Mapping[Partition, int]) -> bool:
        """False if the broker did not take them (a rebalance is under way); they are then offered again."""
        tps = {TP(partition.topic, partition.number): offset for partition, offset in offsets.items()}
        return bool(await self._app.consumer._commit_offsets(tps))  # noqa: SLF001 - the one door to a plain commit


# A group whose leader makes the assignment while its client does not know a topic (a broker that has just started tells of it a
# moment later) gives that topic's partitions to nobody, and stays so until the next rebalance: Faust only logs "Ignoring missing
# topic". So the leader notes it, leaves, and joins anew. The broker is not asked: librdkafka 2.12 aborts the process when it
# describes a group whose coordinator is away.


class PartitionsUnassigned(Exception):
    """This member, as its group's leader, has left topics unassigned that it did not know at that moment."""


class IncompleteAssignmentDetector(PartitionAssignor):
    """Faust's assignor. ``incomplete`` is called, in Kafka's thread, when an assignment of ours lacks a topic."""

    incomplete: Callable[[], object]

    def assign(self, cluster: Any, member_metadata: Any) -> Any:
        wanted = {topic for metadata in member_metadata.values() for topic in metadata.subscription}
        if not all(cluster.partitions_for_topic(topic) for topic in wanted):
            self.incomplete()
        return super().assign(cluster, member_metadata)


def incomplete_assignment_detector(incomplete: Callable[[], object]) -> type[PartitionAssignor]:
    """The assignor of one app."""
    return type(
        "IncompleteAssignmentDetector", (IncompleteAssignmentDetector,), {"incomplete": staticmethod(incomplete)}
    )


def create_app(consumer: str, settings: ConsumerSettings, incomplete: Callable[[], object]) -> Any:
    """A Faust app for ``consumer``: not started, with no agent yet. Its consumer hands whole fetches to its topics' streams.

    ``incomplete`` is called, in Kafka's thread, if it assigns partitions to nobody. The app's Kafka producer is never used:
    events leave by the outbox.
    """
    app: Any = faust.App(
        group_of(consumer),
        broker=[f"kafka://{address}" for address in settings.bootstrap.split(",")],
        broker_credentials=None if settings.tls is None else faust.SSLCredentials(settings.tls),
        store="memory://",
        datadir=settings.scratch,
        autodiscover=False,
        processing_guarantee="at_least_once",
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        worker_redirect_stdouts=False,
        stream_buffer_maxsize=64,
        stream_wait_empty=False,
        broker_commit_interval=1.0,
        broker_max_poll_records=settings.fetch_records,
        broker_max_poll_interval=NEVER_SECONDS,
        broker_session_timeout=settings.session_seconds,
        broker_heartbeat_interval=min(3.0, settings.session_seconds / 5),
        consumer_auto_offset_reset="earliest",
        PartitionAssignor=incomplete_assignment_detector(incomplete),
        Topic=FetchTopic,
    )
    app.transport.Consumer = FetchConsumer
    return app

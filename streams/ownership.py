"""Partitions that an assignment leaves to nobody.

A group whose leader makes the assignment while its client does not know a topic (a broker that has just started tells of it a
moment later) gives that topic's partitions to nobody, and stays so until the next rebalance: Faust only logs "Ignoring missing
topic". So the leader notes it, leaves, and joins anew.

The broker is not asked: librdkafka 2.12 aborts the process when it describes a group whose coordinator is away.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from faust.assignor.partition_assignor import PartitionAssignor


class PartitionsUnowned(Exception):
    """This member, as its group's leader, has left topics unassigned that it did not know at that moment."""


class NotingAssignor(PartitionAssignor):
    """Faust's assignor. ``incomplete`` is called, in Kafka's thread, when an assignment of ours lacks a topic."""

    incomplete: Callable[[], object]

    def assign(self, cluster: Any, member_metadata: Any) -> Any:
        wanted = {topic for metadata in member_metadata.values() for topic in metadata.subscription}
        if not all(cluster.partitions_for_topic(topic) for topic in wanted):
            self.incomplete()
        return super().assign(cluster, member_metadata)


def noting_assignor(incomplete: Callable[[], object]) -> type[PartitionAssignor]:
    """The assignor of one app."""
    return type("NotingAssignor", (NotingAssignor,), {"incomplete": staticmethod(incomplete)})

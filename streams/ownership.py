"""Whether all partitions of a consumer's topics are somebody's.

A group whose leader makes the assignment while its client does not know a topic (a broker that has just started tells of it a
moment later) gives that topic's partitions to nobody, and stays so until the next rebalance: Faust only logs "Ignoring missing
topic". So every member asks the broker what the group looks like, and a member that finds partitions without an owner leaves and
joins anew.
"""

from __future__ import annotations

import asyncio
from typing import Final

import structlog
from confluent_kafka import ConsumerGroupState, KafkaException
from confluent_kafka.admin import AdminClient

log = structlog.get_logger()

LOOK_SECONDS: Final = 5.0
REQUEST_SECONDS: Final = 5.0

Places = frozenset[tuple[str, int]]


class PartitionsUnowned(Exception):
    """Partitions had no owner for two looks on end, in a group that is not rebalancing."""


async def watch_ownership(bootstrap: str, group: str, topics: tuple[str, ...]) -> None:
    """Look until cancelled. Raises PartitionsUnowned; a broker that does not answer says nothing."""
    client = AdminClient({"bootstrap.servers": bootstrap, "log_level": 0})
    before: Places = frozenset()
    while True:
        await asyncio.sleep(LOOK_SECONDS)
        now = await asyncio.to_thread(unowned, client, group, topics)
        if now & before:
            log.error("partitions_unowned", group=group, partitions=len(now & before))
            raise PartitionsUnowned
        before = now


def unowned(client: AdminClient, group: str, topics: tuple[str, ...]) -> Places:
    """Partitions of ``topics`` that no member of the group has; none while it rebalances or the broker does not answer."""
    try:
        known = client.list_topics(timeout=REQUEST_SECONDS).topics
        described = client.describe_consumer_groups([group], request_timeout=REQUEST_SECONDS)
        found = described[group].result(timeout=2 * REQUEST_SECONDS)
    except (KafkaException, TimeoutError):
        return frozenset()
    if found.state != ConsumerGroupState.STABLE:
        return frozenset()
    owned = {(place.topic, place.partition) for member in found.members for place in member.assignment.topic_partitions}
    wanted = {(topic, number) for topic in topics if topic in known for number in known[topic].partitions}
    return frozenset(wanted - owned)

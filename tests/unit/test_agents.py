"""The list of agents, and the way of a fetch from Faust's consumer through the agent's stream into the lanes.

App, agent, stream and consumer are Faust's own; only the broker is missing, and with it what starts the consumer.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from importlib import import_module
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from faust.types import TP

import streams.agents
from domain.consumers import CONSUMERS, HANDLES, groups
from streams.agents import AGENTS, attach
from streams.apps import ConsumerFlow, ConsumerSettings, create_app
from streams.fetching import FetchConsumer
from streams.lanes import Record
from tests.support.fakes_streams import DeliveryBench

TOPIC = "dpj.document.erased"


def test_each_agent_is_for_a_processor_that_handles_what_it_reads() -> None:
    assert tuple(AGENTS) == CONSUMERS
    for name, agent in AGENTS.items():
        module, _, attribute = agent.processor.rpartition(".")
        processor = getattr(import_module(module), attribute)
        assert processor.consumer == agent.consumer == name
        assert set(processor.handles) == set(HANDLES[name])


def test_the_list_at_the_head_of_the_module_is_true() -> None:
    listed = re.findall(
        r"- \*\*(\w+)\*\* \(group ``([\w.]+)``\) reads (.*?) for\n  ``([\w.]+)``",
        streams.agents.__doc__ or "",
        re.DOTALL,
    )
    said = [(name, group, tuple(re.findall(r"``([\w.]+)``", topics)), at) for name, group, topics, at in listed]
    assert said == [(agent.consumer, agent.group, agent.topics, agent.processor) for agent in AGENTS.values()]
    assert {agent.group: agent.topics for agent in AGENTS.values()} == groups()


class Site:
    """An app whose agent runs, and whose consumer fetches what ``batches`` says."""

    def __init__(self, scratch: Path) -> None:
        self.bench = DeliveryBench()
        settings = ConsumerSettings(bootstrap="nowhere:1", scratch=str(scratch))
        self.app = create_app("test", settings, lambda: None)
        self.accepted: list[tuple[int, int]] = []
        self.bench.delivery.accept = self.accept  # type: ignore[method-assign]
        attach(self.app, (TOPIC,), self.bench.delivery)
        (self.agent,) = self.app.agents.values()
        self.consumer: Any = self.app.consumer
        self.batches: list[dict[TP, list[Any]]] = []
        self.fetches = self.seeks = 0
        self.consumer._wait_next_records = self.wait_next_records
        self.consumer.perform_seek = self.perform_seek

    def accept(self, record: Record) -> None:
        self.accepted.append((record.partition.number, record.offset))

    async def wait_next_records(self, seconds: float) -> tuple[Any, Any]:
        self.fetches += 1
        await asyncio.sleep(0)
        return (self.batches.pop(0) if self.batches else {}), None

    async def perform_seek(self) -> None:
        self.seeks += 1

    def fetched(self, partition: int, *offsets: int) -> None:
        tp = TP(TOPIC, partition)
        records = [
            SimpleNamespace(
                topic=TOPIC, partition=partition, offset=offset, key=b"k", value=b"v", headers=(), timestamp=1
            )
            for offset in offsets
        ]
        self.batches.append({tp: records})

    async def hand_over(self) -> None:
        async with asyncio.timeout(2):
            await self.consumer._hand_over()

    @property
    def topic(self) -> Any:
        (topic,) = self.app.topics
        return topic


@pytest.fixture
async def site(tmp_path: Path) -> AsyncIterator[Site]:
    site = Site(tmp_path)
    await site.agent.start()
    await settle()
    yield site
    site.app._stopped.set()
    await site.agent.stop()


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


async def test_the_consumer_is_ours_and_the_agent_acknowledges_nothing(site: Site) -> None:
    assert isinstance(site.consumer, FetchConsumer)
    assert not site.topic.acks
    (actor,) = site.agent._actors
    assert not actor.stream.enable_acks


async def test_a_fetch_reaches_delivery_in_order(site: Site) -> None:
    site.fetched(0, 5, 6, 9)
    await site.hand_over()
    await settle()
    assert site.accepted == [(0, 5), (0, 6), (0, 9)]


async def test_records_that_were_handed_over_before_are_not_again(site: Site) -> None:
    site.fetched(0, 5, 6)
    site.fetched(0, 5, 6, 7)
    site.fetched(0, 7, 8)
    for _ in range(3):
        await site.hand_over()
        await settle()
    assert site.accepted == [(0, 5), (0, 6), (0, 6), (0, 7), (0, 7), (0, 8)]  # a lane knows its last record


async def test_nothing_more_is_fetched_before_the_agent_has_handed_over_the_last_fetch(site: Site) -> None:
    happened: list[str] = []
    wait_next_records, accept = site.consumer._wait_next_records, site.accept
    site.consumer._wait_next_records = lambda seconds: happened.append("fetch") or wait_next_records(seconds)
    site.bench.delivery.accept = lambda record: happened.append("accept") or accept(record)  # type: ignore[method-assign]
    site.fetched(0, 0)
    await site.hand_over()
    assert happened == ["fetch"]
    await site.hand_over()
    assert happened == ["fetch", "accept", "fetch"]


async def test_a_lane_that_a_fetch_has_filled_holds_its_partition_before_the_next_fetch(site: Site) -> None:
    flow, held = ConsumerFlow(site.app), asyncio.Event()
    site.consumer._set_active_tps({TP(TOPIC, 0), TP(TOPIC, 1)})

    def fill(record: Record) -> None:
        flow.hold(record.partition)
        held.set()

    site.bench.delivery.accept = fill  # type: ignore[method-assign]
    active: list[set[TP]] = []

    async def wait_next_records(seconds: float) -> tuple[Any, Any]:
        active.append(set(site.consumer._get_active_partitions()))
        return await site.wait_next_records(seconds)

    site.consumer._wait_next_records = wait_next_records
    site.fetched(0, 0)
    await site.hand_over()
    await site.hand_over()
    assert held.is_set()
    assert active == [{TP(TOPIC, 0), TP(TOPIC, 1)}, {TP(TOPIC, 1)}]


async def test_a_revocation_drops_what_the_agent_has_not_taken_and_the_rest_still_comes(site: Site) -> None:
    site.batches.append({})
    site.fetched(0, 0, 1)
    site.fetched(1, 7)
    site.batches[1] |= site.batches.pop(2)
    await site.hand_over()
    await site.hand_over()
    await site.app.on_partitions_revoked.send({TP(TOPIC, 0)})
    await settle()
    assert site.accepted == [(1, 7)]
    site.fetched(1, 8)
    await site.hand_over()
    await settle()
    assert site.accepted == [(1, 7), (1, 8)]


async def test_flow_control_of_faust_drops_nothing(site: Site) -> None:
    site.fetched(0, 0)
    await site.hand_over()
    site.app.flow_control.suspend()
    site.app.flow_control.clear()
    site.app.flow_control.resume()
    await settle()
    assert site.accepted == [(0, 0)]


async def test_what_is_fetched_during_a_rebalance_is_sought_back_to(site: Site) -> None:
    site.fetched(0, 0)
    site.consumer.flow_active = False
    await site.hand_over()
    await settle()
    assert site.accepted == []
    assert site.seeks == 1


@pytest.mark.parametrize("end", ["error", "cancelled", "stream ended"])
async def test_an_agent_that_ends_while_its_app_runs_crashes_the_app_and_takes_nothing_more(
    site: Site, end: str
) -> None:
    (actor,) = site.agent._actors
    if end == "error":
        site.bench.delivery.accept = lambda record: 1 / 0  # type: ignore[assignment, method-assign, return-value]
    elif end == "cancelled":
        actor.actor_task.cancel()
    else:
        site.topic._throw(StopAsyncIteration())
        site.topic._throw(StopAsyncIteration())
    site.fetched(0, 0)
    await site.hand_over()
    crashed = (
        site.app if end == "stream ended" else site.app.agents
    )  # its parent here, as the app itself is not started
    await asyncio.wait_for(crashed._crashed.wait(), 2)
    await asyncio.wait({actor.actor_task}, timeout=2)
    assert actor.actor_task.done()
    site.bench.delivery.accept = site.accept  # type: ignore[method-assign]
    await settle()
    assert site.accepted == []
    assert {reference.actor_task for reference in site.agent._actors} == {actor.actor_task}

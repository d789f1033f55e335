"""Every guarded port hands calls on as they are, and stops them while its circuit is open."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any
from uuid import uuid4

import pytest

from domain.errors import ObjectStoreUnavailable
from processors.resilience.circuit_breakers import BreakerPolicy, CircuitBreaker, CircuitState
from processors.resilience.guarded_ports import (
    GuardedAntivirusEngine,
    GuardedAuditStore,
    GuardedExtendedMetadata,
    GuardedGed,
    GuardedKeyring,
    GuardedMailSender,
    GuardedObjectStore,
)


class Echo:
    """Answers every call with its name and arguments; ``STREAMS`` give them as their one piece."""

    STREAMS = ("read", "list", "children")

    def __init__(self) -> None:
        self.fails = False

    def __getattr__(self, name: str) -> Callable[..., Any]:
        async def call(*arguments: object, **named: object) -> object:
            if self.fails:
                raise ObjectStoreUnavailable
            return (name, *arguments, *named.values())

        async def stream(*arguments: object, **named: object) -> AsyncIterator[object]:
            yield await call(*arguments, **named)

        return stream if name in self.STREAMS else call


Port = tuple[Callable[[Any, CircuitBreaker], Any], str, tuple[object, ...], bool]

DOCUMENT, DATA = uuid4(), object()
PORTS: list[Port] = [
    (GuardedObjectStore, "put", ("key", DATA), True),
    (GuardedObjectStore, "stat", ("key",), True),
    (GuardedObjectStore, "read", ("key",), True),
    (GuardedObjectStore, "delete", ("key",), False),
    (GuardedObjectStore, "list", ("prefix",), True),
    (GuardedKeyring, "new_data_key", ("context",), True),
    (GuardedKeyring, "unwrap", ("wrapped", "context"), True),
    (GuardedGed, "find", (("a", "b"),), True),
    (GuardedGed, "children", (("a", "b"),), True),
    (GuardedGed, "create_folder", (("a",),), False),
    (GuardedGed, "create", (("a",), "document", DATA), True),
    (GuardedGed, "read", ("id",), True),
    (GuardedGed, "description_of", ("id",), False),
    (GuardedGed, "delete", ("id",), False),
    (GuardedMailSender, "send", ("mail",), False),
    (GuardedAntivirusEngine, "scan", (DATA,), True),
    (GuardedAuditStore, "add", (["entry"],), False),
    (GuardedExtendedMetadata, "put", (DOCUMENT, "tenant", {}), False),
    (GuardedExtendedMetadata, "delete", (DOCUMENT, "tenant"), False),
]


async def outcome(answer: Awaitable[object] | AsyncIterator[object]) -> object:
    if isinstance(answer, AsyncIterator):
        (piece,) = [piece async for piece in answer]
        return piece
    return await answer


@pytest.mark.parametrize("port", PORTS, ids=lambda port: f"{port[0].__name__}.{port[1]}")
async def test_a_call_is_handed_on_and_counted_and_stopped_by_an_open_circuit(port: Port) -> None:
    kind, name, arguments, answers = port
    echo = Echo()
    breaker = CircuitBreaker(
        ObjectStoreUnavailable, echo.check, clock=lambda: 0.0, policy=BreakerPolicy(failures=1, burst=0)
    )
    call = getattr(kind(echo, breaker), name)
    said = await outcome(call(*arguments))
    if answers:
        assert isinstance(said, tuple)
        assert said[: 1 + len(arguments)] == (name, *arguments)
    echo.fails = True
    with pytest.raises(ObjectStoreUnavailable):
        await outcome(call(*arguments))
    assert breaker.state is CircuitState.OPEN
    echo.fails = False
    with pytest.raises(ObjectStoreUnavailable):
        await outcome(call(*arguments))


async def test_ranges_and_versions_reach_the_store() -> None:
    breaker = CircuitBreaker(ObjectStoreUnavailable, Echo().check, clock=lambda: 0.0)
    store = GuardedObjectStore(Echo(), breaker)
    said: list[Any] = [piece async for piece in store.read("key", start=3, length=4, etag="e")]
    assert said == [("read", "key", 3, 4, "e")]


@pytest.mark.parametrize("kind", [GuardedObjectStore, GuardedKeyring])
async def test_the_check_of_a_port_is_the_breakers(kind: Callable[[Any, CircuitBreaker], Any]) -> None:
    echo = Echo()
    breaker = CircuitBreaker(
        ObjectStoreUnavailable, echo.check, clock=lambda: 0.0, policy=BreakerPolicy(failures=1, burst=0)
    )
    port = kind(echo, breaker)
    await port.check()
    echo.fails = True
    with pytest.raises(ObjectStoreUnavailable):
        await port.check()
    assert breaker.state.value == "open"
    echo.fails = False
    await port.check()
    assert breaker.state.value == "closed"

"""Ports of a stack: kept, never another stack's, moved only when they must."""

from __future__ import annotations

import pytest

from deploy.native import ports


@pytest.fixture(autouse=True)
def busy(monkeypatch: pytest.MonkeyPatch) -> set[int]:
    """Ports that other programs listen on."""
    found: set[int] = set()
    monkeypatch.setattr(ports, "free", lambda port: port not in found)
    return found


def test_fresh_ports_are_distinct_and_below_the_range_of_outgoing_connections() -> None:
    chosen = ports.assign(["api", "workers", "kafka"], {}, set(), set(), None)
    blocks = [set(range(port, port + ports.width(name))) for name, port in chosen.items()]
    assert len(set.union(*blocks)) == sum(len(block) for block in blocks)
    assert all(ports.FIRST <= port < ports.LAST for block in blocks for port in block)


def test_kept_ports_stay(busy: set[int]) -> None:
    kept = {"api": 21_000, "kafka": 21_001}
    assert ports.assign(["api", "kafka"], kept, set(), {21_002}, None) == kept


@pytest.mark.parametrize("by", ["another program", "another stack"])
def test_a_port_that_was_taken_meanwhile_moves(busy: set[int], by: str) -> None:
    taken = set()
    (busy if by == "another program" else taken).add(21_000)
    chosen = ports.assign(["api", "kafka"], {"api": 21_000, "kafka": 21_001}, set(), taken, None)
    assert chosen["api"] != 21_000
    assert chosen["kafka"] == 21_001


def test_the_port_of_a_running_server_is_busy_and_stays(busy: set[int]) -> None:
    busy.add(21_000)
    assert ports.assign(["kafka"], {"kafka": 21_000}, {"kafka"}, set(), None) == {"kafka": 21_000}


def test_a_block_moves_as_a_whole(busy: set[int]) -> None:
    busy.add(21_000 + ports.WORKER_PORTS - 1)
    chosen = ports.assign(["workers"], {"workers": 21_000}, set(), set(), None)["workers"]
    assert busy.isdisjoint(range(chosen, chosen + ports.WORKER_PORTS))


def test_base_numbers_all_ports_but_those_of_running_servers() -> None:
    chosen = ports.assign(["api", "workers", "kafka", "ged"], {"kafka": 21_000}, {"kafka"}, set(), 9000)
    assert chosen == {"api": 9000, "workers": 9001, "kafka": 21_000, "ged": 9001 + ports.WORKER_PORTS}


def test_no_free_port_is_an_error_and_no_endless_search(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "free", lambda port: False)
    with pytest.raises(OSError, match="no 1 free ports"):
        ports.assign(["api"], {}, set(), set(), None)

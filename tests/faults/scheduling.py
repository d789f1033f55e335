"""Which tests stay together on one of the sites side by side.

pytest-xdist's own groups (``--dist loadgroup``) travel in the ids of tests, and pytest 9.2 no longer lets them: each test would be
a group of its own, and both sites would run most rounds of crash points.
"""

from __future__ import annotations

from xdist.scheduler.loadscope import LoadScopeScheduling

from tests.faults.crashes import BY_POINT, group_of

#: Files in the order in which their tests begin: what takes longest first, so that sites end at about the same time.
ORDER = (
    "test_random_faults.py",
    "test_stores_that_forget.py",
    "test_whole_site.py",
    "test_restores.py",
    "test_checker_on_servers.py",
    "test_pairs.py",
    "test_crash_points.py",
)


def scope_of(nodeid: str) -> str:
    """A crash point's scope is its round; any other test is its own."""
    point = _point(nodeid)
    return nodeid if point is None else f"crashes {group_of(point)}"


def place_of(nodeid: str) -> tuple[int, int]:
    """What tests are sorted by. Rounds of few points come before those of many: a worker is sent more when it has few tests left,
    and would else hold several of the last rounds while the other has none."""
    name = nodeid.partition("::")[0].rpartition("/")[2]
    point = _point(nodeid)
    return ORDER.index(name), 0 if point is None else -group_of(point)


def _point(nodeid: str) -> str | None:
    name = nodeid.partition("[")[2].removesuffix("]")
    return name if name in BY_POINT else None


class SiteScheduling(LoadScopeScheduling):
    """Gives each worker the next round, or the next single test, in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        return scope_of(nodeid)

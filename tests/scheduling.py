"""Which tests stay together in one worker of pytest-xdist, and which begin first.

A file's tests stay together, so that its fixtures are made once. The tests of the running pipeline all go to one worker: its
eight processes start once. Files of many cases that share nothing dear are shared out case by case.

pytest-xdist's own groups travel in the ids of tests, and pytest 9.2 no longer lets them: hence a scheduler of our own.
"""

from __future__ import annotations

from xdist.scheduler.loadscope import LoadScopeScheduling

PIPELINE = "e2e"
#: Longest first, so that no worker begins a long group when the others have ended. What is not named comes after, as collected.
FIRST = (
    PIPELINE,
    "integration/test_hostile_corpus.py",
    "integration/test_startup_and_shutdown.py",
    "e2e/test_tls_end_to_end.py",
    "integration/test_api_fuzzed.py",
    "integration/test_duties_and_tenants.py",
    "contract/test_audit_stores.py",
    "integration/test_tls_servers.py",
    "integration/test_races.py",
    "e2e/test_demo.py",
    "integration/test_relay_failover.py",
    "integration/test_stack.py",
)
#: Files with a stack or a demonstration of their own: they need no running pipeline.
ALONE = {"e2e/test_demo.py", "e2e/test_tls_end_to_end.py"}
SHARED_OUT = {"integration/test_hostile_corpus.py"}


def _files(nodeid: str) -> str:
    """The file of a test of ``nodeid`` ("tests/folder/file.py::name"), or the name of the files that it stays together with."""
    file = nodeid.partition("::")[0].removeprefix("tests/")
    return PIPELINE if file.startswith("e2e/") and file not in ALONE else file


def group_of(nodeid: str) -> str:
    """The group of a test; one that is shared out is its own."""
    files = _files(nodeid)
    return nodeid if files in SHARED_OUT else files


def place_of(nodeid: str) -> int:
    """What tests are sorted by; those of one place stay in their order."""
    files = _files(nodeid)
    return FIRST.index(files) if files in FIRST else len(FIRST)


class GroupScheduling(LoadScopeScheduling):
    """Gives each worker the next group in the order of collection."""

    def _split_scope(self, nodeid: str) -> str:
        return group_of(nodeid)

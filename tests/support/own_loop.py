"""Asynchronous work for callers that may be in an event loop of their own, or whose test's loop must not be touched."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from concurrent.futures import ThreadPoolExecutor
from typing import Any, TypeVar

Result = TypeVar("Result")


def run_beside(work: Coroutine[Any, Any, Result]) -> Result:
    """What ``work`` gives or raises, run on a loop in a thread of its own."""
    with ThreadPoolExecutor(1) as beside:
        return beside.submit(asyncio.run, work).result()

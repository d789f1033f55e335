"""How often a client may call: named quotas, counted with the package ``limits`` in fixed windows.

What a client is told follows draft-ietf-httpapi-ratelimit-headers-10: ``RateLimit-Policy`` (name, quota q, window w in seconds) and
``RateLimit`` (what is left r, seconds until the window's end t).
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import islice
from typing import Final, Protocol

from limits import RateLimitItem, RateLimitItemPerMinute, RateLimitItemPerSecond
from limits.storage import Storage
from limits.strategies import FixedWindowRateLimiter

from domain.refusals import RateLimited

#: Clients counted at once; more than so many in one window, and the oldest are counted anew.
MAX_CLIENTS: Final = 50_000


class QuotaName(Enum):
    """What calls are counted against: by client, on the document API, refused tokens by address, acts on tokens."""

    CLIENT = "client"
    DOCUMENTS = "documents"
    FAILURES = "failures"
    TOKENS = "tokens"


#: Windows in seconds.
WINDOWS: Final[Mapping[QuotaName, int]] = {
    QuotaName.CLIENT: 1,
    QuotaName.DOCUMENTS: 1,
    QuotaName.FAILURES: 60,
    QuotaName.TOKENS: 60,
}


@dataclass(frozen=True, slots=True)
class QuotaState:
    """A client's state after a call: ``remaining`` calls until ``resets_in`` seconds from now. ``policy`` is the header's text."""

    name: str
    policy: str
    remaining: int
    resets_in: int

    @property
    def headers(self) -> tuple[tuple[str, str], ...]:
        return (
            ("RateLimit-Policy", self.policy),
            ("RateLimit", f'"{self.name}";r={self.remaining};t={self.resets_in}'),
        )


class CallCounter(Protocol):
    async def hit(self, item: RateLimitItem, key: str) -> tuple[int, float] | None:
        """Count a call; how many there were in this window, and when it ends (Unix seconds). None: it can't be counted now."""
        ...


class MemoryCallCounter:
    """Counts in this process. Never waits."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._storage = BoundedMemory(clock)
        self._windows = FixedWindowRateLimiter(self._storage)

    async def hit(self, item: RateLimitItem, key: str) -> tuple[int, float]:
        self._windows.hit(item, key)
        return self._storage.state(item.key_for(key))


class BoundedMemory(Storage):
    """A storage for ``limits`` that holds a bounded number of keys and needs no thread: the package's own starts one for every ten
    milliseconds of traffic."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        super().__init__()
        self._clock = clock
        #: Count and end of the window, in the order in which windows began.
        self._windows: dict[str, tuple[int, float]] = {}

    @property
    def base_exceptions(self) -> type[Exception]:
        return ValueError

    def state(self, key: str) -> tuple[int, float]:
        """Count and end of the window."""
        count, ends = self._windows.get(key, (0, 0.0))
        now = self._clock()
        return (count, ends) if ends > now else (0, now)

    def incr(self, key: str, expiry: float, amount: int = 1) -> int:
        count, ends = self._windows.get(key, (0, 0.0))
        now = self._clock()
        if ends > now:
            self._windows[key] = (count + amount, ends)
            return count + amount
        self._windows.pop(key, None)
        if len(self._windows) >= MAX_CLIENTS:
            self._make_room(now)
        self._windows[key] = (amount, now + expiry)
        return amount

    def get(self, key: str) -> int:
        return self.state(key)[0]

    def get_expiry(self, key: str) -> float:
        return self.state(key)[1]

    def check(self) -> bool:
        return True

    def reset(self) -> int:
        count = len(self._windows)
        self._windows.clear()
        return count

    def clear(self, key: str) -> None:
        self._windows.pop(key, None)

    def _make_room(self, now: float) -> None:
        """For a tenth of them at least: all have to be looked through for it, which must not happen at each new key."""
        for key in [key for key, (_, ends) in self._windows.items() if ends <= now]:
            del self._windows[key]
        surplus = len(self._windows) - (MAX_CLIENTS - max(1, MAX_CLIENTS // 10))
        for key in list(islice(self._windows, max(0, surplus))):
            del self._windows[key]


class RateLimits:
    """The quotas in force. ``per_window`` has calls per window of ``WINDOWS``; 0 or absent: no limit."""

    def __init__(
        self,
        per_window: Mapping[QuotaName, int],
        counting: CallCounter | None = None,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._local = MemoryCallCounter(clock)
        self._counting = counting or self._local
        self._clock = clock
        self._items: dict[QuotaName, RateLimitItem] = {}
        self._policies: dict[QuotaName, str] = {}
        for limit, amount in per_window.items():
            if amount:
                window = WINDOWS[limit]
                kind = RateLimitItemPerSecond if window == 1 else RateLimitItemPerMinute
                self._items[limit] = kind(amount, namespace=limit.value)
                self._policies[limit] = f'"{limit.value}";q={amount};w={window}'

    async def count(self, limit: QuotaName, client: str) -> QuotaState | None:
        """Count a call of ``client``; None where there is no limit. Raises RateLimited once its quota is used up."""
        item = self._items.get(limit)
        if item is None:
            return None
        # What all processes share may be away: then each counts for itself, and nobody is kept out for it.
        count, ends = await self._counting.hit(item, client) or await self._local.hit(item, client)
        quota = QuotaState(
            limit.value,
            self._policies[limit],
            max(0, item.amount - count),
            max(0, math.ceil(ends - self._clock())),
        )
        if count > item.amount:
            raise RateLimited(limit.value, max(1, quota.resets_in), quota.headers)
        return quota


#: No limits at all.
UNLIMITED: Final = RateLimits({})

"""Limits the open connections of one address."""

from __future__ import annotations

from collections import Counter

from ingest_api.client_addresses import Network, client_key, within


class ConnectionLimiter:
    """Of one server. ``per_address``: open connections of one address (IPv6: one /64), 0 for any number; ``exempt``: networks whose
    connections are not counted, because each stands for many clients."""

    def __init__(self, per_address: int, exempt: tuple[Network, ...] = ()) -> None:
        self._per_address = per_address
        self._exempt = exempt
        self._open: Counter[str] = Counter()

    def acquire(self, address: str) -> str | None:
        """Count a connection: the key for ``release``, empty if it is not counted; None if it is one too many."""
        key = client_key(address)
        if not self._per_address or not key or within(address, self._exempt):
            return ""
        if self._open[key] >= self._per_address:
            return None
        self._open[key] += 1
        return key

    def release(self, key: str) -> None:
        """A connection that ``acquire`` counted is gone."""
        if key:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

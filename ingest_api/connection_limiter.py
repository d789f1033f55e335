"""Open connections by where they come from."""

from __future__ import annotations

from collections import Counter

from ingest_api.client_addresses import Network, client_key, within


class Peers:
    """Of one server. ``most``: open connections of one address (IPv6: one /64), 0 for any number; ``exempt``: networks whose
    connections are not counted, because each stands for many clients."""

    def __init__(self, most: int, exempt: tuple[Network, ...] = ()) -> None:
        self._most = most
        self._exempt = exempt
        self._open: Counter[str] = Counter()

    def came(self, address: str) -> str | None:
        """Count a connection: the key for ``left``, empty if it is not counted; None if it is one too many."""
        key = client_key(address)
        if not self._most or not key or within(address, self._exempt):
            return ""
        if self._open[key] >= self._most:
            return None
        self._open[key] += 1
        return key

    def left(self, key: str) -> None:
        """A connection that ``came`` counted is gone."""
        if key:
            self._open[key] -= 1
            if not self._open[key]:
                del self._open[key]

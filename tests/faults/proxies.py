"""Lines to servers under Toxiproxy's control (https://github.com/Shopify/toxiproxy, HTTP API of release 2.5)."""

from __future__ import annotations

from typing import Any

import httpx

from tests.faults.plain_http import NO_TLS

SECONDS = 5.0


class ToxiProxy:
    """One server's line. Faults add up until ``restore``; each call has taken effect when it returns.

    Existing connections feel a fault too, new ones as well.
    """

    def __init__(self, api: str, name: str) -> None:
        self.name = name
        self._path = f"/proxies/{name}"
        self._client = httpx.Client(base_url=api, timeout=SECONDS, trust_env=False, verify=NO_TLS)

    def cut(self) -> None:
        """End every connection and refuse new ones."""
        self._change(enabled=False)

    def restore(self) -> None:
        """As if nothing had been: no fault, open for connections."""
        for toxic in self._answer("GET", "").get("toxics", []):
            self._client.delete(f"{self._path}/toxics/{toxic['name']}")
        self._change(enabled=True)

    def latency(self, ms: int, jitter: int = 0) -> None:
        """Answers come later by ``ms`` give or take ``jitter`` milliseconds."""
        self._toxic("latency", "downstream", latency=ms, jitter=jitter)

    def reset_peer(self, after_ms: int = 0) -> None:
        """Connections end by a TCP reset ``after_ms`` milliseconds after they first sent something."""
        self._toxic("reset_peer", "upstream", timeout=after_ms)

    def silent(self) -> None:
        """Connections stay open and no answer passes: only a deadline notices."""
        self._toxic("timeout", "downstream", timeout=0)

    def slow(self, kilobytes_per_second: int) -> None:
        """Little passes in both directions."""
        self._toxic("bandwidth", "upstream", rate=kilobytes_per_second)
        self._toxic("bandwidth", "downstream", rate=kilobytes_per_second)

    def limit(self, sent_bytes: int) -> None:
        """Each connection ends once a client has sent so much through it."""
        self._toxic("limit_data", "upstream", bytes=sent_bytes)

    def close(self) -> None:
        """Let go of Toxiproxy's API; the line stays as it is."""
        self._client.close()

    def _toxic(self, kind: str, stream: str, **attributes: int) -> None:
        name = f"{kind}_{stream}"
        self._client.delete(f"{self._path}/toxics/{name}")  # 404 where there is none
        self._answer("POST", "/toxics", {"name": name, "type": kind, "stream": stream, "attributes": attributes})

    def _change(self, *, enabled: bool) -> None:
        self._answer("POST", "", {"enabled": enabled})

    def _answer(self, method: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        answer = self._client.request(method, self._path + path, json=body)
        answer.raise_for_status()
        given: dict[str, Any] = answer.json()
        return given

"""What a real Prometheus makes of an incident, by a site's own rules and intervals."""

from __future__ import annotations

import threading
import time
from typing import Any, Final

import httpx
import yaml

from deploy.native.parts.observability import RULES

EVERY: Final = 1.0


class Alarms:
    """Looks at Prometheus' alerts all the time: when the condition of each held first since ``forget``."""

    def __init__(self, url: str) -> None:
        self._url = url
        self._first: dict[str, float] = {}
        self._lock = threading.Lock()
        rules = [
            rule
            for path in RULES
            for group in yaml.safe_load(path.read_text("utf-8"))["groups"]
            for rule in group["rules"]
        ]
        self.waits: dict[str, str] = {rule["alert"]: rule.get("for", "0m") for rule in rules if "alert" in rule}
        threading.Thread(target=self._watch, daemon=True).start()

    def forget(self) -> None:
        """What was seen so far."""
        with self._lock:
            self._first.clear()

    def hold(self, names: tuple[str, ...]) -> bool:
        """Whether the condition of one of these alerts holds now."""
        return any(one["labels"]["alertname"] in names for one in self._alerts())

    def first(self, names: tuple[str, ...]) -> tuple[str, float] | None:
        """Of these alerts the one that held first, and when (monotonic seconds)."""
        with self._lock:
            found = [(at, name) for name, at in self._first.items() if name in names]
        return (min(found)[1], min(found)[0]) if found else None

    def _watch(self) -> None:
        while True:
            time.sleep(EVERY)
            alerts = self._alerts()
            with self._lock:
                for one in alerts:
                    self._first.setdefault(one["labels"]["alertname"], time.monotonic())

    def _alerts(self) -> list[dict[str, Any]]:
        try:
            answer = httpx.get(f"{self._url}/api/v1/alerts", trust_env=False, timeout=10)
            found: list[dict[str, Any]] = answer.raise_for_status().json()["data"]["alerts"]
        except httpx.HTTPError:
            return []
        return found

"""Lines to the servers of a stack that can be down, up and down again at the same address; driven from plain tests."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Mapping
from types import TracebackType
from typing import Any, Self
from urllib.parse import urlsplit, urlunsplit

from tests.support.free_ports import free_ports
from tests.support.tcp_proxy import Proxy

#: Setting that holds a server's address, by what the pipeline calls the server.
SETTINGS = {
    "postgresql": "DPJ_POSTGRES_DSN",
    "mongodb": "DPJ_MONGO_URL",
    "kafka": "DPJ_KAFKA_BOOTSTRAP",
    "schema_registry": "DPJ_REGISTRY_URL",
    "object_store": "DPJ_MINIO_ENDPOINT",
    "keyring": "DPJ_VAULT_ADDR",
    "ged": "DPJ_GED_URL",
    "smtp": "DPJ_SMTP_PORT",
}


class InterruptibleProxies:
    """``settings`` are the stack's; ``changed`` are those that lead over our lines. All lines are down at first."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._up: dict[str, Proxy] = {}
        self._targets: dict[str, str] = {}
        self._ports: dict[str, int] = {}
        self.changed: dict[str, str] = {}
        first = free_ports(len(SETTINGS))
        for port, (name, setting) in enumerate(SETTINGS.items(), first):
            self._ports[name] = port
            value = settings[setting]
            if name == "smtp":
                self._targets[name], self.changed[setting] = f"127.0.0.1:{value}", str(port)
            elif "://" in value:
                parts = urlsplit(value)
                self._targets[name] = f"{parts.hostname}:{parts.port}"
                login, _, _ = parts.netloc.rpartition("@")
                there = f"{login}@127.0.0.1:{port}" if login else f"127.0.0.1:{port}"
                self.changed[setting] = urlunsplit(parts._replace(netloc=there))
            else:
                self._targets[name], self.changed[setting] = value, f"127.0.0.1:{port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.down(*self._up)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def up(self, *names: str) -> None:
        for name in names:
            self._up[name] = Proxy(self._targets[name], port=self._ports[name])
            self._run(self._up[name].__aenter__())

    def down(self, *names: str) -> None:
        for name in names:
            self._run(self._up.pop(name).close())

    def _run(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10)

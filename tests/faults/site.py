"""A whole pipeline to break: real servers behind Toxiproxy, our real processes under a supervisor.

::

    with FaultSite() as site:                  # stack "faults-<pid>", wiped at the end; DPJ_FAULT_STACK reuses one that runs
        site.proxy("minio").latency(2000)      # cut, silent, reset_peer, slow, limit; restore() undoes all
        site.http_errors("vault", 503, 0.5)    # half of the requests are answered 503; http_ok("vault")
        site.store_full(); site.store_free()   # every upload is refused for want of room, by MinIO itself
        site.server("kafka").kill()            # stop, kill, start; PostgreSQL, MinIO, Vault, FerretDB, Kafka, SMTP, registry
        site.vault.seal(); site.vault.unseal()
        site.process("worker-audit").kill()    # started again after 0.5 s while .supervised
        site.add_worker("integrity")           # one more member of the group; site.remove(process) ends it
        site.calm()                            # all faults off, all servers up, all processes ready

Names. Lines (``LINES``): kafka registry postgres ferretdb ged smtp minio vault clamd. Those of ``HTTP_LINES`` (registry, ged, minio,
vault) lead through an HTTP line too: process -> HttpFaults -> Toxiproxy -> server. Servers (``servers``): the same and "mongo-pg", the cluster
below FerretDB; the GED can't be stopped, it would forget. Processes (``processes``): api, relay, relay-2, worker-integrity,
worker-renditions, worker-archiving, worker-notification, worker-audit, and what else ``dpj up`` starts.

Whoever checks goes straight to the servers: ``settings`` are the stack's own (``pipeline`` is built on them), ``proxied`` are
what our processes got. Everything may be called from any thread; nothing here is a coroutine.

Sites stand side by side: each has servers, ports, topics, tenants and state of its own (``names.py``).
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Self
from urllib.parse import urlsplit, urlunsplit

from dotenv import dotenv_values
from minio.credentials.providers import StaticProvider
from minio.minioadmin import MinioAdmin

from deploy.native import site as native_site
from deploy.native import stack as native
from deploy.native.parts import toxiproxy
from deploy.native.parts.minio import ADMIN
from deploy.native.ports import LOOPBACK, WORKER_PORTS
from tests.faults.http_faults import Form, HttpFaults, page_error, s3_error, vault_error
from tests.faults.names import site_name
from tests.faults.patience import Patience
from tests.faults.processes import ROOT, Ended, Process, Supervisor
from tests.faults.proxies import ToxiProxy
from tests.faults.servers import Server, VaultServer, servers_of
from tests.faults.site_operator import SiteOperator, SitePipeline

LINES = tuple(toxiproxy.UPSTREAMS)
HTTP_LINES: Mapping[str, Form] = {"registry": page_error, "ged": page_error, "minio": s3_error, "vault": vault_error}
#: A process that gets no further towards readiness for so long is stuck, however busy the machine is: Kafka's group coordinator alone
#: may take a minute after the broker is there.
STUCK_SECONDS = 150.0
READY_POLL_SECONDS = 0.2
COMMAND_SECONDS = 600.0
#: One client brings all the traffic; how often a client may call is not what these tests are about.
UNTHROTTLED = {
    "DPJ_RATE_CLIENT": "0",
    "DPJ_RATE_DOCUMENTS": "0",
    "DPJ_RATE_FAILURES": "0",
    "DPJ_API_CONNECTIONS_PER_ADDRESS": "0",
}

#: Short leases and pauses: a test waits for what a crash left behind.
QUICK = {
    "DPJ_EVENT_LEASE": "4",
    "DPJ_EVENT_DEADLINE": "60",
    "DPJ_UPLOAD_LEASE": "4",
    "DPJ_GROUP_SESSION": "3",
    "DPJ_GED_SETTLE": "3",
    "DPJ_RECONCILE_GRACE": "6",
    "DPJ_CHECKPOINT_SECONDS": "2",
    "DPJ_EVENTS_LOST_AFTER": "10",
    "DPJ_RETRY_BASE": "0.1",
    "DPJ_RETRY_CAP": "2",
    "DPJ_POSTGRES_POOL_SIZE": "6",
    "DPJ_RENDER_CHILDREN": "1",
    "DPJ_RENDER_TIMEOUT": "4",
}


class FaultSite:
    """``settings`` (DPJ_...) go to all processes, above ``QUICK``. Use as a context manager."""

    def __init__(self, settings: Mapping[str, str] | None = None) -> None:
        self._overrides = {**QUICK, **(settings or {})}
        self.name, self.is_reused = site_name()
        self._closing = ExitStack()
        self._supervisor = Supervisor()
        self.http: dict[str, HttpFaults] = {}
        self.proxies: dict[str, ToxiProxy] = {}
        self.servers: dict[str, Server] = {}
        self.settings: dict[str, str] = {}
        self.proxied: dict[str, str] = {}
        self.logs = Path()
        self.failed = False  # set by whoever found something: then the logs stay

    # --- up and down -------------------------------------------------------------------------------------------------

    def __enter__(self) -> Self:
        try:
            self._up()
        except BaseException:
            self._closing.close()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._closing.close()

    def _up(self) -> None:
        from runtime.config.settings import load_settings
        from runtime.processes.local_stack import prepare

        if not self.is_reused:
            self._closing.callback(native.down, self.name, wipe=True)
        native.up(self.name, "full", extras=[toxiproxy.NAME])
        here = native_site.load(self.name)
        assert here is not None
        self._here = here
        read = dotenv_values(here.folder / "settings.env")
        self.settings = {key: value for key, value in read.items() if value is not None}
        self.logs = Path(tempfile.mkdtemp(prefix=f"dpj-{self.name}-"))
        self._closing.callback(self._drop_logs)
        prepare(load_settings(self.name), lambda _: None)
        self.servers = servers_of(here)
        api = toxiproxy.Toxiproxy().url(here)
        for name in LINES:
            self.proxies[name] = ToxiProxy(api, name)
            self._closing.callback(self.proxies[name].close)
            self.proxies[name].restore()
        for name, form in HTTP_LINES.items():
            line = HttpFaults(f"{LOOPBACK}:{toxiproxy.listening_port(here, name)}", form)
            self.http[name] = self._closing.enter_context(line)
        self.proxied = self._through_lines()
        self.operator = SiteOperator({**self.settings, **self._overrides}, self.logs)
        self.pipeline = SitePipeline(self.settings, self.operator)
        self._closing.callback(self.pipeline.close)
        self._supervisor.start()
        self._closing.callback(self._supervisor.close)
        self._create_processes()
        self.wait_ready()

    def _create_processes(self) -> None:
        from runtime.config.settings import load_settings
        from runtime.processes.health_ports import pipeline_processes_of

        for service in pipeline_processes_of(load_settings(self.name)):
            self._create(service.name, service.words, service.health, {})
        port = self._spare_port()
        self._create("relay-2", ("relay",), _health(port), {"DPJ_WORKER_PORT_BASE": str(port)})
        for process in self.processes.values():
            process.start()

    def _create(self, name: str, words: tuple[str, ...], health: str, settings: Mapping[str, str]) -> Process:
        given = {**self._given(), **settings}
        process = Process(name, words, health, given, state=self._here.folder, log=self.logs / f"{name}.log")
        self._supervisor.processes[name] = process
        return process

    def _given(self) -> dict[str, str]:
        return {**self.settings, **UNTHROTTLED, **self.proxied, **self._overrides, "DPJ_STACK": self.name}

    def _through_lines(self) -> dict[str, str]:
        """The settings that say where the servers are, with the lines' addresses."""
        direct = {name: f"{LOOPBACK}:{toxiproxy.listening_port(self._here, name)}" for name in LINES}
        web = {name: line.endpoint for name, line in self.http.items()}
        host, port = direct["smtp"].split(":")
        given = self.settings
        return {
            "DPJ_KAFKA_BOOTSTRAP": direct["kafka"],
            "DPJ_REGISTRY_URL": _moved(given["DPJ_REGISTRY_URL"], web["registry"]),
            "DPJ_POSTGRES_DSN": _moved(given["DPJ_POSTGRES_DSN"], direct["postgres"]),
            "DPJ_MONGO_URL": _moved(given["DPJ_MONGO_URL"], direct["ferretdb"]),
            "DPJ_GED_URL": _moved(given["DPJ_GED_URL"], web["ged"]),
            "DPJ_SMTP_HOST": host,
            "DPJ_SMTP_PORT": port,
            "DPJ_MINIO_ENDPOINT": web["minio"],
            "DPJ_CHECKPOINT_ENDPOINT": web["minio"],
            "DPJ_VAULT_ADDR": _moved(given["DPJ_VAULT_ADDR"], web["vault"]),
            "DPJ_CLAMD_ADDRESS": direct["clamd"],
        }

    def _drop_logs(self) -> None:
        if not self.failed:
            shutil.rmtree(self.logs, ignore_errors=True)

    # --- servers and lines -------------------------------------------------------------------------------------------

    def proxy(self, name: str) -> ToxiProxy:
        """The line of a server. KeyError for a name not in ``LINES``."""
        return self.proxies[name]

    def server(self, name: str) -> Server:
        """KeyError for a name not in ``servers``."""
        return self.servers[name]

    @property
    def vault(self) -> VaultServer:
        """Vault, which can be sealed and unsealed."""
        found = self.servers["vault"]
        assert isinstance(found, VaultServer)
        return found

    def http_errors(self, name: str, status: int = 500, ratio: float = 1.0) -> None:
        """Answer this share of the requests to a server of ``HTTP_LINES`` with ``status`` until ``http_ok``."""
        self.http[name].fail(status, ratio)

    def http_ok(self, name: str) -> None:
        """The server itself answers again."""
        self.http[name].clear()

    def store_full(self) -> None:
        """The object store answers every PUT as a MinIO does whose disk is full: 507, XMinioStorageFull."""
        self.http["minio"].fail(507, methods={"PUT", "POST"})

    def store_free(self) -> None:
        """There is room again."""
        self.http["minio"].clear()

    def store_quota(self, most: int | None) -> None:
        """A hard quota of ``most`` bytes on the bucket, set in MinIO itself: it refuses each PUT larger than that at once
        (and, after its next scan, what goes beyond in sum). None lifts it."""
        admin = MinioAdmin(
            endpoint=self._here.address("minio"),
            credentials=StaticProvider(ADMIN, self._here.secret("minio_admin")),
            secure=False,
        )
        bucket = self.settings["DPJ_MINIO_BUCKET"]
        if most is None:
            admin.bucket_quota_clear(bucket)
        else:
            admin.bucket_quota_set(bucket, most)

    # --- processes ---------------------------------------------------------------------------------------------------

    @property
    def processes(self) -> dict[str, Process]:
        """All of ours by name, running or not."""
        return self._supervisor.processes

    def process(self, name: str) -> Process:
        """KeyError for a name not in ``processes``."""
        return self._supervisor.processes[name]

    def add_worker(self, consumer: str, **settings: str) -> Process:
        """One more member of a consumer group, started and supervised as ``worker-<consumer>-<n>``; does not wait for it."""
        number = 2
        while (name := f"worker-{consumer}-{number}") in self.processes:
            number += 1
        from domain.consumers import CONSUMERS

        port = self._spare_port()
        base = {"DPJ_WORKER_PORT_BASE": str(port - 1 - CONSUMERS.index(consumer))}
        process = self._create(name, ("worker", consumer), _health(port), {**base, **settings})
        process.start()
        return process

    def _spare_port(self) -> int:
        """One of the stack's own, for the health of a process that ``dpj up`` would not start: no other site can get it."""
        first = self._here.ports["workers"]
        taken = {urlsplit(process.health).port for process in self.processes.values()}
        return next(port for port in reversed(range(first, first + WORKER_PORTS)) if port not in taken)

    def remove(self, process: Process) -> None:
        """Stop an added process for good."""
        process.stop()
        self._supervisor.processes.pop(process.name, None)

    def unexpected_ends(self) -> list[Ended]:
        """Ends that nobody asked for and that are no crash point's: each one is a finding."""
        return [end for process in self.processes.values() for end in process.ends if not end.asked and end.code != 137]

    def setting(self, name: str) -> str:
        """What processes are started with, unless they were told otherwise. KeyError for what is left to the defaults."""
        return self._given()[name]

    def dpj(self, *words: str, status: int | None = 0, **settings: str) -> str:
        """Standard output of a command with the processes' settings and ``settings``.

        Raises AssertionError if it does not end with ``status`` (None: 0 or 1), or takes ten minutes.
        """
        kept = {name: os.environ[name] for name in ("PATH", "HOME") if name in os.environ}
        environment = {**kept, "DPJ_HOME": str(self._here.folder.parent), **self._given(), **settings}
        command = [sys.executable, "-m", "runtime.cli.main", *words]
        done = subprocess.run(
            command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=COMMAND_SECONDS, check=False
        )
        assert done.returncode in ({0, 1} if status is None else {status}), (
            words,
            done.stdout[-1000:],
            done.stderr[-1000:],
        )
        return done.stdout

    # --- all of it ---------------------------------------------------------------------------------------------------

    def calm(self) -> None:
        """Undo every fault: lines open, HTTP errors and quota off, Vault open, servers up, processes going and ready."""
        for line in self.http.values():
            line.clear()
        for proxy in self.proxies.values():
            proxy.restore()
        for name in ("mongo-pg", *self.servers):
            self.servers[name].start()
        self.vault.unseal()
        for process in list(self.processes.values()):
            process.supervised = True
            process.start()
        self.wait_ready()

    def wait_ready(self) -> None:
        """Until every process says so. Raises AssertionError naming those that get no further, and where their logs are."""
        patience = Patience(STUCK_SECONDS)
        waiting = list(self.processes.values())
        while waiting := [process for process in waiting if not process.is_ready]:
            if patience.is_over({process.name: process.progress() for process in waiting}):
                self.failed = True
                told = ", ".join(f"{process.name} {process.progress()}" for process in waiting)
                raise AssertionError(f"{patience.told}, and not ready: {told}; logs in {self.logs}")
            time.sleep(READY_POLL_SECONDS)

    def log_tails(self, lines: int = 15) -> str:
        """The last warnings and errors of every process, for a test's report."""
        told = []
        for path in sorted(self.logs.glob("*.log")):
            text = path.read_text("utf-8", "replace").splitlines()
            wanted = [line for line in text if '"level": "info"' not in line and '"level":"info"' not in line]
            told += [f"== {path.name}", *wanted[-lines:]]
        return "\n".join(told)


def _moved(url: str, address: str) -> str:
    """``url`` with another host and port."""
    parts = urlsplit(url)
    user, at, _ = parts.netloc.rpartition("@")
    return urlunsplit(parts._replace(netloc=f"{user}{at}{address}"))


def _health(port: int) -> str:
    return f"http://{LOOPBACK}:{port}/readyz"

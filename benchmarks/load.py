"""Running the load client in a process of its own, and what its plans have in common."""

from __future__ import annotations

import asyncio
import json
import sys
from dataclasses import dataclass
from typing import Any, Final

from benchmarks.measurement import CpuMeter, percentile
from benchmarks.site import BenchSite

TYPE_CODE: Final = "DIVERS"
SPARE_SECONDS: Final = 60.0


@dataclass(frozen=True, slots=True)
class Load:
    """What one run of the client gave. ``cpu`` holds processor milliseconds per answered request, by process."""

    done: int
    errors: int
    timeouts: int
    rate: float
    seconds: float
    latencies: tuple[float, ...]
    cpu: dict[str, float]
    said: tuple[str, ...]

    def milliseconds(self, share: float) -> float:
        """A quantile of the latencies; the whole run's length where nothing was answered."""
        return percentile(self.latencies, share) * 1000 if self.latencies else self.seconds * 1000

    @property
    def average(self) -> float:
        """Milliseconds."""
        return sum(self.latencies) / len(self.latencies) * 1000 if self.latencies else self.seconds * 1000

    def percent(self, count: int) -> float:
        """``count`` of all requests that ended."""
        return 100 * count / max(1, self.done + self.errors + self.timeouts)


def put_plan(site: BenchSite, size: int, connections: int, seconds: float) -> dict[str, Any]:
    """Signed PUTs to the product's own bucket, under names of the form that its objects have."""
    settings = site.settings
    host, _, port = settings.minio_endpoint.rpartition(":")
    return {
        "kind": "put",
        "host": host,
        "port": int(port),
        "bucket": settings.minio_bucket,
        "prefix": "bench",
        "access_key": settings.minio_access_key.get_secret_value(),
        "secret_key": settings.minio_secret_key.get_secret_value(),
        **_measure(size, connections, seconds),
    }


def upload_plan(
    site: BenchSite, token: str, dossiers: list[str], size: int, connections: int, seconds: float
) -> dict[str, Any]:
    """Uploads to the API, spread over ``dossiers``."""
    return {
        "kind": "upload",
        "host": site.settings.api_host,
        "port": site.settings.api_port,
        "type": TYPE_CODE,
        "token": token,
        "dossiers": dossiers,
        **_measure(size, connections, seconds),
    }


async def run_load(plan: dict[str, Any], processes: dict[str, int]) -> Load:
    """Raises RuntimeError if the client fails, TimeoutError if it does not end."""
    meter = CpuMeter(processes)
    client = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "benchmarks.load_client"),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    output, complaint = await asyncio.wait_for(
        client.communicate(json.dumps(plan).encode()), plan["seconds"] + plan["timeout"] + SPARE_SECONDS
    )
    if client.returncode:
        raise RuntimeError(f"the load client failed: {complaint.decode()[-500:]}")
    result = json.loads(output)
    seconds = {**meter.seconds(), "client": result["cpu"]}
    return Load(
        done=result["done"],
        errors=result["errors"],
        timeouts=result["timeouts"],
        rate=result["done"] / result["seconds"],
        seconds=result["seconds"],
        latencies=tuple(result["latencies"]),
        cpu={name: spent * 1000 / max(1, result["done"]) for name, spent in seconds.items()},
        said=tuple(result["said"]),
    )


def _measure(size: int, connections: int, seconds: float) -> dict[str, Any]:
    return {"size": size, "connections": connections, "seconds": seconds, "timeout": 30.0}

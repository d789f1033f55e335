"""What the figures were measured on."""

from __future__ import annotations

import os
import platform
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

#: Libraries whose version matters to some figure: ours and those compared with.
LIBRARIES: Final = (
    *("faust-streaming", "aiokafka", "confluent-kafka", "faststream", "quixstreams", "fastapi", "uvicorn", "uvloop"),
    *("asyncpg", "minio", "cryptography", "aws-encryption-sdk", "pillow", "pypdfium2", "pyvips", "pyvips-binary"),
)


def machine() -> dict[str, Any]:
    """Cores, memory, system, and how busy it was just before (1-minute load average)."""
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    return {
        "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        "processor": _processor(),
        "cores": os.cpu_count(),
        "memory_gib": round(pages / (1 << 30), 1),
        "system": _system(),
        "kernel": platform.release(),
        "python": platform.python_version(),
        "load_before": round(os.getloadavg()[0], 2),
    }


def libraries() -> dict[str, str]:
    """Installed versions of ``LIBRARIES``."""
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.machine())


def _system() -> str:
    try:
        return platform.freedesktop_os_release()["PRETTY_NAME"]
    except OSError:
        return platform.system()

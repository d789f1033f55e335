"""Servers that no wheel has: only root can install them, so that tests of them are skipped, by name, where they are not."""

from __future__ import annotations

import os
import shutil

import pytest

from deploy.native import prerequisites, programs
from deploy.native.report import Silent


def _can_be_installed() -> bool:
    return os.geteuid() == 0 and shutil.which("apt-get") is not None


def needs_clamd() -> None:
    if not (prerequisites.clamd() or _can_be_installed()):
        pytest.skip("clamd is not here, and only root can install it (clamav-daemon)")


def needs_redis() -> None:
    if not (shutil.which("redis-server") or _can_be_installed()):
        pytest.skip("Redis is not here, and only root can install it (redis-server)")


def needs_monitoring() -> None:
    """promtool and amtool: installed, where that can be."""
    tools = (("promtool", prerequisites.PROMETHEUS), ("amtool", prerequisites.ALERTMANAGER))
    if not (all(shutil.which(name) for name, _ in tools) or _can_be_installed()):
        pytest.skip(
            "promtool and amtool are not here, and only root can install them (prometheus, prometheus-alertmanager)"
        )
    prerequisites.ensure(lambda: [one for name, lack in tools for one in prerequisites.program(name, lack)], Silent())


def needs_full_tls_stack() -> None:
    """One with TLS: the wheel's PostgreSQL has none."""
    needs_clamd()
    if not (programs.postgres(tls=True) or _can_be_installed()):
        pytest.skip("no PostgreSQL with TLS is here, and only root can install it (postgresql)")

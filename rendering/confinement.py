"""What a rendering child gives up before it sees a document, in layers; each holds where another is not to be had.

``SECCOMP`` is the one that counts: no file, no socket, no process, no program, whatever the decoder is talked into.
``LANDLOCK`` (no file, no TCP) and ``NAMESPACES`` (a network with nothing in it) stand behind it, and in its place where a kernel
or a container takes no filter. Limits of memory, processor time, processes and files are set everywhere.
"""

from __future__ import annotations

import ctypes
import os
import resource
import signal
import sys
from collections.abc import Iterable
from contextlib import suppress
from dataclasses import dataclass
from enum import Enum
from typing import Final

from domain.shared.core_dumps import forbid_core_dumps
from rendering import landlock, seccomp

OPEN_FILES: Final = 32
_PR_SET_PDEATHSIG: Final = 1
_PR_SET_NO_NEW_PRIVS: Final = 38
_CLONE_NEWUSER: Final = 0x1000_0000
_CLONE_NEWNET: Final = 0x4000_0000
_CLONE_NEWIPC: Final = 0x0800_0000


class Layer(Enum):
    """Of confinement; the value is what greeting, metrics and /readyz say."""

    SECCOMP = "seccomp"
    LANDLOCK = "landlock"
    NAMESPACES = "namespaces"


@dataclass(frozen=True, slots=True)
class Limits:
    """Of one document's process: its address space in bytes, its processor time in seconds."""

    memory_bytes: int
    cpu_seconds: int


def fence() -> frozenset[Layer]:
    """Give up what neither a child nor any process that it forks needs, for good, and tell what was to be had: files, network, new
    privileges. Signals meant for the worker's group are ignored: the worker ends us, or its own end does."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    for limit, value in ((resource.RLIMIT_NOFILE, OPEN_FILES), (resource.RLIMIT_FSIZE, 0), (resource.RLIMIT_CORE, 0)):
        resource.setrlimit(limit, (value, value))
    if sys.platform != "linux":
        return frozenset()
    held: set[Layer] = set()
    libc = ctypes.CDLL(None, use_errno=True)
    if _own_namespaces(libc):
        held.add(Layer.NAMESPACES)
    # After the namespaces: new credentials clear the signal that a parent's death sends.
    libc.prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    libc.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0)
    with suppress(landlock.LandlockUnavailable):
        landlock.shut()
        held.add(Layer.LANDLOCK)
    return frozenset(held)


def confine(
    fenced: frozenset[Layer], limits: Limits, *, parent: int, sources: Iterable[int], sinks: Iterable[int]
) -> frozenset[Layer]:
    """In a process for one document, forked by ``parent`` behind its fence: set the limits, put the filter over us, and tell what
    holds. ``sources`` and ``sinks`` are the descriptors that stay usable. We end with our parent."""
    for limit, soft, hard in (
        (resource.RLIMIT_AS, limits.memory_bytes, limits.memory_bytes),
        # Beyond the first the kernel ends us with SIGXCPU, beyond the second with SIGKILL.
        (resource.RLIMIT_CPU, limits.cpu_seconds + 1, limits.cpu_seconds + 2),
        (resource.RLIMIT_NPROC, 0, 0),
    ):
        resource.setrlimit(limit, (soft, hard))
    forbid_core_dumps()  # here, where a document is about to come; the child that forks us has none
    if sys.platform != "linux":
        return frozenset()
    held = set(fenced)
    ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(os.EX_OK)  # it was gone before we could ask to go with it
    with suppress(seccomp.SeccompUnavailable):
        seccomp.install(sources=sources, sinks=sinks)
        held.add(Layer.SECCOMP)
    files_shut = _no_file_opens()
    return frozenset(layer for layer in held if files_shut or layer is Layer.NAMESPACES)


def _own_namespaces(libc: ctypes.CDLL) -> bool:
    """A network without a single address, and nobody's shared memory; by a user namespace where we are not root."""
    wanted = _CLONE_NEWNET | _CLONE_NEWIPC
    return bool(libc.unshare(wanted) == 0 or libc.unshare(wanted | _CLONE_NEWUSER) == 0)


def _no_file_opens() -> bool:
    """Tried, not believed: some sandboxes of whole containers accept a filter and do nothing with it."""
    try:
        os.close(os.open("/", os.O_RDONLY))
    except OSError:
        return True
    return False

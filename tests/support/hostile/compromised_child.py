"""A rendering child whose decoder has been taken over: it runs what the "document" names, confined as any other child.

``python -I taken_over.py MEMORY_BYTES MAX_PIXELS CPU_SECONDS``, as ``rendering.child``; a document is the name of an attempt, and the
answer's metadata say how it ended.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import io
import mmap
import os
import resource
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

from domain.renderings import THUMBNAIL_BOXES
from rendering import child, protocol

#: Must not come to be.
FORBIDDEN_FILE = Path("/tmp/dpj-hostile-child")  # noqa: S108


def _call(number: int, *arguments: Any) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.syscall(ctypes.c_long(number), *arguments) < 0:
        raise OSError(ctypes.get_errno(), "call")


def _connect() -> None:
    with socket.socket() as sock:
        sock.connect(("127.0.0.1", 9))


def _fork() -> None:
    if os.fork() == 0:
        os._exit(0)


def _write_file() -> None:
    FORBIDDEN_FILE.write_bytes(b"x")


def _allocate() -> None:
    held = [bytearray(16 << 20) for _ in range(1024)]
    raise RuntimeError(str(len(held)))


def _spin() -> None:
    while True:
        pass


def _executable_memory() -> None:
    mmap.mmap(-1, 4096, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def _file_memory() -> None:
    descriptor = os.dup(0)
    mmap.mmap(descriptor, 4096, prot=mmap.PROT_READ).close()


def _babble() -> None:
    """Write to the worker without end."""
    while True:
        os.write(_SINK[0], b"\xff" * 65536)


def _lie() -> None:
    """Announce a frame of 4 GiB."""
    os.write(_SINK[0], b"\xff\xff\xff\xff")


_ANSWER: dict[str, Any] = {"reason": "UNDECODABLE", "metadata": {"outcome": "another's"}, "thumbnails": []}


def _linger() -> None:
    """Answer, stay, and answer for whoever comes next, with what was read of them."""
    while True:
        os.write(_SINK[0], protocol.frame(_ANSWER))
        os.read(_SOURCE[0], 65536)


def _answer_twice() -> None:
    """The second answer is the honest one."""
    os.write(_SINK[0], protocol.frame(_ANSWER))


def _swallow_mark() -> None:
    """Announce a thumbnail that ends in what the child says next."""
    thumbnails = [{"box": box, "width": 1, "height": 1, "size": 12} for box in THUMBNAIL_BOXES]
    thumbnails[-1]["size"] += protocol.MARK_BYTES
    os.write(_SINK[0], protocol.frame({"reason": None, "metadata": {}, "thumbnails": thumbnails}))
    for thumbnail in thumbnails:
        os.write(_SINK[0], b"RIFF" + (thumbnail["size"] - 8).to_bytes(4, "little") + b"WEBP")
    os._exit(0)


def _silent() -> None:
    os._exit(0)


def _other_pipe() -> None:
    os.write(_SINK[0] + 1, b"x")


def _raise_limit() -> None:
    resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _more_time() -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))


def _signal_parent() -> None:
    os.kill(os.getppid(), 0)


def _remember() -> None:
    """Fails if another document has been here before."""
    if _SEEN:
        raise FileExistsError(errno.EEXIST, "seen")
    _SEEN.append("a secret of this document")


def _crash() -> None:
    ctypes.CDLL(None).strlen(ctypes.c_char_p(1))


_SOURCE: list[int] = []
_SINK: list[int] = []
_SEEN: list[str] = []
_X86 = os.uname().machine == "x86_64"
ATTEMPTS: dict[str, Callable[[], None]] = {
    "read_file": lambda: Path("/etc/hostname").read_bytes() and None,
    "read_environment": lambda: Path(f"/proc/{os.getppid()}/environ").read_bytes() and None,
    "list_folder": lambda: os.listdir("/") and None,  # noqa: PTH208 - the call itself is what is tried
    "look_at_file": lambda: os.stat("/etc/passwd") and None,  # noqa: PTH116
    "write_file": _write_file,
    "remove_file": lambda: os.unlink("/tmp/dpj-nothing"),  # noqa: PTH108, S108
    "connect": _connect,
    "unix_socket": lambda: socket.socket(socket.AF_UNIX).close(),
    "raw_socket": lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, 1).close(),
    "fork": _fork,
    "exec": lambda: os.execv("/bin/true", ["true"]),  # noqa: S606
    "spawn": lambda: os.posix_spawn("/bin/true", ["true"], {}) and None,
    "signal": _signal_parent,
    "trace": lambda: _call(101 if _X86 else 117, 16, os.getppid(), 0, 0),
    "new_namespace": lambda: _call(272 if _X86 else 97, 0x1000_0000),
    "io_uring": lambda: _call(425, 8, ctypes.create_string_buffer(120)),
    "executable_memory": _executable_memory,
    "file_memory": _file_memory,
    "another_pipe": _other_pipe,
    "terminal": lambda: fcntl.ioctl(0, 0x5401) and None,
    "more_memory": _raise_limit,
    "more_time": _more_time,
    "remember": _remember,
    "allocate": _allocate,
    "spin": _spin,
    "babble": _babble,
    "lie": _lie,
    "crash": _crash,
    "linger": _linger,
    "answer_twice": _answer_twice,
    "swallow_mark": _swallow_mark,
    "silent": _silent,
}


def _taken_over(content: io.BytesIO, mime_type: str, max_bytes: int) -> tuple[dict[str, Any], list[bytes]]:
    name = content.getvalue().decode("ascii", "replace")
    if name not in ATTEMPTS:
        return _HONEST(content, mime_type, max_bytes)
    try:
        ATTEMPTS[name]()
    except MemoryError:
        outcome = "MemoryError"
    except OSError as error:
        outcome = errno.errorcode.get(error.errno or 0, "OSError")
    else:
        outcome = "succeeded"
    return {"reason": "UNDECODABLE", "metadata": {"outcome": outcome}, "thumbnails": []}, []


_HONEST = child.render

if __name__ == "__main__":
    confine = child.confine

    def confined(*arguments: Any, parent: int, sources: list[int], sinks: list[int]) -> Any:
        _SOURCE.append(sources[0])
        _SINK.append(sinks[0])
        return confine(*arguments, parent=parent, sources=sources, sinks=sinks)

    vars(child).update(render=_taken_over, confine=confined)
    child.main()

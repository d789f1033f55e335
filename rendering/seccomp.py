"""A seccomp filter for a process that has nothing left to do but compute: a list of what it may ask the kernel for.

What is allowed is reading its one pipe, writing the other, memory that can't be executed, time, and its end. Everything else is
refused: with EACCES, because libraries look for fonts and configuration and do without, or with the process's death where
no decoder has any business and whoever asks has taken it over (programs, processes, sockets, other processes' memory).
A call that is in neither table is refused, not fatal: kernels and C libraries grow new ones.

Numbers: Linux's ``asm/unistd_64.h`` (x86_64) and ``asm-generic/unistd.h`` (aarch64). Filter: ``linux/filter.h``, ``linux/seccomp.h``.
"""

from __future__ import annotations

import ctypes
import errno
import os
import platform
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final

_X32: Final = 0x4000_0000
_SET_MODE_FILTER: Final = 1
_TSYNC: Final = 1
_LONGEST: Final = 4096

# seccomp_data: u32 nr, u32 arch, u64 instruction pointer, u64 args[6]
_NR: Final = 0
_ARCH: Final = 4
_ARGS: Final = 16

_LOAD: Final = 0x20  # BPF_LD | BPF_W | BPF_ABS
_EQUAL: Final = 0x15  # BPF_JMP | BPF_JEQ | BPF_K
_AT_LEAST: Final = 0x35  # BPF_JMP | BPF_JGE | BPF_K
_ANY_BIT: Final = 0x45  # BPF_JMP | BPF_JSET | BPF_K
_RETURN: Final = 0x06  # BPF_RET | BPF_K

ALLOW: Final = 0x7FFF_0000
KILL: Final = 0x8000_0000
REFUSE: Final = 0x0005_0000 | errno.EACCES

_PROT_EXEC: Final = 4
_MAP_ANONYMOUS: Final = 0x20
_HALF: Final = 0xFFFF_FFFF


class SeccompUnavailable(Exception):
    """The kernel takes no filter, or the machine is of a kind that we have no table for."""


@dataclass(frozen=True, slots=True)
class Machine:
    """``audit`` is its AUDIT_ARCH number, ``seccomp`` the number of seccomp(2), ``calls`` numbers by name."""

    audit: int
    seccomp: int
    calls: Mapping[str, int]


#: Allowed with any arguments.
PLAIN: Final = (
    *("close", "lseek", "munmap", "mremap", "brk", "madvise", "futex", "membarrier"),
    *("rt_sigaction", "rt_sigprocmask", "rt_sigreturn", "sigaltstack", "restart_syscall"),
    *("exit", "exit_group", "getrusage", "getrandom", "getpid", "gettid", "getcwd", "sched_yield"),
    *("clock_gettime", "clock_getres", "clock_nanosleep", "gettimeofday", "nanosleep", "time", "rseq"),
)
#: Allowed with some arguments only; ``program`` says which.
CHECKED: Final = ("read", "readv", "write", "writev", "mmap", "mprotect", "tgkill")
#: Asked for by nobody but an intruder.
FATAL: Final = (
    *("execve", "execveat", "fork", "vfork", "clone", "clone3", "kill", "tkill"),
    *("socket", "socketpair", "connect", "bind", "listen", "accept", "accept4", "sendto", "sendmsg"),
    *("ptrace", "process_vm_readv", "process_vm_writev", "pidfd_open", "pidfd_getfd", "userfaultfd", "perf_event_open"),
    *("unshare", "setns", "mount", "pivot_root", "chroot", "open_by_handle_at", "memfd_create"),
    *("bpf", "io_uring_setup", "io_uring_enter", "io_uring_register", "seccomp"),
    *("add_key", "request_key", "keyctl", "init_module", "finit_module", "kexec_load"),
)


def _numbers(text: str) -> Mapping[str, int]:
    """``name=number`` pairs, apart by blanks."""
    return {name: int(number) for name, _, number in (pair.partition("=") for pair in text.split())}


_X86_64: Final = Machine(
    0xC000_003E,
    317,
    _numbers(
        """
        read=0 write=1 close=3 lseek=8 mmap=9 mprotect=10 munmap=11 brk=12 rt_sigaction=13 rt_sigprocmask=14
        rt_sigreturn=15 readv=19 writev=20 sched_yield=24 mremap=25 madvise=28 nanosleep=35 getpid=39 socket=41
        connect=42 accept=43 sendto=44 sendmsg=46 bind=49 listen=50 socketpair=53 clone=56 fork=57 vfork=58
        execve=59 exit=60 kill=62 gettimeofday=96 getrusage=98 ptrace=101 getcwd=79 sigaltstack=131
        pivot_root=155 chroot=161 mount=165 init_module=175 gettid=186 tkill=200 time=201 futex=202
        restart_syscall=219 clock_gettime=228 clock_getres=229 clock_nanosleep=230 exit_group=231 tgkill=234
        kexec_load=246 add_key=248 request_key=249 keyctl=250 unshare=272 accept4=288 perf_event_open=298
        open_by_handle_at=304 setns=308 process_vm_readv=310 process_vm_writev=311
        finit_module=313 seccomp=317 getrandom=318 memfd_create=319 bpf=321 execveat=322 userfaultfd=323
        membarrier=324 rseq=334 io_uring_setup=425 io_uring_enter=426 io_uring_register=427 pidfd_open=434
        clone3=435 pidfd_getfd=438
        """
    ),
)
_AARCH64: Final = Machine(
    0xC000_00B7,
    277,
    _numbers(
        """
        getcwd=17 mount=40 pivot_root=41 chroot=51 close=57 lseek=62 read=63 write=64 readv=65 writev=66 exit=93
        exit_group=94 unshare=97 futex=98 nanosleep=101 kexec_load=104 init_module=105 clock_gettime=113
        clock_getres=114 clock_nanosleep=115 ptrace=117 sched_yield=124 restart_syscall=128 kill=129 tkill=130
        tgkill=131 sigaltstack=132 rt_sigaction=134 rt_sigprocmask=135 rt_sigreturn=139 getrusage=165
        gettimeofday=169 getpid=172 gettid=178 socket=198 socketpair=199 bind=200 listen=201 accept=202
        connect=203 sendto=206 sendmsg=211 brk=214 munmap=215 mremap=216 add_key=217 request_key=218 keyctl=219
        clone=220 execve=221 mmap=222 mprotect=226 madvise=233 perf_event_open=241 accept4=242
        open_by_handle_at=265 setns=268 process_vm_readv=270 process_vm_writev=271 finit_module=273 seccomp=277
        getrandom=278 memfd_create=279 bpf=280 execveat=281 userfaultfd=282 membarrier=283 rseq=293
        io_uring_setup=425 io_uring_enter=426 io_uring_register=427 pidfd_open=434 clone3=435 pidfd_getfd=438
        """
    ),
)
#: aarch64 never had these; it is little-endian on every Linux we could meet, as x86_64 is.
NOT_ON_AARCH64: Final = frozenset({"fork", "vfork", "time"})
MACHINES: Final[Mapping[str, Machine]] = {"x86_64": _X86_64, "aarch64": _AARCH64}

_Instruction = tuple[int, int, int, int]


def program(machine: Machine, *, sources: Iterable[int], sinks: Iterable[int], pid: int) -> bytes:
    """The filter: ``sources`` may be read, ``sinks`` written, ``pid`` is whose threads may be signalled (abort(3) does)."""
    lines: list[_Instruction] = [
        (_LOAD, 0, 0, _ARCH),
        (_EQUAL, 1, 0, machine.audit),
        (_RETURN, 0, 0, KILL),
        (_LOAD, 0, 0, _NR),
        (_AT_LEAST, 0, 1, _X32),
        (_RETURN, 0, 0, KILL),
    ]
    for name in FATAL:
        if name in machine.calls:
            lines += [(_EQUAL, 0, 1, machine.calls[name]), (_RETURN, 0, 0, KILL)]
    for name in PLAIN:
        if name in machine.calls:
            lines += [(_EQUAL, 0, 1, machine.calls[name]), (_RETURN, 0, 0, ALLOW)]
    checks = {
        "read": _one_of(0, sources),
        "readv": _one_of(0, sources),
        "write": _one_of(0, sinks),
        "writev": _one_of(0, sinks),
        "mmap": [*_without(2, _PROT_EXEC), *_with(3, _MAP_ANONYMOUS), (_RETURN, 0, 0, ALLOW)],
        "mprotect": [*_without(2, _PROT_EXEC), (_RETURN, 0, 0, ALLOW)],
        "tgkill": [*_is(0, pid), (_RETURN, 0, 0, ALLOW)],
    }
    for name in CHECKED:
        body = checks[name]
        lines += [(_EQUAL, 0, len(body) + 1, machine.calls[name]), *body, (_RETURN, 0, 0, REFUSE)]
    lines.append((_RETURN, 0, 0, REFUSE))
    return b"".join(struct.pack("=HBBI", *line) for line in lines)


def _low(argument: int) -> _Instruction:
    return (_LOAD, 0, 0, _ARGS + 8 * argument)


# Arguments are of 64 bits, but those below are ints to the kernel, which looks at the lower half as we do.
def _one_of(argument: int, values: Iterable[int]) -> list[_Instruction]:
    lines = [_low(argument)]
    for value in values:
        lines += [(_EQUAL, 0, 1, value & _HALF), (_RETURN, 0, 0, ALLOW)]
    return lines


def _is(argument: int, value: int) -> list[_Instruction]:
    return [_low(argument), (_EQUAL, 1, 0, value & _HALF), (_RETURN, 0, 0, REFUSE)]


def _without(argument: int, bit: int) -> list[_Instruction]:
    return [_low(argument), (_ANY_BIT, 0, 1, bit), (_RETURN, 0, 0, REFUSE)]


def _with(argument: int, bit: int) -> list[_Instruction]:
    return [_low(argument), (_ANY_BIT, 1, 0, bit), (_RETURN, 0, 0, REFUSE)]


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("filter", ctypes.c_void_p))


def install(*, sources: Iterable[int], sinks: Iterable[int]) -> None:
    """Put the filter over this process for good, all its threads included. It must have given up new privileges before.

    Raises SeccompUnavailable.
    """
    machine = MACHINES.get(platform.machine())
    if machine is None:
        raise SeccompUnavailable(f"no table for {platform.machine()}")
    code = program(machine, sources=sources, sinks=sinks, pid=os.getpid())
    if len(code) // 8 > _LONGEST:
        raise SeccompUnavailable("the filter is too long")
    buffer = ctypes.create_string_buffer(code, len(code))
    filters = _Program(len(code) // 8, ctypes.cast(buffer, ctypes.c_void_p))
    libc = ctypes.CDLL(None, use_errno=True)
    arguments = (ctypes.c_long(_SET_MODE_FILTER), ctypes.c_long(_TSYNC), ctypes.byref(filters))
    if libc.syscall(ctypes.c_long(machine.seccomp), *arguments) != 0:
        raise SeccompUnavailable(errno.errorcode.get(ctypes.get_errno(), "seccomp(2)"))

"""The filter, run by a small interpreter of classic BPF, for every machine that we have a table for."""

from __future__ import annotations

import re
import struct
from pathlib import Path

import pytest

from rendering import seccomp
from rendering.seccomp import ALLOW, CHECKED, FATAL, KILL, MACHINES, NOT_ON_AARCH64, PLAIN, REFUSE, Machine

PID, SOURCE, SINK = 4711, 3, 4
HEADERS = {"x86_64": "/usr/include/x86_64-linux-gnu/asm/unistd_64.h", "aarch64": "/usr/include/asm-generic/unistd.h"}


def run(machine: Machine, call: int, *arguments: int, audit: int | None = None) -> int:
    """What the filter says of a call; fails for an instruction that the kernel would not take."""
    code = seccomp.program(machine, sources=[SOURCE], sinks=[SINK, 1, 2], pid=PID)
    lines = [struct.unpack_from("=HBBI", code, at) for at in range(0, len(code), 8)]
    words = [*arguments, 0, 0, 0, 0, 0, 0][:6]
    data = struct.pack(
        "=IIQ6Q", call, machine.audit if audit is None else audit, 0, *(w & (1 << 64) - 1 for w in words)
    )
    value, at = 0, 0
    while True:
        operation, if_true, if_false, k = lines[at]
        at += 1
        if operation == 0x20:
            assert k % 4 == 0
            assert k < 64
            (value,) = struct.unpack_from("=I", data, k)
        elif operation == 0x06:
            return int(k)
        else:
            holds = {0x15: value == k, 0x35: value >= k, 0x45: bool(value & k)}[operation]
            at += if_true if holds else if_false


@pytest.fixture(params=MACHINES)
def machine(request: pytest.FixtureRequest) -> Machine:
    return MACHINES[request.param]


def test_tables_are_whole_and_without_doubles(machine: Machine) -> None:
    names = {*PLAIN, *CHECKED, *FATAL}
    assert names - set(machine.calls) <= NOT_ON_AARCH64
    assert set(machine.calls) <= names
    assert len(set(machine.calls.values())) == len(machine.calls)
    assert machine.calls["seccomp"] == machine.seccomp
    assert not {*PLAIN} & {*FATAL}


@pytest.mark.parametrize("name", HEADERS)
def test_numbers_are_those_of_the_kernels_headers(name: str) -> None:
    header = Path(HEADERS[name])
    if not header.exists():
        pytest.skip("no kernel headers here")
    said = dict(re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", header.read_text()))
    assert {call: int(said[call]) for call in MACHINES[name].calls} == dict(MACHINES[name].calls)


def test_what_computing_needs_is_allowed(machine: Machine) -> None:
    assert {name: run(machine, machine.calls[name]) for name in PLAIN if name in machine.calls} == {
        name: ALLOW for name in PLAIN if name in machine.calls
    }


def test_what_an_intruder_needs_is_fatal(machine: Machine) -> None:
    assert [name for name in FATAL if name in machine.calls and run(machine, machine.calls[name]) != KILL] == []


def test_everything_else_is_refused(machine: Machine) -> None:
    known = set(machine.calls.values())
    assert {run(machine, number) for number in range(600) if number not in known} == {REFUSE}


def test_only_our_pipes_can_be_read_and_written(machine: Machine) -> None:
    calls = machine.calls
    for name in ("read", "readv"):
        assert [run(machine, calls[name], fd) for fd in (SOURCE, SINK, 0, 5, -1)] == [ALLOW, *[REFUSE] * 4]
    for name in ("write", "writev"):
        assert [run(machine, calls[name], fd) for fd in (SINK, 1, 2, SOURCE, 0, 5)] == [*[ALLOW] * 3, *[REFUSE] * 3]


def test_memory_is_neither_a_files_nor_executable(machine: Machine) -> None:
    mmap, mprotect = machine.calls["mmap"], machine.calls["mprotect"]
    assert run(machine, mmap, 0, 4096, 3, 0x22, -1, 0) == ALLOW
    assert run(machine, mmap, 0, 4096, 7, 0x22, -1, 0) == REFUSE
    assert run(machine, mmap, 0, 4096, 1, 0x02, SOURCE, 0) == REFUSE
    assert run(machine, mprotect, 0, 4096, 3) == ALLOW
    assert run(machine, mprotect, 0, 4096, 5) == REFUSE


def test_signals_are_for_ourselves_alone(machine: Machine) -> None:
    signal = machine.calls["tgkill"]
    assert [run(machine, signal, *words) for words in ((PID, PID, 6), (1, 1, 9))] == [ALLOW, REFUSE]


def test_another_machines_calls_are_fatal(machine: Machine) -> None:
    read = machine.calls["read"]
    assert run(machine, read, SOURCE, audit=0x4000_0003) == KILL
    assert run(machine, read | 0x4000_0000, SOURCE) == KILL


def test_a_machine_without_a_table_has_no_filter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seccomp.platform, "machine", lambda: "riscv64")
    with pytest.raises(seccomp.SeccompUnavailable):
        seccomp.install(sources=[3], sinks=[4])

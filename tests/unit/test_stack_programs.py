"""Which Java, PostgreSQL and Go are used, and what is told where there are none."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from deploy.native import prerequisites, programs, site
from deploy.native.cache import Recipe
from deploy.native.errors import Missing, StackError
from deploy.native.parts import of, postgres
from deploy.native.parts.clamd import Clamd
from deploy.native.parts.kafka import Kafka
from deploy.native.parts.postgres import Postgres
from deploy.native.parts.redis import Redis
from deploy.native.programs import GO_WHEEL, JAVA_WHEEL, POSTGRES_WHEEL, Program
from deploy.native.report import Silent
from deploy.native.site import StackSite
from deploy.native.stack import _lacking

DEBIANS = Program(Path("/usr/lib/postgresql/15/bin"), "15.13")


@pytest.fixture(autouse=True)
def fresh(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """What was found on this machine is looked for anew, and nobody's settings count."""
    for name in ("DPJ_STACK_PREFER", "JAVA_HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("DPJ_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("DPJ_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(programs, "wheels_run_here", lambda: True)
    monkeypatch.setattr(postgres, "OF_ROOT", tmp_path / "of-root")
    finders = (programs._system_java, programs._system_go, programs._system_postgres)
    for finder in finders:
        finder.cache_clear()
    yield
    for finder in finders:
        finder.cache_clear()


@pytest.fixture
def here() -> StackSite:
    return site.load_or_create("mine", "embedded")


@pytest.fixture
def bare(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine with nothing installed, which no wheel is for, and a user who may not install."""
    monkeypatch.setattr(programs, "wheels_run_here", lambda: False)
    monkeypatch.setattr(programs, "_system_java", lambda: None)
    monkeypatch.setattr(programs, "_system_go", lambda: None)
    monkeypatch.setattr(programs, "_system_postgres", lambda: ())
    monkeypatch.setattr(prerequisites.shutil, "which", lambda *_, **__: None)
    monkeypatch.setattr(prerequisites.ctypes.util, "find_library", lambda name: None)
    monkeypatch.setattr(prerequisites.importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(prerequisites.os, "geteuid", lambda: 1000)


def says(folder: Path, name: str, answer: str) -> Path:
    """A program that tells its version."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho '{answer}'\n")
    (folder / name).chmod(0o755)
    return folder


@pytest.mark.parametrize(
    ("answer", "recipe"),
    [
        ('openjdk version "17.0.15" 2025-04-15', None),
        ('openjdk version "25" 2025-09-16', None),
        ('openjdk version "11.0.2"', JAVA_WHEEL),
        ('java version "1.8.0_401"', JAVA_WHEEL),
        ("no Java at all", JAVA_WHEEL),
    ],
)
def test_java_of_the_system_where_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, recipe: Recipe | None
) -> None:
    monkeypatch.setenv("PATH", str(says(tmp_path / "bin", "java", answer)))
    found = programs.java()
    assert found is not None
    assert found.recipe == recipe
    assert (found.folder == tmp_path / "bin") is (recipe is None)


def test_java_home_comes_first_but_not_an_old_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(says(tmp_path / "bin", "java", 'openjdk version "17.0.1"')))
    says(tmp_path / "home" / "bin", "java", 'openjdk version "21.0.1"')
    monkeypatch.setenv("JAVA_HOME", str(tmp_path / "home"))
    found = programs.java()
    assert found is not None
    assert found.version == "21.0.1"
    says(tmp_path / "home" / "bin", "java", 'openjdk version "11.0.1"')
    programs._system_java.cache_clear()
    found = programs.java()
    assert found is not None
    assert found.version == "17.0.1"


@pytest.mark.parametrize(
    ("answer", "recipe"),
    [
        ("go version go1.24.0 linux/amd64", None),
        ("go version go1.30 linux/amd64", None),
        ("go version go1.19.8 linux/amd64", GO_WHEEL),
        ("", GO_WHEEL),
    ],
)
def test_go_of_the_system_where_it_is_new_enough(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer: str, recipe: Recipe | None
) -> None:
    monkeypatch.setenv("PATH", str(says(tmp_path / "bin", "go", answer)))
    tools, environment = programs.go_tools()
    assert tools == recipe
    if recipe:
        assert environment["GOTOOLCHAIN"] == "local"
        assert environment["PATH"].startswith(f"{environment['GOROOT']}/bin:")
        assert environment["GOROOT"].startswith(str(recipe.place()))
    else:
        assert environment == {}


def test_the_newest_postgres_of_the_system_that_is_new_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for major in (13, 15, 16):
        says(tmp_path / "lib" / str(major) / "bin", "postgres", f"postgres (PostgreSQL) {major}.4 (Debian {major}.4-1)")
        says(tmp_path / "lib" / str(major) / "bin", "initdb", "")
    says(
        tmp_path / "lib" / "17" / "bin", "postgres", "postgres (PostgreSQL) 17.0"
    )  # without initdb: a client's package
    pattern = str((tmp_path / "lib" / "*" / "bin").relative_to("/"))
    monkeypatch.setattr(programs, "POSTGRES_FOLDERS", (pattern,))
    monkeypatch.setenv("PATH", str(says(tmp_path / "lib" / "16" / "bin", "initdb", "")))
    found = [programs.postgres(major) for major in (None, 15, 16, 13)]
    assert [(each.version, each.recipe) if each else None for each in found] == [
        *(("16.4", None), ("15.4", None), ("16.4", None)),
        None,
    ]


def test_wheels_are_taken_where_they_are_preferred(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "_system_postgres", lambda: (DEBIANS,))
    monkeypatch.setattr(programs, "_system_java", lambda: Program(Path("/usr/bin"), "17.0.1"))
    assert [found and found.recipe for found in (programs.java(), programs.postgres())] == [None, None]
    monkeypatch.setenv("DPJ_STACK_PREFER", "wheels")
    assert [found and found.recipe for found in (programs.java(), programs.go(), programs.postgres())] == [
        *(JAVA_WHEEL, GO_WHEEL, POSTGRES_WHEEL)
    ]
    monkeypatch.setenv("DPJ_STACK_PREFER", "wheel")
    with pytest.raises(StackError, match="`system` or `wheels`"):
        programs.java()


def test_a_stack_with_tls_takes_the_systems_postgres_even_so(monkeypatch: pytest.MonkeyPatch, here: StackSite) -> None:
    monkeypatch.setenv("DPJ_STACK_PREFER", "wheels")
    monkeypatch.setattr(programs, "_system_postgres", lambda: (DEBIANS,))
    assert programs.postgres(tls=True) == DEBIANS
    monkeypatch.setattr(programs, "_system_postgres", lambda: ())
    here.identity["tls"] = True
    assert Postgres().lacks(here) == [prerequisites.POSTGRES_TLS]


def test_data_stay_with_the_version_that_made_them(monkeypatch: pytest.MonkeyPatch, here: StackSite) -> None:
    part = Postgres()
    monkeypatch.setattr(postgres.os, "geteuid", lambda: 1000)
    cluster = part._cluster(here)
    cluster.mkdir()
    (cluster / "PG_VERSION").write_text("15\n")
    monkeypatch.setattr(programs, "_system_postgres", lambda: (DEBIANS,))
    monkeypatch.setenv("DPJ_STACK_PREFER", "wheels")
    assert part.programs(here) == (DEBIANS,)
    assert part.command(here_with_ports(here)).arguments[0] == "/usr/lib/postgresql/15/bin/postgres"
    monkeypatch.setattr(programs, "_system_postgres", lambda: ())
    assert part.recipes(here) == ()
    [missing] = part.lacks(here)
    assert missing.name == "PostgreSQL 15"
    assert "dpj stack down --name mine --wipe" in missing.next_step
    (cluster / "PG_VERSION").write_text("18\n")
    assert part.recipes(here) == (POSTGRES_WHEEL,)
    assert part.lacks(here) == []


def here_with_ports(here: StackSite) -> StackSite:
    here.identity["ports"] = {"postgres": 20_000}
    return here


@pytest.mark.parametrize(
    ("accounts", "owner", "expected"),
    [
        (["root", "nobody", "postgres"], None, "postgres"),
        (["root", "nobody"], None, "nobody"),
        (["root", "nobody", "postgres"], "nobody", "nobody"),  # its data were made before the package was installed
    ],
)
def test_root_gives_the_server_an_account(
    monkeypatch: pytest.MonkeyPatch, here: StackSite, accounts: list[str], owner: str | None, expected: str
) -> None:
    entries = {
        name: postgres.pwd.struct_passwd((name, "x", 500 + i, 500, "", "/", "")) for i, name in enumerate(accounts)
    }
    monkeypatch.setattr(postgres.os, "geteuid", lambda: 0)
    monkeypatch.setattr(postgres.pwd, "getpwall", lambda: list(entries.values()))
    monkeypatch.setattr(postgres.pwd, "getpwuid", lambda uid: next(e for e in entries.values() if e.pw_uid == uid))
    if owner is not None:
        folder = postgres.OF_ROOT / here.id
        folder.mkdir(parents=True)
        stat = folder.stat()
        fields = list(stat)
        fields[4] = entries[owner].pw_uid
        monkeypatch.setattr(Path, "stat", lambda self, **_: postgres.os.stat_result(fields))
    assert postgres._account(here) == expected


@pytest.mark.usefixtures("bare")
def test_all_that_is_missing_is_a_line_with_its_next_step(here: StackSite) -> None:
    with pytest.raises(Missing) as error:
        prerequisites.ensure(lambda: _lacking(here, of("full", ("redis",))), Silent())
    first, *lines = str(error.value).splitlines()
    assert first == "these are missing:"
    named = {line.strip().partition(":")[0]: line for line in lines}
    assert len(named) == len(lines)  # two parts need Java, several need Go
    assert named.keys() == {
        *("Java >= 17", "Go >= 1.24", "PostgreSQL >= 15", "libmagic", "Redis", "ClamAV's daemon"),
    }
    for package in ("default-jre-headless", "golang-go", "postgresql", "libmagic1", "redis-server", "clamav-daemon"):
        assert f"apt-get install {package}" in str(error.value)


def test_nothing_is_missing_where_the_wheels_are_for(monkeypatch: pytest.MonkeyPatch, here: StackSite) -> None:
    for name in ("_system_java", "_system_go"):
        monkeypatch.setattr(programs, name, lambda: None)
    monkeypatch.setattr(programs, "_system_postgres", lambda: ())
    monkeypatch.setattr(prerequisites.ctypes.util, "find_library", lambda name: None)
    assert _lacking(here, of("embedded", ())) == []
    assert JAVA_WHEEL in Kafka().recipes(here)


@pytest.mark.usefixtures("bare")
def test_go_is_asked_for_only_if_something_is_to_be_built(monkeypatch: pytest.MonkeyPatch, here: StackSite) -> None:
    monkeypatch.setattr(Recipe, "built", lambda self: True)
    assert prerequisites.GO not in _lacking(here, of("full", ()))


def test_apt_installs_for_root_what_no_wheel_has_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, here: StackSite
) -> None:
    installed: list[str] = []
    monkeypatch.setattr(prerequisites.os, "geteuid", lambda: 0)
    monkeypatch.setattr(
        prerequisites.shutil, "which", lambda name, **_: "/usr/bin/apt-get" if name == "apt-get" else None
    )
    monkeypatch.setattr(prerequisites, "_install", lambda packages, reporter: installed.extend(packages))
    lacking = [prerequisites.JAVA, prerequisites.POSTGRES, prerequisites.POSTGRES_TLS, *Clamd().lacks(here)]
    with pytest.raises(Missing):
        prerequisites.ensure(lambda: [*lacking, *Redis().lacks(here)], Silent())
    assert installed == ["clamav-daemon", "postgresql", "redis-server"]


def test_what_was_just_installed_is_found(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(programs, "POSTGRES_FOLDERS", ())
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr(prerequisites.os, "geteuid", lambda: 0)
    monkeypatch.setattr(prerequisites.shutil, "which", lambda name, **_: str(tmp_path / name))
    monkeypatch.setattr(
        prerequisites,
        "_install",
        lambda *_: says(says(tmp_path, "initdb", ""), "postgres", "postgres (PostgreSQL) 15.18"),
    )

    def lacking() -> list[prerequisites.Prerequisite]:
        return [] if programs.postgres(tls=True) else [prerequisites.POSTGRES_TLS]

    prerequisites.ensure(lacking, Silent())
    assert lacking() == []


@pytest.mark.usefixtures("bare")
def test_the_antivirus_is_needed_by_the_full_profile_alone(here: StackSite) -> None:
    assert prerequisites.CLAMD not in _lacking(here, of("embedded", ()))
    assert prerequisites.CLAMD in _lacking(here, of("full", ()))

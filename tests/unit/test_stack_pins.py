"""The pinned lists: every download of the stack has a hash, for each machine that it is for."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from deploy import fetch_uv
from deploy.native import cache, jars, programs
from deploy.native.cache import Recipe
from deploy.native.parts import ALL
from deploy.native.parts.ged import Ged
from deploy.native.parts.kafka import Kafka
from deploy.native.parts.keycloak import Keycloak

WHEELS = (programs.JAVA_WHEEL, programs.POSTGRES_WHEEL, programs.GO_WHEEL)


def folder(recipe: Recipe | None) -> Path:
    assert recipe is not None
    return cache.SOURCES / recipe.folder


@pytest.mark.parametrize("recipe", [part.recipe for part in ALL if part.recipe and part.recipe.tool == "jars"])
def test_jars_have_a_hash_a_size_and_a_place_of_their_own(recipe: Recipe) -> None:
    listed = jars.read(folder(recipe) / jars.LIST)
    assert len({jar.target for jar in listed}) == len(listed)
    assert len({jar.sha256 for jar in listed}) == len(listed)
    for jar in listed:
        assert jar.size > 0
        assert not Path(jar.target).is_absolute()
        assert ".." not in Path(jar.target).parts


@pytest.mark.parametrize("recipe", [Kafka.recipe, Ged.recipe, Keycloak.recipe])
def test_the_list_has_what_the_pom_asks_for(recipe: Recipe | None) -> None:
    pom = (folder(recipe) / "pom.xml").read_text("utf-8")
    asked = re.findall(
        r"<dependency>\s*<groupId>(.+?)</groupId>\s*<artifactId>(.+?)</artifactId>\s*<version>(.+?)</version>", pom
    )
    assert asked
    paths = {jar.path.rpartition("/")[0] for jar in jars.read(folder(recipe) / jars.LIST)}
    assert {f"{group.replace('.', '/')}/{name}/{version}" for group, name, version in asked} <= paths


@pytest.mark.parametrize(
    "line", ["0" * 62 + " 1 libs/a.jar a.jar", "x" * 64 + " 1 libs/a.jar a.jar", "0" * 64 + " 1 a.jar"]
)
def test_a_line_that_pins_nothing_is_refused(tmp_path: Path, line: str) -> None:
    (tmp_path / "jars.txt").write_text(line)
    with pytest.raises(ValueError, match=r"."):
        jars.read(tmp_path / "jars.txt")


@pytest.mark.parametrize("recipe", WHEELS)
def test_wheels_are_pinned_at_the_recipes_version_for_each_machine(recipe: Recipe) -> None:
    text = (folder(recipe) / cache.WHEEL_LIST).read_text("utf-8")
    pinned = re.findall(r"^\S+==(\S+) ", text, re.MULTILINE)
    assert pinned == [recipe.version]
    assert len(set(re.findall(r"--hash=sha256:[0-9a-f]{64}$|--hash=sha256:[0-9a-f]{64} ", text, re.MULTILINE))) == len(
        cache.WHEEL_MACHINES
    )


def test_uv_is_pinned_for_each_machine() -> None:
    for machine in cache.WHEEL_MACHINES:
        name, digest, size = fetch_uv.pinned(machine)
        assert re.fullmatch(rf"uv-[\d.]+-py3-none-manylinux\S*{machine}\.whl", name)
        assert len(bytes.fromhex(digest)) == 32
        assert size > 1_000_000
    with pytest.raises(fetch_uv.DownloadFailed, match="install uv yourself"):
        fetch_uv.pinned("ppc64le")

"""A server is up once it answers and holds what it must; what may pass is tried again."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest
from minio.error import MinioAdminException

from deploy.native import site
from deploy.native.errors import PartFailed
from deploy.native.launch import Launch
from deploy.native.parts.base import NotReady, Part
from deploy.native.parts.minio import MinIO
from deploy.native.report import Silent
from deploy.native.site import StackSite
from deploy.native.supervisor import Command, Supervisor


class Sleeper(Part):
    """A process that does nothing, and whose set-up goes as it is told: one outcome a try, None for success."""

    name: ClassVar[str] = "sleeper"
    port: ClassVar[str] = "api"

    def __init__(self, *outcomes: Exception | None) -> None:
        self.outcomes = list(outcomes)

    def command(self, site: StackSite) -> Command:
        return Command(("/bin/sleep", "60"), {}, site.folder)

    def ask(self, site: StackSite) -> None:
        pass

    def set_up(self, site: StackSite) -> None:
        outcome = self.outcomes.pop(0)
        if outcome is not None:
            raise outcome


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[StackSite]:
    monkeypatch.setenv("DPJ_HOME", str(tmp_path))
    made = site.load_or_create("alone", "full")
    yield made
    Supervisor(made.folder).stop(["sleeper"])


def launched(here: StackSite, part: Part) -> Supervisor:
    supervisor = Supervisor(here.folder)
    Launch(here, supervisor, Silent(), [part], frozenset()).run()
    return supervisor


def test_a_set_up_that_may_pass_is_tried_again(here: StackSite) -> None:
    part = Sleeper(NotReady("its users are not there yet"), NotReady("still not"), None)
    assert "sleeper" in launched(here, part).running()
    assert part.outcomes == []


def test_a_set_up_that_does_not_pass_fails_at_once(here: StackSite) -> None:
    part = Sleeper(PartFailed("sleeper", "wrong password", ""), None)
    with pytest.raises(PartFailed, match="wrong password"):
        launched(here, part)
    assert part.outcomes == [None]


@pytest.mark.parametrize(
    ("status", "raised"), [("503", NotReady), ("500", NotReady), ("403", PartFailed), ("400", PartFailed)]
)
def test_minio_is_asked_again_where_it_does_not_know_its_users_yet(
    here: StackSite, monkeypatch: pytest.MonkeyPatch, status: str, raised: type[Exception]
) -> None:
    def refuse(*_: object) -> None:
        raise MinioAdminException(status, '{"Code": "XMinioServerNotInitialized", "Message": "a secret"}')

    monkeypatch.setattr("deploy.native.parts.minio.MinioAdmin.user_add", refuse)
    here.identity["ports"] = {"minio": 1}
    with pytest.raises(raised, match="XMinioServerNotInitialized") as told:
        MinIO().set_up(here)
    assert "a secret" not in str(told.value)

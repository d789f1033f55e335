"""A process is let in to its keyring at its start: it waits for one that is away, and ends where waiting would not help."""

from __future__ import annotations

import asyncio
from typing import Any, cast

import pytest

from domain.errors import KeyringLoginRefused, KeyringUnavailable
from processors.operators.keys import BATCH, Throttle
from runtime.wiring import adapters as wiring_adapters
from runtime.wiring.site import Site
from tests.support.settings import settings_of


class Keyring:
    """Raises the errors it was given, one at each check."""

    def __init__(self, *errors: Exception) -> None:
        self.errors = list(errors)
        self.checks = 0

    async def check(self) -> None:
        self.checks += 1
        if self.errors:
            raise self.errors.pop(0)


def a_site(keyring: Keyring | None) -> Site:
    site = Site(cast("Any", None))
    if keyring is not None:
        vars(site)["_keyring"] = keyring
    return site


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wiring_adapters, "LOGIN_SECONDS", 0.001)


async def test_it_waits_for_a_keyring_that_is_away_and_then_as_long_as_the_process_lives() -> None:
    keyring, stopping = Keyring(KeyringUnavailable(), KeyringUnavailable()), asyncio.Event()
    running = asyncio.create_task(a_site(keyring).log_in(stopping))
    async with asyncio.timeout(5):
        while keyring.checks < 3:
            await asyncio.sleep(0.001)
    await asyncio.sleep(0.01)
    assert (keyring.checks, running.done()) == (3, False)
    stopping.set()
    await running


async def test_a_stop_ends_the_waiting() -> None:
    keyring, stopping = Keyring(*[KeyringUnavailable() for _ in range(10_000)]), asyncio.Event()
    running = asyncio.create_task(a_site(keyring).log_in(stopping))
    await asyncio.sleep(0.01)
    stopping.set()
    async with asyncio.timeout(5):
        await running


async def test_a_stop_does_not_wait_for_a_vault_that_hangs() -> None:
    class Hanging(Keyring):
        async def check(self) -> None:
            await asyncio.Event().wait()

    stopping = asyncio.Event()
    running = asyncio.create_task(a_site(Hanging()).log_in(stopping))
    await asyncio.sleep(0.01)
    stopping.set()
    async with asyncio.timeout(5):
        await running


async def test_a_login_that_is_refused_for_good_ends_the_process() -> None:
    with pytest.raises(KeyringLoginRefused):
        await a_site(Keyring(KeyringUnavailable(), KeyringLoginRefused())).log_in(asyncio.Event())


async def test_a_process_without_a_keyring_needs_no_login() -> None:
    stopping = asyncio.Event()
    running = asyncio.create_task(a_site(None).log_in(stopping))
    await asyncio.sleep(0.01)
    assert not running.done()
    stopping.set()
    await running


async def test_a_pace_is_kept_over_many_batches_and_never_made_up_for() -> None:
    now, slept = 100.0, []

    async def sleep(seconds: float) -> None:
        nonlocal now
        slept.append(seconds)
        now += seconds

    pace = Throttle(100, lambda: now, sleep)
    assert pace.batch == 100
    assert Throttle(1e6, lambda: now, sleep).batch == BATCH
    assert Throttle(1, lambda: now, sleep).batch == 1
    for _ in range(5):
        await pace.after(100)
    assert now == pytest.approx(105)
    now += 1000  # a pause of the keyring's is no credit
    await pace.after(100)
    assert slept[-1] == pytest.approx(1)


class Session:
    """Vault's login; the first check finds Vault away."""

    def __init__(self) -> None:
        self.checks = 0

    def check(self) -> None:
        self.checks += 1
        if self.checks == 1:
            raise KeyringUnavailable


async def test_who_signs_with_vault_and_opens_no_document_logs_in_too() -> None:
    """A wrapped secret id is short-lived: it is used at the start, not at the first checkpoint."""
    site, session, stopping = a_site(None), Session(), asyncio.Event()
    vars(site)["_vault"] = session
    running = asyncio.create_task(site.log_in(stopping))
    async with asyncio.timeout(5):
        while session.checks < 2:
            await asyncio.sleep(0.001)
    stopping.set()
    await running


def test_keyring_and_signer_of_a_process_share_its_login() -> None:
    """Two logins would use a wrapped secret id twice, which is told as theft."""
    given = {"keyring": "vault", "signer": "vault", "vault_addr": "http://127.0.0.1:1"}
    site = Site(settings_of(**given))
    assert cast("Any", site._keyring)._session is cast("Any", site.signing.signer)._session

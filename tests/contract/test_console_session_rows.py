"""Sessions of the console: found by their digest, over by time, ended by the marks of a person or a session; in memory and on PostgreSQL."""

from __future__ import annotations

import asyncio
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import asyncpg
import pytest

from domain.revocations import RevocableClaim, mark_of
from domain.sessions import StoredSession, subject_mark
from tests.support.database_backends import DatabaseBackend, Rolled

ON_POSTGRES = pytest.mark.parametrize("bare_site", ["postgres"], indirect=True)
NOW = datetime(2026, 3, 1, 8, tzinfo=UTC)
MARIE, PAUL = subject_mark("marie"), subject_mark("paul")


def a_session(*marks: str, **changes: Any) -> StoredSession:
    base = {
        "digest": secrets.token_bytes(32),
        "identity_sealed": "sealed",
        "marks": marks,
        "opened_at": NOW,
        "seen_at": NOW,
        "ends_at": NOW + timedelta(hours=8),
    }
    return StoredSession(**{**base, **changes})


async def put(site: DatabaseBackend, *sessions: StoredSession) -> None:
    async with site.database.transaction() as work:
        for one in sessions:
            await work.sessions.add(one)


async def find(site: DatabaseBackend, session: StoredSession) -> StoredSession | None:
    async with site.database.transaction() as work:
        return await work.sessions.find(session.digest)


async def end(site: DatabaseBackend, *marks: str) -> set[bytes]:
    async with site.database.transaction() as work:
        return {one.digest for one in await work.sessions.remove_marked(marks)}


async def test_a_session_is_what_was_kept_and_knows_when_it_was_used(site: DatabaseBackend) -> None:
    mine, other = a_session(MARIE), a_session(PAUL)
    await put(site, mine, other)
    assert await find(site, mine) == mine
    later = NOW + timedelta(minutes=5)
    async with site.database.transaction() as work:
        await work.sessions.touch(mine.digest, later)
    found = await find(site, mine)
    assert found is not None
    assert (found.seen_at, found.ends_at) == (later, mine.ends_at)
    assert await find(site, other) == other
    assert await find(site, a_session()) is None


async def test_what_had_ended_leaves_when_the_next_one_begins(site: DatabaseBackend) -> None:
    over, just, going = (a_session(ends_at=NOW + timedelta(seconds=seconds)) for seconds in (-1, 0, 1))
    # Not by the clock of the server: by the new one's beginning.
    await put(site, *(StoredSession(**{**fields(one), "opened_at": NOW - timedelta(hours=1)}) for one in (over, just)))
    await put(site, going)
    assert await find(site, over) is None
    assert await find(site, just) is None
    assert await find(site, going) == going


async def test_a_session_is_ended_once_and_says_whose_it_was(site: DatabaseBackend) -> None:
    mine = a_session(MARIE)
    await put(site, mine)
    for expected in (mine, None):
        async with site.database.transaction() as work:
            assert await work.sessions.remove(mine.digest) == expected


async def test_a_person_s_sessions_end_together_and_one_of_them_by_its_own_mark(site: DatabaseBackend) -> None:
    first, second = (mark_of(RevocableClaim.SESSION, name) for name in ("s-1", "s-2"))
    laptop, phone, others = a_session(MARIE, first), a_session(MARIE, second), a_session(PAUL)
    await put(site, laptop, phone, others)
    assert await end(site, "sub:nobody") == set()
    assert await end(site, first) == {laptop.digest}
    assert await find(site, phone) == phone
    assert await end(site, MARIE, second) == {phone.digest}
    assert await find(site, others) == others


async def test_a_transaction_that_fails_ends_nothing(site: DatabaseBackend) -> None:
    mine = a_session(MARIE)
    await put(site, mine)

    async def undone() -> None:
        async with site.database.transaction() as work:
            assert [one.digest for one in await work.sessions.remove_marked([MARIE])] == [mine.digest]
            raise Rolled

    with pytest.raises(Rolled):
        await undone()
    assert await find(site, mine) == mine


@ON_POSTGRES
async def test_a_logout_while_it_is_used_ends_it_once_for_all(site: DatabaseBackend) -> None:
    sessions = [a_session(MARIE) for _ in range(4)]
    await put(site, *sessions)

    async def use(one: StoredSession) -> None:
        for minute in range(5):
            async with site.database.transaction() as work:
                if await work.sessions.find(one.digest):
                    await work.sessions.touch(one.digest, NOW + timedelta(minutes=minute))

    ended = await asyncio.gather(end(site, MARIE), end(site, MARIE), *map(use, sessions))
    told = [digest for found in ended[:2] for digest in found or ()]
    assert sorted(told) == sorted(one.digest for one in sessions)  # each by one of the two
    assert [await find(site, one) for one in sessions] == [None] * 4


@ON_POSTGRES
async def test_the_database_takes_no_cookie_for_a_digest(site: DatabaseBackend) -> None:
    with pytest.raises(asyncpg.CheckViolationError):
        await put(site, a_session(digest=b"the cookie itself"))


def fields(session: StoredSession) -> dict[str, Any]:
    return {name: getattr(session, name) for name in session.__slots__}

"""Idempotency-Keys and inbox claims under races: exactly one holder, and none for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from uuid import UUID, uuid4

import asyncpg
import pytest

from deploy.native import site as native_site
from domain.documents import Document
from domain.errors import ClaimLost, DatabaseUnavailable
from domain.lifecycle import Status
from domain.records import IdempotencyRecord
from domain.refusals import UploadSuperseded
from storage.postgres.database import Postgres, PostgresDatabase
from storage.postgres.delivery.inbox import ClaimResult, PostgresInbox
from storage.postgres.housekeeping import ORDERS_SECONDS, PostgresHousekeeping
from tests.support.builders import a_claim, a_document, a_dossier, add_documents


@pytest.fixture
def server_log(stack: Mapping[str, str]) -> Callable[[], str]:
    """What PostgreSQL has logged by now."""
    here = native_site.load(stack["DPJ_STACK_NAME"])
    assert here is not None
    return lambda: (here.folder / "logs" / "postgres.log").read_text("utf-8", "replace")


SCOPE = ("acme", "u-portal", "key-1")


async def claim(
    database: PostgresDatabase, lease: float = 60.0, *, linger: float = 0.0, scope: tuple[str, str, str] = SCOPE
) -> tuple[Document, IdempotencyRecord | None]:
    """What an upload's first transaction does: claim the key, and begin the row if the key is ours."""
    dossier = a_dossier(tenant=scope[0])
    document = a_document(dossier, Status.PENDING)
    async with database.transaction() as work:
        held = await work.idempotency.claim(scope, a_claim(document), lease)
        if held is None:
            await work.dossiers.add(dossier)
            await work.uploads.begin(document, lease)
        await asyncio.sleep(linger)
    return document, held


# --- Idempotency-Keys -------------------------------------------------------------------------------------------------


async def test_of_many_claims_at_once_one_gets_the_key_and_the_others_see_it(database: PostgresDatabase) -> None:
    answers = await asyncio.gather(*(claim(database, linger=0.05) for _ in range(8)))
    winners = [document for document, held in answers if held is None]
    assert len(winners) == 1
    held = {record.document_id for _, record in answers if record is not None}
    assert held == {winners[0].id}
    assert not any(record.done or record.expired for _, record in answers if record)


async def test_a_claim_that_rolls_back_lets_the_one_that_waits_have_the_key(database: PostgresDatabase) -> None:
    claimed = asyncio.Event()

    async def fails() -> None:
        async with database.transaction() as work:
            assert await work.idempotency.claim(SCOPE, a_claim(a_document()), 60) is None
            claimed.set()
            await asyncio.sleep(0.2)
            raise KeyError

    failing = asyncio.create_task(fails())
    await claimed.wait()
    waiting = asyncio.create_task(claim(database))
    await asyncio.sleep(0.05)
    assert not waiting.done()
    assert (await waiting)[1] is None
    with pytest.raises(KeyError):
        await failing


async def test_keys_are_the_callers_own(database: PostgresDatabase) -> None:
    for scope in (SCOPE, ("globex", *SCOPE[1:]), ("acme", "u-2", "key-1"), ("acme", "u-portal", "key-2")):
        assert (await claim(database, scope=scope))[1] is None


async def test_an_expired_lease_frees_the_key(database: PostgresDatabase) -> None:
    first, _ = await claim(database, 0.2)
    assert (await claim(database))[1] == a_claim(first)
    await asyncio.sleep(0.3)
    second, held = await claim(database)
    assert held is None
    async with database.transaction() as work:
        with pytest.raises(UploadSuperseded):
            await work.idempotency.complete(SCOPE, first.object_key, "a" * 64, {})
        with pytest.raises(UploadSuperseded):
            await work.idempotency.renew(SCOPE, first.object_key, 60)
        await work.idempotency.release(SCOPE, first.object_key)
    assert (await claim(database))[1] == a_claim(second)


async def test_a_renewed_lease_keeps_the_key(database: PostgresDatabase) -> None:
    first, _ = await claim(database, 0.3)
    async with database.transaction() as work:
        await work.idempotency.renew(SCOPE, first.object_key, 60)
    await asyncio.sleep(0.4)
    assert (await claim(database))[1] == a_claim(first)


async def test_an_abandoned_upload_frees_the_key(database: PostgresDatabase, postgres: Postgres) -> None:
    first, _ = await claim(database, 60)
    async with postgres.connection() as connection:
        await connection.execute("UPDATE documents SET bail_expire_a = now() WHERE id = $1", first.id)
    async with database.transaction() as work:
        assert [document.id for document in await work.uploads.abandon_expired(10)] == [first.id]
    assert (await claim(database))[1] is None


async def test_a_released_key_is_free_at_once(database: PostgresDatabase) -> None:
    first, _ = await claim(database)
    async with database.transaction() as work:
        await work.idempotency.release(SCOPE, first.object_key)
        waiting = asyncio.create_task(claim(database))
        await asyncio.sleep(0.1)
        assert not waiting.done()
    assert (await waiting)[1] is None


async def test_a_completed_key_gives_its_answer_for_good(database: PostgresDatabase) -> None:
    first, _ = await claim(database, 0.2)
    response = {"status": 201, "body": {"text": "é", "status": "STORED", "id": str(first.id)}}
    async with database.transaction() as work:
        await work.idempotency.complete(SCOPE, first.object_key, "a" * 64, response)
    await asyncio.sleep(0.3)
    async with database.transaction() as work:
        await work.idempotency.release(SCOPE, first.object_key)
        with pytest.raises(UploadSuperseded):
            await work.idempotency.complete(SCOPE, first.object_key, "b" * 64, {})
    _, held = await claim(database)
    assert held is not None
    assert held.response is not None
    assert list(held.response["body"]) == ["text", "status", "id"]  # the same text again, not only the same values
    assert replace(held, expired=False) == replace(
        a_claim(first), done=True, content_sha256="a" * 64, response=response
    )


# --- the inbox --------------------------------------------------------------------------------------------------------

KEY = "document-1"


@pytest.fixture
def inbox(postgres: Postgres) -> PostgresInbox:
    return PostgresInbox(postgres)


async def finish(database: PostgresDatabase, event: UUID, owner: UUID, outcome: str = "DONE") -> None:
    async with database.transaction() as work:
        await work.inbox.finish("archiving", event, owner, outcome)


async def test_of_many_owners_one_acquires_an_event(inbox: PostgresInbox) -> None:
    event = uuid4()
    answers = await asyncio.gather(*(inbox.claim("archiving", event, KEY, uuid4(), 60) for _ in range(24)))
    assert sorted(answer.name for answer in answers) == ["ACQUIRED"] + ["BUSY"] * 23
    assert await inbox.claim("audit", event, KEY, uuid4(), 60) is ClaimResult.ACQUIRED


async def test_of_many_events_of_a_document_one_is_acquired(inbox: PostgresInbox) -> None:
    answers = await asyncio.gather(*(inbox.claim("archiving", uuid4(), KEY, uuid4(), 60) for _ in range(24)))
    assert sorted(answer.name for answer in answers) == ["ACQUIRED"] + ["BUSY"] * 23
    assert await inbox.claim("archiving", uuid4(), "document-2", uuid4(), 60) is ClaimResult.ACQUIRED


async def test_of_many_owners_one_takes_an_expired_claim_over(inbox: PostgresInbox) -> None:
    event, dead = uuid4(), uuid4()
    await inbox.claim("archiving", event, KEY, dead, 0.0)
    owners = [uuid4() for _ in range(24)]
    answers = await asyncio.gather(*(inbox.claim("archiving", event, KEY, owner, 60) for owner in owners))
    assert [answer.name for answer in answers].count("ACQUIRED") == 1
    assert await inbox.renew("archiving", event, dead, 60) is False
    winner = owners[[answer.name for answer in answers].index("ACQUIRED")]
    assert await inbox.renew("archiving", event, winner, 60) is True


async def test_an_expired_claim_on_another_event_of_the_document_is_freed(inbox: PostgresInbox) -> None:
    first, dead = uuid4(), uuid4()
    await inbox.claim("archiving", first, KEY, dead, 0.0)
    answers = await asyncio.gather(*(inbox.claim("archiving", uuid4(), KEY, uuid4(), 60) for _ in range(12)))
    assert sorted(answer.name for answer in answers) == ["ACQUIRED"] + ["BUSY"] * 11
    assert await inbox.renew("archiving", first, dead, 60) is False


async def test_mixed_events_and_owners_never_hold_a_document_twice(inbox: PostgresInbox, postgres: Postgres) -> None:
    events = [uuid4() for _ in range(3)]

    async def work(number: int) -> int:
        done = 0
        for turn in range(12):
            event, owner = events[(number + turn) % 3], uuid4()
            # A lease of 0 stands for an owner that died at once.
            answer = await inbox.claim("archiving", event, KEY, owner, 0.0 if turn % 4 == 3 else 30.0)
            async with postgres.connection() as connection:
                held = await connection.fetchval(
                    "SELECT count(*) FROM inbox WHERE document_key = $1 AND state = 'CLAIMED'", KEY
                )
            assert held <= 1
            if answer is ClaimResult.ACQUIRED and turn % 4 != 3:
                assert await inbox.renew("archiving", event, owner, 30.0)
                await inbox.release("archiving", event, owner)
                done += 1
        return done

    assert sum(await asyncio.gather(*(work(number) for number in range(6)))) > 0


async def test_claims_on_events_of_one_document_never_wait_for_each_other_in_a_ring(postgres: Postgres) -> None:
    """A process's claims go out together, each of another process's alone: a deadlock would cost a second, and an error."""
    workers = [PostgresInbox(postgres) for _ in range(3)]
    events = [uuid4() for _ in range(4)]

    async def work(number: int) -> None:
        for turn in range(200):
            event, owner = events[(number + turn) % 4], uuid4()
            answer = await workers[number % 3].claim("archiving", event, KEY, owner, 30.0)
            if answer is ClaimResult.ACQUIRED:
                await workers[number % 3].release("archiving", event, owner)

    await asyncio.gather(*(work(number) for number in range(12)))
    async with postgres.connection() as connection:
        deadlocks = "SELECT deadlocks FROM pg_stat_database WHERE datname = current_database()"
        assert await connection.fetchval(deadlocks) == 0


@pytest.mark.parametrize("outcome", ["DONE", "DEAD"])
async def test_a_finished_event_is_done_for_everyone(
    inbox: PostgresInbox, database: PostgresDatabase, outcome: str
) -> None:
    event, owner = uuid4(), uuid4()
    await inbox.claim("archiving", event, KEY, owner, 60)
    assert await inbox.claim("archiving", event, KEY, owner, 60) is ClaimResult.ACQUIRED
    await finish(database, event, owner, outcome)
    assert await inbox.claim("archiving", event, KEY, owner, 60) is ClaimResult.DONE
    assert await inbox.claim("archiving", event, KEY, uuid4(), 60) is ClaimResult.DONE
    assert await inbox.renew("archiving", event, owner, 60) is False
    await inbox.release("archiving", event, owner)
    assert await inbox.claim("archiving", event, KEY, uuid4(), 60) is ClaimResult.DONE
    assert await inbox.claim("archiving", uuid4(), KEY, uuid4(), 60) is ClaimResult.ACQUIRED


async def test_an_owner_that_lost_its_claim_writes_nothing(inbox: PostgresInbox, database: PostgresDatabase) -> None:
    event, slow, quick = uuid4(), uuid4(), uuid4()
    await inbox.claim("archiving", event, KEY, slow, 0.0)
    assert await inbox.claim("archiving", event, KEY, quick, 60) is ClaimResult.ACQUIRED
    dossier = a_dossier()

    async def write(owner: UUID) -> None:
        async with database.transaction() as work:
            await work.dossiers.add(dossier)
            await work.inbox.finish("archiving", event, owner, "DONE")

    with pytest.raises(ClaimLost):
        await write(slow)
    async with database.transaction() as work:
        assert await work.dossiers.page("acme", None, 10) == []
    await inbox.release("archiving", event, slow)
    await write(quick)
    with pytest.raises(ClaimLost):
        await finish(database, event, quick)


async def test_claims_asked_for_at_once_are_each_answered_for_themselves(
    inbox: PostgresInbox, database: PostgresDatabase
) -> None:
    done, busy, again, expired, mine = uuid4(), uuid4(), uuid4(), uuid4(), uuid4()
    await inbox.claim("archiving", done, "done", mine, 60)
    async with database.transaction() as work:
        await work.inbox.finish("archiving", done, mine, "DONE")
    await inbox.claim("archiving", busy, "busy", uuid4(), 60)
    await inbox.claim("archiving", again, "again", mine, 60)
    await inbox.claim("archiving", uuid4(), "expired", uuid4(), -1.0)
    asked = [(done, "done"), (busy, "busy"), (uuid4(), "busy"), (again, "again"), (expired, "expired")]
    free = [(uuid4(), f"free-{number}") for number in range(600)]
    answers = await asyncio.gather(*(inbox.claim("archiving", *each, mine, 60) for each in asked))
    owners = {event: uuid4() for event, _ in free}
    assert [answer.name for answer in answers] == ["DONE", "BUSY", "BUSY", "ACQUIRED", "ACQUIRED"]
    answers = await asyncio.gather(*(inbox.claim("archiving", *each, owners[each[0]], 60) for each in free))
    assert {answer.name for answer in answers} == {"ACQUIRED"}
    async with database.transaction() as work:
        for event, owner in owners.items():
            await work.inbox.finish("archiving", event, owner, "DONE")


async def test_one_lost_claim_undoes_a_transaction_that_finishes_many(
    inbox: PostgresInbox, database: PostgresDatabase
) -> None:
    owner, first, second = uuid4(), uuid4(), uuid4()
    await asyncio.gather(*(inbox.claim("archiving", event, str(event), owner, 60) for event in (first, second)))

    async def finish(second_owner: UUID) -> None:
        async with database.transaction() as work:
            await work.inbox.finish("archiving", first, owner, "DONE")
            await work.inbox.finish("archiving", second, second_owner, "DONE")

    with pytest.raises(ClaimLost):
        await finish(uuid4())
    assert (await inbox.claim("archiving", first, str(first), uuid4(), 60)).name == "BUSY"
    await finish(owner)
    assert (await inbox.claim("archiving", first, str(first), uuid4(), 60)).name == "DONE"


async def test_a_claim_whose_asker_was_cancelled_is_given_back(inbox: PostgresInbox) -> None:
    event = uuid4()
    asking = asyncio.create_task(inbox.claim("archiving", event, KEY, uuid4(), 60))
    other = asyncio.create_task(inbox.claim("archiving", uuid4(), "other", uuid4(), 60))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    asking.cancel()
    assert (await other).name == "ACQUIRED"
    async with asyncio.timeout(5):
        while (await inbox.claim("archiving", event, KEY, uuid4(), 60)).name != "ACQUIRED":
            await asyncio.sleep(0.05)


async def test_a_database_that_is_away_is_said_to_every_asker() -> None:
    postgres = Postgres("postgresql://dpj:none@127.0.0.1:1/dpj")
    inbox = PostgresInbox(postgres)
    claims = [inbox.claim("archiving", uuid4(), str(number), uuid4(), 60) for number in range(3)]
    errors = await asyncio.gather(*claims, return_exceptions=True)
    assert [type(error) for error in errors] == [DatabaseUnavailable] * 3
    assert len({id(error) for error in errors}) == 3
    await postgres.aclose()


async def test_a_finish_under_way_is_waited_for(inbox: PostgresInbox, database: PostgresDatabase) -> None:
    event, owner = uuid4(), uuid4()
    await inbox.claim("archiving", event, KEY, owner, 0.0)
    async with database.transaction() as work:
        await work.inbox.finish("archiving", event, owner, "DONE")
        await work.inbox.flush()
        other = asyncio.create_task(inbox.claim("archiving", event, KEY, uuid4(), 60))
        await asyncio.sleep(0.2)
        assert not other.done()
    assert await other is ClaimResult.DONE


async def test_a_released_event_can_be_claimed_again(inbox: PostgresInbox) -> None:
    event, owner = uuid4(), uuid4()
    await inbox.claim("archiving", event, KEY, owner, 60)
    await inbox.release("archiving", event, uuid4())
    assert await inbox.claim("archiving", event, KEY, uuid4(), 60) is ClaimResult.BUSY
    await inbox.release("archiving", event, owner)
    assert await inbox.claim("archiving", event, KEY, uuid4(), 60) is ClaimResult.ACQUIRED


@pytest.mark.parametrize("key", ["k" * 100_000, "nul\x00inside"])
async def test_a_strangers_key_is_claimed_like_any_other(inbox: PostgresInbox, key: str) -> None:
    assert await inbox.claim("archiving", uuid4(), key, uuid4(), 60) is ClaimResult.ACQUIRED
    assert await inbox.claim("archiving", uuid4(), key, uuid4(), 60) is ClaimResult.BUSY
    assert await inbox.claim("archiving", uuid4(), key + "!", uuid4(), 60) is ClaimResult.ACQUIRED


# --- housekeeping -----------------------------------------------------------------------------------------------------


async def test_housekeeping_removes_only_what_is_due(postgres: Postgres, inbox: PostgresInbox) -> None:
    old, young = datetime.now(UTC) - timedelta(days=11), datetime.now(UTC) - timedelta(days=9)
    async with postgres.connection() as connection:
        for at in (old, young):
            for state in ("DONE", "DEAD", "CLAIMED"):
                await connection.execute(
                    """
                    INSERT INTO inbox (consumer, event_id, document_key, state, owner, lease_until, updated_at)
                    VALUES ('c', gen_random_uuid(), $1, $2, gen_random_uuid(), $3, $3)
                    """,
                    f"{state}-{at}",
                    state,
                    at,
                )
            await connection.execute("INSERT INTO audit_chained VALUES (gen_random_uuid(), 'acme', 1, $1)", at)
            for done, lease in ((True, old), (False, old), (False, datetime.now(UTC) + timedelta(hours=1))):
                await connection.execute(
                    """
                    INSERT INTO idempotency_keys (tenant, caller, key, document_id, object_key, metadata_fingerprint,
                                                  done, lease_until, created_at)
                    VALUES ('acme', 'u', $1, gen_random_uuid(), 'k', 'f', $2, $3, $4)
                    """,
                    f"{done}-{lease}-{at}",
                    done,
                    lease,
                    at,
                )
        for ended in (
            ORDERS_SECONDS + 3600,
            ORDERS_SECONDS - 3600,
            -3600,
        ):  # one that may still be confirmed is the last
            await connection.execute(
                """
                INSERT INTO ordres (acte, objet, id, tenant, parametres, ordonne_par, ordonne_a, expire_a)
                VALUES ('ERASURE', $1, gen_random_uuid(), 'acme', '{}', 'u', $2, now() - make_interval(secs => $3))
                """,
                f"{ended}",
                old,
                ended,
            )
    housekeeping = PostgresHousekeeping(postgres, keep_days=10, idempotency_hours=240, abandoned_hours=240)
    due = {"inbox": 2, "audit_chained": 1, "idempotency_keys": 2, "ordres": 1}
    others = dict.fromkeys(
        ("documents", "dead_letter_marks", "lettres_mortes", "lots", "pauses", "held_events", "document_links"), 0
    )
    assert await housekeeping.run_once() == due | others
    assert await housekeeping.run_once() == dict.fromkeys(due, 0) | others
    async with postgres.connection() as connection:
        assert await connection.fetchval("SELECT count(*) FROM inbox") == 4
        assert await connection.fetchval("SELECT count(*) FROM audit_chained") == 1
        assert await connection.fetchval("SELECT count(*) FROM idempotency_keys") == 4
        assert await connection.fetchval("SELECT count(*) FROM ordres") == 2


async def test_housekeeping_works_through_more_than_a_batch(postgres: Postgres) -> None:
    async with postgres.connection() as connection:
        await connection.execute("SET statement_timeout = 0")
        await connection.execute(
            """
            INSERT INTO inbox (consumer, event_id, document_key, state, owner, lease_until, updated_at)
            SELECT 'c', gen_random_uuid(), n::text, 'DONE', gen_random_uuid(), now(), now() - interval '20 days'
            FROM generate_series(1, 12000) AS n
            """,
            timeout=300,
        )
    housekeeping = PostgresHousekeeping(postgres, keep_days=10, idempotency_hours=24, abandoned_hours=24)
    counts = await asyncio.gather(housekeeping.run_once(), housekeeping.run_once())
    async with postgres.connection() as connection:
        left = await connection.fetchval("SELECT count(*) FROM inbox")
    assert sum(count["inbox"] for count in counts) + left == 12000
    assert (await housekeeping.run_once())["inbox"] == left


async def test_rows_of_abandoned_uploads_go_and_no_others(postgres: Postgres, database: PostgresDatabase) -> None:
    old, dossier = datetime.now(UTC) - timedelta(days=2), a_dossier()
    gone = a_document(dossier, Status.ABANDONED, created_at=old, updated_at=old)
    kept = [
        a_document(
            dossier, Status.ABANDONED, created_at=old, updated_at=datetime.now(UTC)
        ),  # reconciling still looks for it
        a_document(dossier, Status.STORED, created_at=old, updated_at=old),
    ]
    await add_documents(database, dossier, gone, *kept)
    housekeeping = PostgresHousekeeping(postgres, keep_days=10, idempotency_hours=24, abandoned_hours=24)
    assert (await housekeeping.run_once())["documents"] == 1
    async with postgres.connection() as connection:
        left = await connection.fetch("SELECT id FROM documents")
    assert {row["id"] for row in left} == {document.id for document in kept}


async def test_a_document_that_is_busy_or_done_is_no_error_in_the_servers_log(
    postgres: Postgres, database: PostgresDatabase, server_log: Callable[[], str]
) -> None:
    """Each is an ordinary answer, given many times in a day: errors in the log are for what somebody should look at."""
    inbox, document = PostgresInbox(postgres), f"busy-{uuid4()}"
    first, second, owner = uuid4(), uuid4(), uuid4()
    assert await inbox.claim("c", first, document, owner, 60) is ClaimResult.ACQUIRED
    assert await inbox.claim("c", first, document, owner, 60) is ClaimResult.ACQUIRED
    assert await inbox.claim("c", first, document, uuid4(), 60) is ClaimResult.BUSY
    assert await inbox.claim("c", second, document, uuid4(), 60) is ClaimResult.BUSY
    await asyncio.gather(*(inbox.claim("c", uuid4(), document, uuid4(), 60) for _ in range(5)))
    async with database.transaction() as work:
        await work.inbox.finish("c", first, owner, "DONE")
    assert await inbox.claim("c", first, document, uuid4(), 60) is ClaimResult.DONE
    assert await inbox.claim("c", second, document, uuid4(), 60) is ClaimResult.ACQUIRED
    assert document not in server_log()
    async with postgres.connection() as connection:
        with pytest.raises(asyncpg.UniqueViolationError):  # an error does reach that log
            await connection.execute(
                "INSERT INTO inbox (consumer, event_id, document_key, state, owner, lease_until) "
                "VALUES ('c', $1, $2, 'CLAIMED', $1, now())",
                uuid4(),
                document,
            )
    assert document in server_log()

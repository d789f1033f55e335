"""Keys of personal texts: rotated, moved to beside live traffic, retired only when nothing is under them."""

import json
from dataclasses import asdict, replace

import pytest

from domain.documents import Document
from domain.errors import DatabaseUnavailable, PersonalKeyMissing
from domain.personal_texts import UploadedTexts
from domain.refusals import PersonalKeyInUse
from processors.documents.personal_texts import PersonalTexts
from processors.operators.keys import Throttle
from processors.operators.personal_text_keys import PersonalKeyAdministration, Resealing
from runtime.cli.personal_texts import document_of
from tests.support.builders import FixedClock, a_document
from tests.support.fakes_archiving import PlainSeals
from tests.support.fakes_personal_texts import ReadableColumnKeys
from tests.support.memory import MemoryDatabase
from tests.support.memory_personal_texts import MemoryColumnKeyStore, MemoryPersonalColumns


class World:
    def __init__(self) -> None:
        self.database = MemoryDatabase()
        self.columns = ReadableColumnKeys("k1")
        self.texts = PersonalTexts(self.columns, PlainSeals())
        self.kept = MemoryPersonalColumns(self.database)
        self.slept: list[float] = []
        self.administration = PersonalKeyAdministration(
            MemoryColumnKeyStore(self.columns), self.kept, self.texts, self.database, FixedClock(), "actor-op"
        )

    def add(self, name: str = "Durand.pdf", *, sealed: bool = True) -> Document:
        document = a_document(original_name=name)
        if sealed:
            given = UploadedTexts(file_name=name, email="durand@example.org")
            document = replace(document, **self.texts.sealed(document.tenant, document.id, given))
        self.database.put(document)
        return document

    def row(self, document: Document) -> Document:
        return self.database.rows.documents[document.id]

    def pace(self, rate: float = 1000.0) -> Throttle:
        async def sleep(seconds: float) -> None:
            self.slept.append(seconds)

        return Throttle(rate, lambda: sum(self.slept), sleep)

    async def reseal(self, rate: float = 1000.0) -> Resealing:
        return await self.administration.reseal(self.pace(rate), lambda _: None)

    def said(self) -> list[str]:
        return [line.action for line in self.database.audited()]


async def test_rows_from_before_and_rows_of_older_keys_are_sealed_under_the_current_ones() -> None:
    world = World()
    old, clear = world.add(), world.add(sealed=False)
    key = await world.administration.rotate()
    new = world.add()
    run = await world.reseal()
    assert (run.of, run.sealed, run.remaining, run.failed) == (2, 2, 0, {})
    for document in (old, clear, new):
        row = world.row(document)
        assert (row.personal_key, world.texts.file_name(row)) == (key, "Durand.pdf")
    assert (await world.reseal()).of == 0


async def test_look_ups_are_made_anew_under_a_new_look_up_key() -> None:
    world = World()
    document = world.add()
    key = await world.administration.rotate(lookup=True)
    assert (await world.reseal()).sealed == 1
    row = world.row(document)
    assert (row.personal_key, row.lookup_key) == ("k1", key)
    assert row.email_index is not None
    assert row.email_index.startswith(key.encode())


async def test_a_staged_key_only_opens_until_it_is_promoted() -> None:
    world = World()
    key = await world.administration.rotate(stage=True)
    assert world.columns.sealing == ["k1", key]
    assert world.add().personal_key == "k1"
    assert await world.administration.rotate(to=key) == key
    assert world.columns.sealing == [key, "k1"]
    with pytest.raises(PersonalKeyMissing):
        await world.administration.rotate(to="nothing")


async def test_a_row_that_is_held_is_come_back_to() -> None:
    world = World()
    free, held = world.add(), world.add()
    await world.administration.rotate()
    world.kept.held = {held.id}
    run = await world.reseal()
    assert (run.sealed, run.remaining) == (1, 1)
    assert world.row(held).personal_key == "k1"
    world.kept.held = set()
    assert (await world.reseal()).remaining == 0
    assert world.row(free).personal_key == world.row(held).personal_key


async def test_a_row_that_was_written_meanwhile_is_not_overwritten() -> None:
    world = World()
    document = world.add()
    await world.administration.rotate()

    def decide() -> None:
        row = world.row(document)
        if row.validation_comment is None:
            world.database.put(replace(row, validation_comment=world.texts.note(row, "fine")))

    world.kept.meanwhile = decide
    run = await world.reseal()
    assert (run.sealed, run.remaining) == (1, 0)
    row = world.row(document)
    assert world.texts.opened_note(row, row.validation_comment) == "fine"


async def test_a_text_that_does_not_open_is_named_and_left() -> None:
    world = World()
    sound, spoilt = world.add(), world.add()
    world.database.put(replace(spoilt, original_name=sound.original_name))
    await world.administration.rotate()
    run = await world.reseal()
    assert (run.sealed, run.remaining, run.failed) == (1, 1, {spoilt.id: "wrong_key"})


async def test_a_run_that_was_cut_off_goes_on_where_it_was() -> None:
    world = World()
    for _ in range(5):
        world.add()
    await world.administration.rotate()

    def away() -> None:
        if world.kept.writes == 2:
            raise DatabaseUnavailable

    world.kept.meanwhile = away
    with pytest.raises(DatabaseUnavailable):
        await world.reseal(rate=2)
    world.kept.meanwhile = lambda: None
    run = await world.reseal()
    assert (run.of, run.sealed, run.remaining) == (1, 1, 0)


async def test_it_keeps_to_its_rate() -> None:
    world = World()
    for _ in range(10):
        world.add()
    await world.administration.rotate()
    await world.reseal(rate=2)
    assert sum(world.slept) == pytest.approx(5)


async def test_a_key_is_retired_only_when_nothing_is_under_it() -> None:
    world = World()
    world.add()
    new = await world.administration.rotate()
    with pytest.raises(PersonalKeyInUse, match="1 documents"):
        await world.administration.retire("k1", apply=True)
    with pytest.raises(PersonalKeyInUse, match="current"):
        await world.administration.retire(new, apply=True)
    with pytest.raises(PersonalKeyMissing):
        await world.administration.retire("k9", apply=True)
    await world.reseal()
    assert await world.administration.retire("k1", apply=False) == "sealing"
    assert (world.columns.sealing, world.kept.retired) == ([new, "k1"], set())
    await world.administration.retire("k1", apply=True)
    assert (world.columns.sealing, world.kept.retired) == ([new], {"k1"})


async def test_a_look_up_key_is_retired_in_the_same_way() -> None:
    world = World()
    world.add()
    await world.administration.rotate(lookup=True)
    with pytest.raises(PersonalKeyInUse):
        await world.administration.retire("l1", apply=True)
    await world.reseal()
    assert await world.administration.retire("l1", apply=True) == "lookup"
    assert (len(world.columns.lookups), world.kept.retired) == (1, {"l1"})


async def test_a_row_that_came_in_the_last_moment_keeps_the_key() -> None:
    world = World()
    await world.administration.rotate()
    status = world.administration.status

    async def late() -> object:
        found = await status()
        world.columns.sealing.reverse()
        world.add()
        world.columns.sealing.reverse()
        return found

    world.administration.status = late
    with pytest.raises(PersonalKeyInUse):
        await world.administration.retire("k1", apply=True)
    assert "k1" in world.columns.sealing


async def test_every_act_is_audited_without_a_text() -> None:
    world = World()
    world.add()
    key = await world.administration.rotate()
    await world.reseal()
    await world.administration.retire("k1", apply=True)
    begun_and_ended = ["rotating", "rotated", "resealing", "resealed", "retiring", "retired"]
    assert world.said() == [f"personal_key.{word}" for word in begun_and_ended]
    lines = world.database.audited()
    assert {line.actor for line in lines} == {"actor-op"}
    assert json.loads(lines[3].details) == {"key": key, "lookup": "l1", "sealed": 1, "left": 0, "failed": 0}
    assert "urand" not in str([asdict(line) for line in lines])


async def test_what_programs_are_told() -> None:
    world = World()
    world.add()
    world.add(sealed=False)
    await world.administration.rotate()
    del world.columns.sealing[1]
    told = document_of(await world.administration.status())
    assert told == {
        "keys": [
            {"kind": "sealing", "key": "k-new-1", "current": True, "documents": 0},
            {"kind": "lookup", "key": "l1", "current": True, "documents": 1},
        ],
        "unknown": [{"kind": "sealing", "key": "k1", "documents": 1}],
        "not_sealed": 1,
    }

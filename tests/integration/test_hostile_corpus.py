"""Every hostile case comes to its expected end, within its caps of memory and time, and harms nobody else."""

from __future__ import annotations

import resource
import unicodedata

import pytest

from domain.personal_texts import ClearTexts
from rendering.pool import CLOCK_FACTOR
from tests.support.hostile.cases import JPEG, LIMIT_TIME, THUMBNAIL, Case
from tests.support.hostile.corpus import GROUPS, all_cases, recorded
from tests.support.hostile.run import MEMORY_BYTES, TIMEOUT, CaseResult, a_case_runner
from tests.support.rendering import plain

#: Beside the parser's own time: making the file, taking it in, a child that starts anew; on a busy machine.
SLACK = 60.0
#: Processor time, in seconds, of what is to be stopped for it: the sooner that is, the stricter.
SHORT_TIMEOUT = 5.0

#: Of the types that are taken here: nothing is saved under another one.
ENDINGS = (".pdf", ".jpg", ".jpeg", ".png", ".gif", ".tif", ".tiff", ".webp", ".heic", ".avif")


def wrong_in(case: Case, result: CaseResult, ends: dict[str, str]) -> str | None:
    """What is wrong with how a case ended, if anything is."""
    expected = case.end or ends[case.name]
    if result.end != expected and not (case.heavy and result.end == LIMIT_TIME):
        return f"{case.name}: {result.end}, not {expected}"
    if result.seconds > CLOCK_FACTOR * TIMEOUT + SLACK:
        return f"{case.name}: took {result.seconds:.0f} s"
    if result.texts is not None and not (result.texts.file_name and is_plain(result.texts.file_name)):
        return f"{case.name}: keeps a name that is not plain"
    if result.texts is not None and not all(map(is_harmless, labels_of(result.texts))):
        return f"{case.name}: keeps tags or metadata that are not harmless"
    if result.download and not result.download.lower().endswith(ENDINGS):
        return f"{case.name}: is saved under {result.download}"
    if not all(is_plain(text) for text in texts_of(result.facts)):
        return f"{case.name}: keeps facts that are not plain"
    return None


def is_plain(text: str) -> bool:
    """No path, nothing invisible but joiners, nothing that turns the reading direction, and not too long."""
    unseen, seen = {"Cc", "Cf", "Cs"}, set(text) - {"\u200c", "\u200d"}
    return len(text) <= 255 and "/" not in text[:1] and not any(unicodedata.category(c) in unseen for c in seen)


def is_harmless(text: str) -> bool:
    """No control characters but line breaks and tabs, nothing that turns the reading direction, and not too long."""
    turning = {"\u061c", "\u200e", "\u200f", *map(chr, range(0x202A, 0x202F)), *map(chr, range(0x2066, 0x206A))}
    seen = set(text) - set("\n\r\t")
    return len(text) <= 1000 and not seen & turning and not any(unicodedata.category(c) in {"Cc", "Cs"} for c in seen)


def labels_of(texts: ClearTexts) -> list[str]:
    return [*texts.tags, *texts.metadata, *texts_of(dict(texts.metadata))]


def texts_of(value: object) -> list[str]:
    if isinstance(value, str):
        return [value]
    if isinstance(value, dict):
        return [text for inner in value.values() for text in texts_of(inner)]
    return [text for inner in value for text in texts_of(inner)] if isinstance(value, list) else []


def test_there_are_enough_and_each_has_an_end() -> None:
    cases = [case for group in all_cases().values() for case in group]
    assert len(cases) >= 500
    assert len({case.name for case in cases}) == len(cases)
    assert {case.name for case in cases if case.end is None} == set(recorded())


def test_the_same_seeds_make_the_same_files() -> None:
    first, second = ({case.name: case.make() for case in GROUPS["mutations"]()} for _ in range(2))
    assert first == second


@pytest.mark.timeout(1200)
@pytest.mark.parametrize("group", GROUPS)
async def test_hostile_files_come_to_their_expected_end(group: str):
    wrong: list[str] = []
    largest = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    async with a_case_runner() as (gauntlet, client), a_case_runner(timeout=SHORT_TIMEOUT) as (brief, its_client):
        ends = recorded()
        for case in all_cases()[group]:
            endless = (case.end or ends[case.name]) == LIMIT_TIME
            result = await (brief.run(its_client, case) if endless else gauntlet.run(client, case))
            found = wrong_in(case, result, ends)
            if found is not None:
                wrong.append(found)
        after = await gauntlet.run(client, Case("afterwards", plain, JPEG))
        assert after.end == THUMBNAIL
        assert len(gauntlet.pool.pids) == 1
        assert within_its_memory(max(gauntlet.peak, brief.peak), largest)
    assert wrong == []


def within_its_memory(peak: int, largest_before: int) -> bool:
    """No child ever held more than its cap: neither those that were looked at, nor those that died between two looks.

    The kernel counts with a child what its parent held when it was started (exec_mmap keeps the old image's peak), so that a dead one
    tells nothing below our own peak.
    """
    dead = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024
    ours = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
    return 0 < peak <= MEMORY_BYTES and dead <= max(MEMORY_BYTES, ours, largest_before)

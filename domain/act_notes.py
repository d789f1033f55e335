"""What the dry run or the result of an operator's act says of one thing: a code, and an English text with values in it.

Batches keep the text, and APIs give it. Whoever shows it in another language takes the code and the values out of it again
(``read_note``): each text can be told from every other.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import cache
from typing import Final

#: By code. Placeholders are the names in ``_FORMS``.
NOTES: Final[Mapping[str, str]] = {
    # what is done
    "sent_as_it_is": "sent again as it is",
    "no_state": "no document's state depends on it",
    "document_stays": "its document stays {status}",
    "validated_again": "its document: ARCHIVE_FAILED -> VALIDATED",
    "thumbnail_again": "its thumbnail is still to come again",
    "off_the_list": "off the list: {reason}",
    "gives_up": "{consumer} gives it up at its next try, with code given_up_by_operator",
    "row_sent_again": "sent again, then {count} that wait for it",
    "row_never_sent": "never sent; {count} that wait for it go on",
    "published_again": "published again for {consumers}",
    "replayed": "{consumer} has not done it and takes it again",
    "is_looked_for": "all stores are gone through",
    "differs": "{count} found",
    "put_right": "{count} put right, {left} left",
    # what was before
    "differs_not": "none found",
    "handled_before": "redriven or discarded before",
    "settled_before": "{act} before",
    "dropped_as_done": "{consumer} has done it: its inbox would drop it",
    # what is refused
    "gone": "it is not there any more",
    "not_in_kafka_yet": "it is not in Kafka yet: the relay has still to publish it",
    "gone_from_kafka": "Kafka has it no more: discard it, or have the document's event sent again",
    "redriven_too_often": "redriven {replays} times already (cap {cap}); --force passes over that",
    "undecodable_here": "this release can't decode it either; --force sends it all the same",
    "not_held": "not held by that consumer, or ordered already; see: dpj dlq held",
    "document_missing": "its document is not in the database",
    "document_is": "its document is {status}",
    "planned_since": "its plan was made since: nothing is left to do",
    "quarantined": "its document is QUARANTINED, from where no way leads back: have it uploaded again",
    "nothing_left": "its document is {status}: nothing is left to do",
    "letter_cut": "too large for a letter ({size} bytes); the record itself stands at {origin}",
    "headers_name_another": "its headers don't name the consumer whose letters stand in its topic",
    "headers_name_no_topic": "its headers name no topic of ours",
    "done_since": "{consumer} has done this event since: nothing is left to do",
    "at_work": "{consumer} works on this event now",
    "no_such_row": "no such refused row, or settled before; see: dpj outbox refused",
    "given_up": "{consumer} has given it up: redrive its dead letter",
    "another_record": "another record stands there, or one that this release can't decode",
    "gone_from_topic": "Kafka has it no more",
    "not_looked_for": "not looked for: {code}",
    # what a window holds and a replay leaves out
    "on_its_way": "still on its way to {consumer}",
    "names_no_event": "the record names no event of ours",
}
_FORMS: Final[Mapping[str, str]] = {
    "status": "[A-Z_]+",
    "reason": "[A-Za-z0-9][A-Za-z0-9._:#/-]*",
    "consumer": "[a-z]+",
    "consumers": "[a-z]+(?:, [a-z]+)*",
    "count": "[0-9]+",
    "left": "[0-9]+",
    "code": "[a-z_]+",
    "act": "[a-z]+",
    "replays": "[0-9]+",
    "cap": "[0-9]+",
    "size": "[0-9]+",
    "origin": "[^ ]+",
}
_PLACE: Final = re.compile(r"\\\{([a-z]+)\\\}")


def note(code: str, /, **values: object) -> str:
    """The text of a code."""
    return NOTES[code].format(**values)


def read_note(text: str) -> tuple[str, Mapping[str, str]] | None:
    """Code and values of a text that ``note`` made; None for any other text, such as one of an earlier release."""
    for code, pattern in _patterns():
        if found := pattern.fullmatch(text):
            return code, found.groupdict()
    return None


def note_code(text: str) -> str | None:
    """The code of a text that ``note`` made."""
    found = read_note(text)
    return None if found is None else found[0]


@cache
def _patterns() -> tuple[tuple[str, re.Pattern[str]], ...]:
    return tuple(
        (code, re.compile(_PLACE.sub(lambda place: f"(?P<{place[1]}>{_FORMS[place[1]]})", re.escape(text))))
        for code, text in NOTES.items()
    )

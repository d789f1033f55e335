"""Reads what the mail server received, to tell whether every depositor got each mail once and in the right language."""

from __future__ import annotations

import email
import email.policy
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Final

_UUID: Final = re.compile(r"\b[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}\b")


@dataclass(frozen=True, slots=True)
class Mail:
    """A mail as far as it tells of a document: which one, which template (by its subject), which language."""

    document_id: str
    template: str
    language: str


def received(maildir: Path, subjects: Mapping[tuple[str, str], str], documents: Iterable[str]) -> Counter[Mail]:
    """The mails about ``documents`` (ids). ``subjects`` gives the subject of each (template, language).

    A mail counts for the language of its text's subject line only if its header Content-Language says the same;
    otherwise its language is ``?``, and a subject that no template has makes the template ``?``.
    """
    known = {subject: key for key, subject in subjects.items()}
    wanted = set(documents)
    found: Counter[Mail] = Counter()
    for message in _messages(maildir):
        body = message.get_body(("plain",))
        ids = set(_UUID.findall(body.get_content() if body is not None else "")) & wanted
        if not ids:
            continue
        template, language = known.get(str(message["Subject"]), ("?", "?"))
        if str(message["Content-Language"]) != language:
            language = "?"
        found.update(Mail(document_id, template, language) for document_id in ids)
    return found


def complaints(expected: Counter[Mail], found: Counter[Mail]) -> list[str]:
    """One line for each mail that is missing, wrong or there too often; empty when all is as expected."""
    every = sorted(expected.keys() | found.keys(), key=lambda one: (one.document_id, one.template, one.language))
    return [
        f"{mail.document_id} {mail.template}.{mail.language}: {found[mail]}, not {expected[mail]}"
        for mail in every
        if expected[mail] != found[mail]
    ]


def _messages(maildir: Path) -> Iterator[EmailMessage]:
    for folder in ("new", "cur"):
        for path in sorted((maildir / folder).glob("*")):
            with path.open("rb") as file:
                message = email.message_from_binary_file(file, policy=email.policy.default)
            if isinstance(message, EmailMessage):
                yield message

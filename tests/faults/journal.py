"""What the clients did and what they were told: one JSON object per line, written as it happens.

The checker holds the pipeline to this and to nothing else: what was answered with a 2xx is owed, what was not is not.
"""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self


@dataclass(frozen=True, slots=True)
class ClientAnswer:
    """One request's end. ``status`` is None if no answer came: whether it took effect is unknown then."""

    act: str
    status: int | None
    code: str = ""

    @property
    def accepted(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


@dataclass(slots=True)
class Deposit:
    """One document that a client wanted to deposit, under one Idempotency-Key however often it was sent.

    ``mark`` names it everywhere: it is in its file name, its depositor's address and its bytes. ``poison`` says what is
    wrong with the document (empty: nothing), ``document_id`` what a 2xx named.
    """

    mark: str
    tenant: str
    dossier: str
    kind: str
    type_code: str
    media_type: str
    name: str
    email: str
    language: str
    sha256: str
    size: int
    poison: str = ""
    document_id: str | None = None
    answers: list[ClientAnswer] = field(default_factory=list)

    @property
    def key(self) -> str:
        """The Idempotency-Key."""
        return f"key-{self.mark}"

    @property
    def accepted(self) -> bool:
        return self.document_id is not None

    def of(self, act: str) -> list[ClientAnswer]:
        return [answer for answer in self.answers if answer.act == act]

    def decided(self, act: str) -> bool:
        """Whether the decision was answered with a 2xx."""
        return any(answer.accepted for answer in self.of(act))

    def unknown(self, act: str) -> bool:
        """Whether the decision was sent and may have taken effect unseen."""
        return any(answer.status is None or answer.status >= 500 for answer in self.of(act))


@dataclass(frozen=True, slots=True)
class PoisonRecord:
    """A record that is no event, put into a topic: every consumer of the topic owes one dead letter for it."""

    topic: str
    partition: int
    offset: int


@dataclass(slots=True)
class Journal:
    """Everything that clients of some tenants did."""

    deposits: dict[str, Deposit] = field(default_factory=dict)
    poison_records: list[PoisonRecord] = field(default_factory=list)

    @property
    def tenants(self) -> set[str]:
        return {deposit.tenant for deposit in self.deposits.values()}

    def add(self, line: dict[str, Any]) -> None:
        what = line["what"]
        if what == "deposit":
            told = {name: line[name] for name in Deposit.__dataclass_fields__ if name in line and name != "answers"}
            self.deposits[line["mark"]] = Deposit(**told)
        elif what == "answer":
            deposit = self.deposits[line["mark"]]
            deposit.answers.append(ClientAnswer(line["act"], line["status"], line.get("code", "")))
            deposit.document_id = deposit.document_id or line.get("document_id")
        elif what == "poison_record":
            self.poison_records.append(PoisonRecord(line["topic"], line["partition"], line["offset"]))


def read(paths: Iterable[Path]) -> Journal:
    """The journals at ``paths`` as one; a last line that was cut short is left out."""
    journal = Journal()
    for path in paths:
        for line in _lines(path):
            journal.add(line)
    return journal


def _lines(path: Path) -> Iterator[dict[str, Any]]:
    for text in path.read_text("utf-8").splitlines():
        try:
            yield json.loads(text)
        except ValueError:
            return


class Writer:
    """Appends to a journal file and keeps its content in memory."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.journal = read([path]) if path.exists() else Journal()
        self._file = path.open("a", encoding="utf-8")

    def deposit(self, deposit: Deposit) -> None:
        told = asdict(deposit)
        del told["answers"]
        self._put({"what": "deposit", **told})

    def answer(
        self, mark: str, act: str, status: int | None, *, code: str = "", document_id: str | None = None
    ) -> None:
        line: dict[str, Any] = {"what": "answer", "mark": mark, "act": act, "status": status}
        if code:
            line["code"] = code
        if document_id is not None:
            line["document_id"] = document_id
        self._put(line)

    def poison_record(self, topic: str, partition: int, offset: int) -> None:
        self._put({"what": "poison_record", "topic": topic, "partition": partition, "offset": offset})

    def _put(self, line: dict[str, Any]) -> None:
        line["at"] = round(time.time(), 3)
        self._file.write(json.dumps(line, ensure_ascii=False) + "\n")
        self._file.flush()
        self.journal.add(line)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._file.close()

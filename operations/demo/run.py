"""Sends the samples through the API, decides about them, and follows each to its end."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from domain.lifecycle import RESTING, Status
from operations.api_client import ApiClient, ApiProblem
from operations.demo.samples import Sample, sha256_of

SENDERS: Final = 3
POLL_SECONDS: Final = 0.25
ACCEPTED: Final = 202
REASON: Final = "Document illisible : merci de déposer une copie lisible."
COMMENT: Final = "Conforme."
_DEAD_ENDS: Final = frozenset(status.value for status in RESTING - {Status.VERIFIED})
#: Where the demonstration's mails go: the local mail server takes them all.
DEPOSITORS: Final[Mapping[str, str]] = {"fr": "claire.martin@client.example", "en": "john.smith@client.example"}


class View(Protocol):
    """Told of every change; called from several threads."""

    def changed(self, journey: Journey) -> None: ...


@dataclass
class Journey:
    """One sample on its way. ``state`` is sending, a document status, or refused; times in seconds since the command began."""

    sample: Sample
    state: str = "sending"
    document_id: str = ""
    sha256: str = ""
    sent: int = 0
    size: int = 0
    answer: dict[str, Any] = field(default_factory=dict)
    refusal: str = ""
    decided: bool = False
    #: The decision was recorded (202) while the document was still STORED.
    recorded: bool = False
    since: float = 0.0
    archived_after: float | None = None

    @property
    def arrived(self) -> bool:
        """At its expected end."""
        if self.sample.refused is not None:
            return self.refusal == self.sample.refused
        return self.sample.ends is not None and self.state == self.sample.ends.value

    @property
    def stuck(self) -> bool:
        """At an end that is not the expected one, from which nothing more will come by itself."""
        if self.refusal:
            return not self.arrived
        return self.state in _DEAD_ENDS and not self.arrived


class DemoRun:
    """``portal`` and ``validator`` are API clients of those roles; ``clock`` gives seconds since the command began."""

    def __init__(
        self, portal: ApiClient, validator: ApiClient, samples: Sequence[Sample], view: View, clock: Callable[[], float]
    ) -> None:
        self._portal = portal
        self._validator = validator
        self._view = view
        self._clock = clock
        self._stopping = threading.Event()
        self.journeys = [Journey(sample) for sample in samples]
        self.dossier_id = ""

    @property
    def taken(self) -> list[Journey]:
        return [journey for journey in self.journeys if journey.document_id]

    @property
    def first_archived(self) -> float | None:
        return min((one.archived_after for one in self.journeys if one.archived_after is not None), default=None)

    def send_and_follow(self, dossier: Mapping[str, Any], deadline: float, check: Callable[[], None]) -> None:
        """Until all arrived or are stuck, or ``deadline`` seconds passed. Raises ApiUnreachable, ApiProblem if the dossier or a
        decision is refused, and what ``check`` raises, which is called in between."""
        self.dossier_id = str(self._portal.create_dossier(dossier)["id"])
        ends = time.monotonic() + deadline
        with ThreadPoolExecutor(SENDERS) as senders:
            sending = [senders.submit(self._send, journey) for journey in self.journeys]
            try:
                while time.monotonic() < ends and not all(one.arrived or one.stuck for one in self.journeys):
                    for failed in [future for future in sending if future.done()]:
                        failed.result()
                    check()
                    self._poll()
                    time.sleep(POLL_SECONDS)
            finally:
                self._stopping.set()
                for future in sending:
                    future.cancel()

    def _send(self, journey: Journey) -> None:
        sample = journey.sample
        journey.since = self._clock()
        journey.size = sample.path.stat().st_size
        journey.sha256 = sha256_of(sample.path)
        metadata = {
            "type": sample.type_code,
            "dossier_id": self.dossier_id,
            "depositor": {"email": DEPOSITORS[sample.language], "language": sample.language},
            "file_name": sample.name,
            "sha256": journey.sha256,
        }

        def advance(count: int) -> None:
            journey.sent += count
            if self._stopping.is_set():
                raise InterruptedError("the demonstration was stopped")

        try:
            answer = self._portal.submit(
                sample.path, metadata, name=sample.name, media_type=sample.media_type, advance=advance
            )
        except ApiProblem as problem:
            journey.refusal = problem.code
            self._set(journey, "refused")
            return
        journey.answer = answer
        journey.document_id = str(answer["id"])
        self._set(journey, str(answer["status"]))
        if sample.early:
            self._decide(journey)

    def _poll(self) -> None:
        """Ask for the documents of our dossier, and decide about those that are verified."""
        known = {journey.document_id: journey for journey in self.taken}
        for document in self._portal.documents(dossier=self.dossier_id, limit="200"):
            journey = known.get(str(document["id"]))
            if journey is None:
                continue
            journey.answer = document
            self._set(journey, str(document["status"]))
            if journey.state == Status.VERIFIED.value and not journey.decided and not journey.sample.early:
                self._decide(journey)

    def _decide(self, journey: Journey) -> None:
        ends = journey.sample.ends
        if ends in {Status.VALIDATED, Status.ARCHIVED}:
            answer = self._validator.validate(journey.document_id, COMMENT)
        elif ends is Status.REJECTED:
            answer = self._validator.reject(journey.document_id, REASON)
        else:
            return
        journey.decided = True
        journey.recorded = answer["http_status"] == ACCEPTED

    def _set(self, journey: Journey, state: str) -> None:
        if state == journey.state:
            return
        journey.state = state
        journey.since = self._clock()
        if state == Status.ARCHIVED.value:
            journey.archived_after = journey.since
        self._view.changed(journey)

"""Clients of the API, as portals and case workers are: they deposit, try again, give up, decide; all of it is journaled."""

from __future__ import annotations

import asyncio
import hashlib
import json
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import suppress
from typing import Any
from uuid import UUID

import httpx

from tests.faults.documents import KINDS, POISON, SOUND, make
from tests.faults.journal import Deposit, Writer
from tests.faults.plain_http import NO_TLS

REQUEST_SECONDS = 12.0
#: How long a client tries the same request: longer than the longest fault.
PATIENCE_SECONDS = 180.0
POLL_SECONDS = 0.3
RETRY_SECONDS = 0.4
SLOW_PIECES = 40
#: Answers after which the same request may succeed later: under way, superseded, or a dependency is away.
AGAIN = frozenset({408, 429, 500, 502, 503, 504})
AGAIN_CODES = frozenset({"idempotency_in_progress", "upload_superseded", "state_changed"})

#: What clients do with a document they deposited, and how often (of 100).
PLANS: Mapping[str, int] = {
    "validate at once": 50,
    "validate once verified": 20,
    "reject at once": 7,
    "reject once verified": 5,
    "decide both ways": 3,
    "leave": 15,
}
GIVES_UP, VANISHES, IS_POISON = 0.05, 0.03, 0.01


class Vanished(Exception):
    """The client went away in the middle of its upload."""


class Clients:
    """Some clients of one tenant. ``tokens``: role to token; ``dice`` decides everything that they do."""

    def __init__(
        self,
        url: str,
        tenant: str,
        tokens: Mapping[str, str],
        writer: Writer,
        dice: random.Random,
        *,
        poison: float = IS_POISON,
    ) -> None:
        self.tenant = tenant
        self._writer = writer
        self._dice = dice
        self._poison = poison
        self._dossiers: list[str] = []
        limits = httpx.Limits(max_connections=64, max_keepalive_connections=16)
        self._http = httpx.AsyncClient(
            base_url=f"{url}/api/v1", timeout=REQUEST_SECONDS, trust_env=False, limits=limits, verify=NO_TLS
        )
        self._headers = {role: {"Authorization": f"Bearer {token}"} for role, token in tokens.items()}

    async def aclose(self) -> None:
        await self._http.aclose()

    async def prepare(self, dossiers: int = 2) -> None:
        """Create the dossiers that documents go to; has to succeed before anything else."""
        while len(self._dossiers) < dossiers:
            number = f"{self.tenant}-{self._mark()}"
            new = {"number": number, "client_id": "client-1", "journey_type": "PRET_IMMOBILIER"}
            answer = await self._http.post("/dossiers", json=new, headers=self._headers["portal"])
            self._dossiers.append(answer.raise_for_status().json()["id"])

    # --- what one client does ----------------------------------------------------------------------------------------

    async def run(self, clients: int, stopping: asyncio.Event, *, pause: float = 0.2) -> None:
        """Deposit and decide until told to stop; what is begun is finished."""

        async def one(number: int) -> None:
            await asyncio.sleep(pause * number / clients)
            while not stopping.is_set():
                await self.act()
                with suppress(TimeoutError):
                    await asyncio.wait_for(stopping.wait(), pause * self._dice.uniform(0.5, 1.5))

        async with asyncio.TaskGroup() as group:
            for number in range(clients):
                group.create_task(one(number))

    async def act(self) -> Deposit:
        """One document of a client's day."""
        poison = self._dice.random() < self._poison
        deposit = self.new(self._dice.choice(POISON if poison else SOUND))
        plan = self._dice.choices([*PLANS], [*PLANS.values()])[0]
        moods = self._dice.random()
        if moods < VANISHES:
            await self.vanish(deposit)
        else:
            await self.deposit(deposit, patient=moods > VANISHES + GIVES_UP)
        if deposit.accepted:
            await self._carry_out(plan, deposit)
        return deposit

    async def _carry_out(self, plan: str, deposit: Deposit) -> None:
        if plan.endswith("once verified") and not await self.reaches(deposit, {"VERIFIED"}):
            return
        if plan == "decide both ways":
            await asyncio.gather(self.decide(deposit, "validate"), self.decide(deposit, "reject"))
        elif plan != "leave":
            await self.decide(deposit, plan.partition(" ")[0])

    def new(self, kind: str, *, poison: str = "") -> Deposit:
        """A deposit, on record before anything is sent. ``poison``: what the caller will see to that it suffers."""
        what = KINDS[kind]
        mark = self._mark()
        content = make(kind, mark)
        deposit = Deposit(
            mark=mark,
            tenant=self.tenant,
            dossier=self._dice.choice(self._dossiers),
            kind=kind,
            type_code=what.type_code,
            media_type=what.media_type,
            name=f"{mark}.{what.suffix}",
            email=f"{mark}@{self.tenant}.example",
            language=self._dice.choice(("fr", "en")),
            sha256=hashlib.sha256(content).hexdigest(),
            size=len(content),
            poison=poison or what.poison,
        )
        self._writer.deposit(deposit)
        return self._writer.journal.deposits[mark]

    async def deposit(self, deposit: Deposit, *, patient: bool = True) -> str | None:
        """Send it until there is an answer that will not change; one who is not ``patient`` sends it once."""
        ends = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while True:
            status, body = await self.send(deposit)
            again = status is None or status in AGAIN or body.get("code") in AGAIN_CODES
            if not again or not patient or asyncio.get_running_loop().time() > ends:
                return deposit.document_id
            await asyncio.sleep(RETRY_SECONDS * self._dice.uniform(0.5, 1.5))

    async def send(self, deposit: Deposit) -> tuple[int | None, dict[str, Any]]:
        """One upload with the deposit's Idempotency-Key, on record."""
        status, body = await self.repeat(deposit)
        named = body.get("id") if status is not None and status < 300 else None
        self._writer.answer(deposit.mark, "deposit", status, code=body.get("code", ""), document_id=named)
        return status, body

    async def send_slowly(self, deposit: Deposit, seconds: float) -> tuple[int | None, dict[str, Any]]:
        """The same, in small pieces over so many seconds."""
        whole = self._http.build_request("POST", "/documents", files=self._parts(deposit))
        body = await whole.aread()
        piece = len(body) // SLOW_PIECES + 1

        async def dripping() -> AsyncIterator[bytes]:
            for start in range(0, len(body), piece):
                yield body[start : start + piece]
                await asyncio.sleep(seconds / SLOW_PIECES)

        sent = {"Content-Type": whole.headers["Content-Type"], "Content-Length": str(len(body))}
        headers = {**self._headers["portal"], "Idempotency-Key": deposit.key, **sent}
        timeout = httpx.Timeout(REQUEST_SECONDS, read=seconds + REQUEST_SECONDS)
        status, told = await self._answer("POST", "/documents", content=dripping(), headers=headers, timeout=timeout)
        named = told.get("id") if status is not None and status < 300 else None
        self._writer.answer(deposit.mark, "deposit", status, code=told.get("code", ""), document_id=named)
        return status, told

    async def repeat(self, deposit: Deposit) -> tuple[int | None, dict[str, Any]]:
        """One upload with the deposit's Idempotency-Key, off the record."""
        headers = {**self._headers["portal"], "Idempotency-Key": deposit.key}
        return await self._answer("POST", "/documents", files=self._parts(deposit), headers=headers)

    def _parts(self, deposit: Deposit) -> list[tuple[str, Any]]:
        said = {
            "type": deposit.type_code,
            "dossier_id": deposit.dossier,
            "depositor": {"email": deposit.email, "language": deposit.language},
        }
        return [
            ("metadata", (None, json.dumps(said).encode(), "application/json")),
            ("file", (deposit.name, make(deposit.kind, deposit.mark), deposit.media_type)),
        ]

    async def vanish(self, deposit: Deposit) -> None:
        """Send half of it and go away; the request has no end."""
        content = make(deposit.kind, deposit.mark)

        async def half() -> AsyncIterator[bytes]:
            yield f'--dpj\r\nContent-Disposition: form-data; name="file"; filename="{deposit.name}"\r\n\r\n'.encode()
            yield content[: len(content) // 2]
            raise Vanished

        headers = {
            **self._headers["portal"],
            "Idempotency-Key": deposit.key,
            "Content-Type": "multipart/form-data; boundary=dpj",
        }
        with suppress(Vanished, httpx.HTTPError):
            await self._http.post("/documents", content=half(), headers=headers)
        self._writer.answer(deposit.mark, "deposit", None, code="vanished")

    async def decide(self, deposit: Deposit, act: str) -> None:
        """``validate`` or ``reject``, until an answer that will not change."""
        body = {"reason": "Illisible."} if act == "reject" else {}
        path = f"/documents/{deposit.document_id}/{act}"
        ends = asyncio.get_running_loop().time() + PATIENCE_SECONDS
        while asyncio.get_running_loop().time() < ends:
            status, told = await self._answer("POST", path, json=body, headers=self._headers["validator"])
            self._writer.answer(deposit.mark, act, status, code=told.get("code", ""))
            if status is not None and status not in AGAIN and told.get("code") not in AGAIN_CODES:
                return
            await asyncio.sleep(RETRY_SECONDS * self._dice.uniform(0.5, 1.5))

    async def reaches(self, deposit: Deposit, states: set[str], seconds: float = PATIENCE_SECONDS) -> bool:
        """Look at it until it is in one of ``states``; False if that takes too long."""
        ends = asyncio.get_running_loop().time() + seconds
        while asyncio.get_running_loop().time() < ends:
            _, body = await self._answer("GET", f"/documents/{deposit.document_id}", headers=self._headers["portal"])
            if body.get("status") in states:
                return True
            await asyncio.sleep(POLL_SECONDS)
        return False

    async def download(self, document_id: str) -> str:
        """SHA-256 of what the API gives, or what it says instead."""
        path = f"/documents/{UUID(document_id)}/content"
        for _ in range(3):
            try:
                answer = await self._http.get(path, headers=self._headers["portal"])
            except httpx.HTTPError as error:
                told = type(error).__name__
            else:
                if answer.is_success:
                    return hashlib.sha256(answer.content).hexdigest()
                told = f"HTTP {answer.status_code}"
            await asyncio.sleep(RETRY_SECONDS)
        return told

    async def _answer(self, method: str, path: str, **request: Any) -> tuple[int | None, dict[str, Any]]:
        """Status and body; (None, {}) if no answer came."""
        try:
            answer = await self._http.request(method, path, **request)
            body = answer.json()
        except httpx.HTTPError:
            return None, {}
        except ValueError:
            return answer.status_code, {}
        return answer.status_code, body if isinstance(body, dict) else {}

    def _mark(self) -> str:
        return UUID(int=self._dice.getrandbits(128), version=4).hex[:16]

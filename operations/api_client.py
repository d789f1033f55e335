"""A small client of the pipeline's own HTTP API, for the command line and the demonstration."""

from __future__ import annotations

import json
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO, Final, Self, cast
from urllib.parse import quote

import httpx

ANSWER_SECONDS: Final = 30.0
#: How long one piece of an upload or its final answer may take; the whole has no limit but the file's size.
UPLOAD_SECONDS: Final = 120.0
PREFIX: Final = "/api/v1"
#: How often, and for how many seconds at most each time, to wait where the API says that it is called too often.
WAITS, LONGEST_WAIT = 10, 5


class ApiUnreachable(Exception):
    """Nothing answers at the API's address, or it broke off."""

    def __init__(self, url: str, reason: str) -> None:
        super().__init__(f"The API at {url} does not answer ({reason}).")
        self.url = url


@dataclass
class ApiProblem(Exception):
    """The API refused; fields are those of its problem+json (RFC 9457)."""

    status: int
    code: str
    title: str
    detail: str
    advice: str
    trace: str
    fields: tuple[str, ...] = ()

    def __str__(self) -> str:
        named = f" ({'; '.join(self.fields)})" if self.fields else ""
        return f"{self.title}: {self.detail}{named}"


class _Counted:
    """A file that tells how much of it was read; httpx reads it piece by piece."""

    def __init__(self, file: BinaryIO, advance: Callable[[int], None]) -> None:
        self._file = file
        self._advance = advance

    def read(self, size: int = -1) -> bytes:
        piece = self._file.read(size)
        self._advance(len(piece))
        return piece

    def again(self) -> None:
        """Back to the start, as if nothing had been read."""
        self._advance(-self._file.tell())
        self._file.seek(0)

    def fileno(self) -> int:
        return self._file.fileno()

    def seek(self, offset: int, whence: int = 0) -> int:
        return self._file.seek(offset, whence)

    def tell(self) -> int:
        return self._file.tell()


class ApiClient:
    """``url`` is the API's base address; ``tls`` says whom to trust over TLS, if not the usual authorities; ``transport`` replaces the
    network. Usable from several threads.

    Every method raises ApiUnreachable or ApiProblem.
    """

    def __init__(
        self,
        url: str,
        token: str,
        *,
        tls: ssl.SSLContext | None = None,
        transport: httpx.BaseTransport | None = None,
    ) -> None:
        self._url = url.rstrip("/")
        self._client = httpx.Client(
            base_url=self._url,
            headers={"Authorization": f"Bearer {token}"},
            timeout=ANSWER_SECONDS,
            trust_env=False,
            verify=tls or True,
            transport=transport,
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def create_dossier(self, new: Mapping[str, Any]) -> dict[str, Any]:
        return self._call("POST", "/dossiers", json=dict(new))

    def submit(
        self,
        path: Path,
        metadata: Mapping[str, Any],
        *,
        name: str | None = None,
        media_type: str | None = None,
        key: str | None = None,
        advance: Callable[[int], None] = lambda _: None,
    ) -> dict[str, Any]:
        """Stream a file in; ``advance`` is told of every piece sent. ``key`` is the Idempotency-Key."""
        headers = {} if key is None else {"Idempotency-Key": key}
        with path.open("rb") as file:
            counted = _Counted(file, advance)
            content = cast("BinaryIO", counted)
            parts: list[tuple[str, Any]] = [
                ("metadata", (None, json.dumps(metadata).encode(), "application/json")),
                ("file", (name or path.name, content, media_type or "application/octet-stream")),
            ]
            return self._call("POST", "/documents", counted.again, files=parts, headers=headers, timeout=UPLOAD_SECONDS)

    def document(self, document_id: str) -> dict[str, Any]:
        return self._call("GET", f"/documents/{quote(document_id, safe='')}")

    def events(self, document_id: str) -> dict[str, Any]:
        """The document's timeline."""
        return self._call("GET", f"/documents/{quote(document_id, safe='')}/events")

    def content(self, document_id: str) -> Iterator[bytes]:
        """The document's clear bytes."""
        url = f"{PREFIX}/documents/{quote(document_id, safe='')}/content"
        try:
            with self._client.stream("GET", url) as response:
                if not response.is_success:
                    response.read()
                    raise _problem(response)
                yield from response.iter_bytes()
        except httpx.HTTPError as error:
            raise ApiUnreachable(self._url, type(error).__name__) from None

    def types(self) -> list[dict[str, Any]]:
        """What may be deposited."""
        items: list[dict[str, Any]] = self._call("GET", "/document-types")["items"]
        return items

    def documents(self, **filters: str) -> Iterator[dict[str, Any]]:
        """Every document that matches, newest first, page by page."""
        cursor: dict[str, str] = {}
        while True:
            page = self._call("GET", "/documents", params={**filters, **cursor})
            yield from page["items"]
            if not page.get("next_cursor"):
                return
            cursor = {"cursor": page["next_cursor"]}

    def validate(self, document_id: str, comment: str | None = None) -> dict[str, Any]:
        body = {} if comment is None else {"comment": comment}
        return self._call("POST", f"/documents/{quote(document_id, safe='')}/validate", json=body)

    def reject(self, document_id: str, reason: str) -> dict[str, Any]:
        return self._call("POST", f"/documents/{quote(document_id, safe='')}/reject", json={"reason": reason})

    def erase(self, document_id: str, reason: str, legal_basis: str | None = None) -> dict[str, Any]:
        body = {"reason": reason} | ({} if legal_basis is None else {"legal_basis": legal_basis})
        return self._call("POST", f"/documents/{quote(document_id, safe='')}/erase", json=body)

    def confirm_erasure(self, document_id: str, order_id: str) -> dict[str, Any]:
        return self._call(
            "POST", f"/documents/{quote(document_id, safe='')}/erase/confirm", json={"order_id": order_id}
        )

    def withdraw_erasure(self, document_id: str, order_id: str) -> dict[str, Any]:
        return self._call(
            "POST", f"/documents/{quote(document_id, safe='')}/erase/withdraw", json={"order_id": order_id}
        )

    def erasure_order(self, document_id: str) -> dict[str, Any]:
        return self._call("GET", f"/documents/{quote(document_id, safe='')}/erasure-order")

    def erasure_receipt(self, document_id: str) -> str:
        """A compact JWS."""
        return self._answered("GET", f"/documents/{quote(document_id, safe='')}/erasure-receipt").text

    def retention(self, document_id: str) -> dict[str, Any]:
        return self._call("GET", f"/documents/{quote(document_id, safe='')}/retention")

    def extend_retention(self, document_id: str, until: str, reason: str) -> dict[str, Any]:
        body = {"until": until, "reason": reason}
        return self._call("POST", f"/documents/{quote(document_id, safe='')}/retention", json=body)

    def set_hold(self, document_id: str, reference: str, reason: str) -> dict[str, Any]:
        body = {"reference": reference, "reason": reason}
        return self._call("POST", f"/documents/{quote(document_id, safe='')}/legal-holds", json=body)

    def lift_hold(self, document_id: str, reference: str, reason: str) -> dict[str, Any]:
        path = f"/documents/{quote(document_id, safe='')}/legal-holds/{quote(reference, safe='')}/lift"
        return self._call("POST", path, json={"reason": reason})

    def _call(self, method: str, path: str, again: Callable[[], None] = lambda: None, **request: Any) -> dict[str, Any]:
        """The JSON object of a success, with the HTTP status added as ``http_status``; ``again`` as in ``_answered``."""
        response = self._answered(method, path, again, **request)
        try:
            answer = response.json()
        except ValueError:
            answer = None
        if not isinstance(answer, dict):
            raise ApiUnreachable(self._url, "its answer is not JSON: is it another program's?")
        return {**answer, "http_status": response.status_code}

    def _answered(
        self, method: str, path: str, again: Callable[[], None] = lambda: None, **request: Any
    ) -> httpx.Response:
        """The answer, which is a success. A quota is waited for; ``again`` makes the body as it was."""
        for left in range(WAITS, -1, -1):
            try:
                response = self._client.request(method, PREFIX + path, **request)
            except httpx.HTTPError as error:
                raise ApiUnreachable(self._url, type(error).__name__) from None
            wait = response.headers.get("Retry-After", "")
            if response.status_code != httpx.codes.TOO_MANY_REQUESTS or not left or not wait.isdigit():
                break
            if int(wait) > LONGEST_WAIT:
                break
            time.sleep(int(wait))
            again()
        if not response.is_success:
            raise _problem(response)
        return response


def _problem(response: httpx.Response) -> ApiProblem:
    try:
        body = response.json()
    except ValueError:
        body = None
    if not isinstance(body, dict) or "code" not in body:
        return ApiProblem(response.status_code, "http_error", f"HTTP {response.status_code}", "no reason given", "", "")
    return ApiProblem(
        status=response.status_code,
        code=str(body["code"]),
        title=str(body.get("title", "")),
        detail=str(body.get("detail", "")),
        advice=str(body.get("advice", "")),
        trace=str(body.get("traceId", "")),
        fields=tuple(f"{one.get('field')}: {one.get('message')}" for one in body.get("errors", [])),
    )

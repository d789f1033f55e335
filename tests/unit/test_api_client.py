"""The command line's client: what it sends, and what it makes of answers."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import httpx
import pytest

from operations.api_client import ApiClient, ApiProblem, ApiUnreachable

Handler = Callable[[httpx.Request], httpx.Response]


def client(handler: Handler) -> ApiClient:
    return ApiClient("http://api.test/", "secret-token", transport=httpx.MockTransport(handler))


def test_a_file_is_streamed_after_its_metadata_and_progress_adds_up(tmp_path: Path) -> None:
    path = tmp_path / "a b.pdf"
    path.write_bytes(b"%PDF" * 100_000)
    seen: list[httpx.Request] = []
    pieces: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        request.read()
        seen.append(request)
        return httpx.Response(201, json={"id": "d", "status": "STORED"})

    with client(handler) as api:
        answer = api.submit(path, {"type": "RIB"}, media_type="application/pdf", key="k1", advance=pieces.append)
    assert answer == {"id": "d", "status": "STORED", "http_status": 201}
    (request,) = seen
    assert str(request.url) == "http://api.test/api/v1/documents"
    assert request.headers["authorization"] == "Bearer secret-token"
    assert request.headers["idempotency-key"] == "k1"
    assert int(request.headers["content-length"]) == len(request.content)
    metadata, file = request.content.split(b'name="file"')
    assert b'name="metadata"' in metadata
    assert b'{"type": "RIB"}' in metadata
    assert b'filename="a b.pdf"' in file
    assert b"application/pdf" in file
    assert path.read_bytes() in file
    assert sum(pieces) == path.stat().st_size
    assert max(pieces) < path.stat().st_size


def test_who_is_too_fast_waits_and_sends_all_of_it_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.pdf"
    path.write_bytes(b"%PDF" * 10_000)
    waited: list[float] = []
    monkeypatch.setattr("operations.api_client.time.sleep", waited.append)
    bodies: list[bytes] = []
    pieces: list[int] = []

    def handler(request: httpx.Request) -> httpx.Response:
        bodies.append(request.read())
        if len(bodies) < 3:
            return httpx.Response(429, headers={"Retry-After": "1"}, json={"code": "rate_limited"})
        return httpx.Response(201, json={"id": "d"})

    with client(handler) as api:
        assert api.submit(path, {"type": "RIB"}, advance=pieces.append)["id"] == "d"
    assert waited == [1, 1]
    assert all(path.read_bytes() in body for body in bodies)
    assert sum(pieces) == path.stat().st_size


@pytest.mark.parametrize("wait", ["1", "60", "", "soon"])
def test_who_has_to_wait_for_long_is_told(wait: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    monkeypatch.setattr("operations.api_client.time.sleep", lambda _: None)

    def handler(_: httpx.Request) -> httpx.Response:
        calls.append(1)
        return httpx.Response(429, headers={"Retry-After": wait}, json={"code": "rate_limited", "title": "t"})

    with client(handler) as api, pytest.raises(ApiProblem, match="t") as refused:
        api.types()
    assert refused.value.status == 429
    assert len(calls) == (11 if wait == "1" else 1)


def test_a_problem_keeps_its_code_advice_and_fields() -> None:
    body = {
        "code": "metadata_invalid",
        "title": "Invalid metadata",
        "detail": "The fields named in errors are not valid.",
        "advice": "Correct the fields.",
        "traceId": "t1",
        "errors": [{"field": "type", "code": "missing", "message": "The field is required."}],
    }
    with client(lambda _: httpx.Response(422, json=body)) as api, pytest.raises(ApiProblem) as caught:
        api.create_dossier({})
    assert (caught.value.status, caught.value.code, caught.value.advice) == (
        422,
        "metadata_invalid",
        "Correct the fields.",
    )
    assert "type: The field is required." in str(caught.value)


@pytest.mark.parametrize("answer", [httpx.Response(502, text="<html>"), httpx.Response(500, json=[1])])
def test_an_error_that_is_no_problem_is_told_by_its_status(answer: httpx.Response) -> None:
    with client(lambda _: answer) as api, pytest.raises(ApiProblem) as caught:
        api.document("x")
    assert caught.value.code == "http_error"
    assert str(answer.status_code) in str(caught.value)


@pytest.mark.parametrize("text", ["hello", "[1]"])
def test_another_programs_answer_is_not_taken_for_ours(text: str) -> None:
    with (
        client(lambda _: httpx.Response(200, text=text)) as api,
        pytest.raises(ApiUnreachable, match="another program"),
    ):
        api.document("x")


def test_nobody_there(tmp_path: Path) -> None:
    def refuse(request: httpx.Request) -> httpx.Response:
        raise httpx.ConnectError("no", request=request)

    with client(refuse) as api:
        with pytest.raises(ApiUnreachable, match=r"http://api\.test .*ConnectError"):
            api.document("x")
        with pytest.raises(ApiUnreachable):
            list(api.content("x"))


def test_lists_go_on_to_the_last_page() -> None:
    asked: list[dict[str, str]] = []

    def handler(request: httpx.Request) -> httpx.Response:
        asked.append(dict(request.url.params))
        first = "cursor" not in request.url.params
        items = [{"id": "1"}] if first else [{"id": "2"}]
        return httpx.Response(200, json={"items": items, "next_cursor": "c/2" if first else None})

    with client(handler) as api:
        assert [one["id"] for one in api.documents(status="VERIFIED")] == ["1", "2"]
    assert asked == [{"status": "VERIFIED"}, {"status": "VERIFIED", "cursor": "c/2"}]


def test_decisions_events_types_and_content() -> None:
    def handler(request: httpx.Request) -> httpx.Response:
        path = request.url.path.removeprefix("/api/v1")
        if path == "/documents/d%2F1/content" or request.url.raw_path.endswith(b"d%2F1/content"):
            return httpx.Response(200, content=b"clear")
        body = json.loads(request.content or b"null")
        return httpx.Response(202, json={"items": [path, body]})

    with client(handler) as api:
        assert api.validate("1")["items"] == ["/documents/1/validate", {}]
        assert api.validate("1", "ok")["items"] == ["/documents/1/validate", {"comment": "ok"}]
        assert api.reject("1", "no")["items"] == ["/documents/1/reject", {"reason": "no"}]
        assert api.events("1")["items"] == ["/documents/1/events", None]
        assert api.types() == ["/document-types", None]
        assert b"".join(api.content("d/1")) == b"clear"


def test_content_that_may_not_be_read_is_a_problem() -> None:
    body = {"code": "content_not_available", "title": "Content not available", "detail": "no"}
    with (
        client(lambda _: httpx.Response(409, json=body)) as api,
        pytest.raises(ApiProblem, match="Content not available"),
    ):
        list(api.content("x"))

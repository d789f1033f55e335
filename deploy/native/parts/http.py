"""Readiness questions over HTTP."""

from __future__ import annotations

import ssl
from typing import Any

import httpx

from deploy.native.parts.base import QUESTION_SECONDS, NotReady


def get_json(
    url: str,
    tls: ssl.SSLContext | None = None,
    *,
    statuses: frozenset[int] = frozenset({200}),
    auth: tuple[str, str] | None = None,
) -> Any:
    """The JSON answer to GET ``url``. Raises NotReady for any other status, and when nobody answers, or not whom we trust."""
    try:
        answer = httpx.get(url, auth=auth, timeout=QUESTION_SECONDS, trust_env=False, verify=tls or True)
        if answer.status_code in statuses:
            return answer.json()
    except (httpx.HTTPError, ValueError) as error:
        raise NotReady(f"no answer ({type(error).__name__})") from None
    raise NotReady(f"answers {answer.status_code}")


def get_ok(url: str, tls: ssl.SSLContext | None = None) -> None:
    """Raises NotReady unless GET ``url`` answers 200."""
    try:
        status = httpx.get(url, timeout=QUESTION_SECONDS, trust_env=False, verify=tls or True).status_code
    except httpx.HTTPError as error:
        raise NotReady(f"no answer ({type(error).__name__})") from None
    if status != httpx.codes.OK:
        raise NotReady(f"answers {status}")

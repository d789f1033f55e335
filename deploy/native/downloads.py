"""Downloads of pinned files: verified against a SHA-256, resumed where they were cut, through the user's proxies and CAs.

Standard library only: ``deploy/fetch_uv.py`` uses it before anything is installed.

- Proxies: ``HTTPS_PROXY``, ``HTTP_PROXY``, ``NO_PROXY`` (urllib's rules).
- Certificate authorities: the file ``SSL_CERT_FILE``, else ``REQUESTS_CA_BUNDLE``, else ``CURL_CA_BUNDLE``, else the system's,
  else certifi's where that is installed.
- User and password of a repository may stand in its URL; no message shows them and no redirect gets them.
"""

from __future__ import annotations

import base64
import functools
import hashlib
import http.client
import os
import socket
import ssl
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import unquote, urlsplit, urlunsplit

ATTEMPTS: Final = 5
#: Doubled before each further attempt: 0.5 s, 1 s, 2 s, 4 s.
PAUSE_SECONDS: Final = 0.25
#: Of silence: a connection that sends nothing for so long is given up and the file resumed.
SILENCE_SECONDS: Final = 30.0
CHUNK: Final = 256 * 1024
#: Answers that a further attempt may change; every other 4xx is final.
_PASSING: Final = frozenset({408, 425, 429})
_AUTHORITIES: Final = ("SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE")


class DownloadFailed(Exception):
    """The message is one line: what, from where, why, and what may help."""


@dataclass(frozen=True)
class PinnedFile:
    """``url`` may hold user and password. ``size`` in bytes."""

    url: str
    sha256: str
    size: int

    @property
    def shown(self) -> str:
        return without_password(self.url)


def without_password(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(netloc=parts.netloc.rpartition("@")[2]))


def fetch(pinned: PinnedFile, destination: Path, go_on: Callable[[], None] = lambda: None) -> None:
    """Put the file at ``destination``: whole, verified, or not at all. One caller at a time: the caller holds a lock.

    What is there already counts if its hash is right. An unfinished download stays beside it as ``.part`` and is resumed by the
    next call.

    Parameters: ``go_on`` is called at every chunk and may raise to give up.
    Raises DownloadFailed.
    """
    destination.parent.mkdir(parents=True, exist_ok=True)
    if destination.exists() and sha256(destination) == pinned.sha256:
        return
    part = destination.with_name(f"{destination.name}.part")
    resumed = part.exists()
    _complete(pinned, part, go_on)
    if sha256(part) != pinned.sha256 and resumed:
        # What was resumed may have been another file's beginning: one try from its start.
        part.unlink()
        _complete(pinned, part, go_on)
    if sha256(part) != pinned.sha256:
        part.unlink()
        raise DownloadFailed(f"{pinned.shown} has another SHA-256 than the one pinned: it is not used")
    part.replace(destination)


def get(url: str, accept: str) -> tuple[bytes, str]:
    """A small answer and its media type. Raises DownloadFailed."""
    try:
        with _open(url, {"Accept": accept}) as answer:
            body: bytes = answer.read()
            return body, answer.headers.get_content_type()
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise DownloadFailed(f"{without_password(url)}: {reason(error)}") from None


def sha256(path: Path) -> str:
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def reason(error: BaseException) -> str:
    """Why a request failed, in a few words, and what to set where that is known."""
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(error, urllib.error.HTTPError):
        hints = {401: " (user and password may stand in the URL)", 407: " (HTTPS_PROXY may hold user and password)"}
        return f"HTTP {error.code}{hints.get(error.code, '')}"
    if isinstance(cause, ssl.SSLCertVerificationError):
        return f"{cause.verify_message} (set SSL_CERT_FILE to the file of your certificate authorities)"
    if isinstance(cause, TimeoutError | socket.gaierror):
        return f"{cause.strerror or 'no answer'} (behind a proxy set HTTPS_PROXY)"
    return str(cause) or type(cause).__name__


def _complete(pinned: PinnedFile, part: Path, go_on: Callable[[], None]) -> None:
    """Fetch what ``part`` lacks of ``pinned.size`` bytes, in several attempts if need be."""
    for attempt in range(ATTEMPTS):
        if attempt:
            _pause(PAUSE_SECONDS * 2**attempt, go_on)
        try:
            if _fetch_rest(pinned, part, go_on) == pinned.size:
                return
            failure = "the connection ended early"
        except (OSError, http.client.HTTPException, ValueError) as error:
            failure = reason(error)
            if (
                isinstance(error, urllib.error.HTTPError)
                and error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE
            ):
                part.unlink(missing_ok=True)  # the server's file is shorter than what we have
            elif _is_final(error):
                break
    raise DownloadFailed(f"{pinned.shown}: {failure}")


def _fetch_rest(pinned: PinnedFile, part: Path, go_on: Callable[[], None]) -> int:
    """One request. Returns how many bytes there are then: at most one more than there should be."""
    have = part.stat().st_size if part.exists() else 0
    if have == pinned.size:
        return have
    if have > pinned.size:
        part.unlink()
        have = 0
    with _open(pinned.url, {"Range": f"bytes={have}-"} if have else {}) as answer:
        if have and not (answer.status == http.HTTPStatus.PARTIAL_CONTENT and _starts_at(answer.headers, have)):
            have = 0  # the server sends the whole file
        with part.open("r+b" if have else "wb") as stream:
            stream.seek(have)
            while have <= pinned.size and (chunk := answer.read1(min(CHUNK, pinned.size + 1 - have))):
                go_on()
                stream.write(chunk)
                have += len(chunk)
    if have > pinned.size:
        raise ValueError(f"it is larger than the {pinned.size} bytes that are pinned")
    return have


def _starts_at(headers: http.client.HTTPMessage, offset: int) -> bool:
    return str(headers.get("Content-Range", "")).startswith(f"bytes {offset}-")


def _is_final(error: BaseException) -> bool:
    if isinstance(error, urllib.error.HTTPError):
        return error.code < http.HTTPStatus.INTERNAL_SERVER_ERROR and error.code not in _PASSING
    cause = error.reason if isinstance(error, urllib.error.URLError) else error
    return isinstance(cause, ssl.SSLCertVerificationError | ValueError | str)


def _pause(seconds: float, go_on: Callable[[], None]) -> None:
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        go_on()
        time.sleep(0.05)


def _open(url: str, headers: dict[str, str]) -> http.client.HTTPResponse:
    """Raises OSError (URLError is one), HTTPException, ValueError."""
    parts = urlsplit(url)
    if parts.scheme not in {"https", "http"}:
        raise ValueError("neither https:// nor http://")
    request = urllib.request.Request(without_password(url), headers={"User-Agent": "dpj", **headers})  # noqa: S310
    if parts.username is not None:
        login = f"{unquote(parts.username)}:{unquote(parts.password or '')}"
        # Not among the headers that go along to where a redirect leads.
        request.add_unredirected_header("Authorization", f"Basic {base64.b64encode(login.encode()).decode('ascii')}")
    opener = urllib.request.build_opener(urllib.request.HTTPSHandler(context=_trust()))
    answer: http.client.HTTPResponse = opener.open(request, timeout=SILENCE_SECONDS)
    return answer


def _trust() -> ssl.SSLContext:
    return _context(next((chosen for name in _AUTHORITIES if (chosen := os.environ.get(name))), None))


@functools.cache
def _context(authorities: str | None) -> ssl.SSLContext:
    """Raises OSError where ``authorities`` is no file of certificates."""
    if authorities:
        try:
            return ssl.create_default_context(cafile=authorities)
        except OSError as error:
            raise OSError(
                f"{authorities}: no certificates can be read there ({error.strerror or type(error).__name__})"
            ) from None
    context = ssl.create_default_context()
    paths = ssl.get_default_verify_paths()
    if not context.get_ca_certs() and not (paths.capath and any(Path(paths.capath).glob("*"))):
        try:
            import certifi
        except ImportError:
            return context
        context.load_verify_locations(certifi.where())
    return context

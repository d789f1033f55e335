"""A CMIS 1.1 repository over the browser binding (OASIS CMIS 1.1, section 5).

Only the standard types ``cmis:document`` and ``cmis:folder`` and their standard properties are used, so that any CMIS 1.1
repository can stand here. Names are not unique under concurrency in every repository: whoever creates holds a lock.

An answer that means "wrong address, wrong password, wrong repository, too few rights" is reported as GedUnavailable: it is
our set-up that is wrong, for all documents alike, and no document has to be given up for it.
"""

from __future__ import annotations

import asyncio
import json
import ssl
from collections.abc import AsyncIterable, AsyncIterator, Mapping, Sequence
from contextlib import aclosing, asynccontextmanager
from typing import Any, Final
from urllib.parse import quote, urlsplit

import httpx

from domain.archive import GedDocument, GedObject
from domain.errors import ArchiveRefused, GedOutcomeUnknown, GedUnavailable
from ged.multipart import MultipartUpload

#: Answers about one object are a few KiB; a service document lists repositories. More than this is no CMIS answer.
_ANSWER_LIMIT: Final = 1 << 20
#: The slowest transfer that still counts as alive, in bytes per second; larger contents get longer deadlines by it.
_SLOWEST: Final = 128 * 1024
_READ_SIZE: Final = 256 * 1024

#: CMIS exceptions (section 2.2.1.4) that no repetition of the same request can cure.
_REFUSALS: Final = frozenset({"constraint", "filterNotValid", "invalidArgument", "notSupported", "streamNotSupported"})
#: What a proxy before the repository says of a document that it will never let pass (RFC 9110).
_TOO_LARGE: Final = 413
_SERVER_ERROR: Final = 500
#: Children asked for at once, and how many of them were there on the page before.
_PAGE: Final = 500
_OVERLAP: Final = 20


class _CmisError(Exception):
    """The repository answered with the CMIS exception called ``name`` (empty: an answer that is not CMIS)."""

    def __init__(self, name: str, status: int) -> None:
        super().__init__(name)
        self.name = name
        self.status = status


class CmisRepository:
    """One repository, reached with basic authentication.

    ``url`` is that of the service document (``.../browser``), ``deadline`` the seconds that a call may take, or that a
    transfer may stand still, ``tls`` says whom to trust over TLS, if not the usual authorities. Paths are sequences of names below the root folder. Every method raises GedUnavailable
    (away, overloaded, wrongly set up) or ArchiveRefused (the repository will never take this).
    """

    def __init__(
        self,
        url: str,
        repository_id: str,
        user: str,
        password: str,
        *,
        deadline: float = 30.0,
        connections: int = 16,
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self._service_url = url.rstrip("/")
        self._repository_id = repository_id
        self._deadline = deadline
        self._client = httpx.AsyncClient(
            auth=httpx.BasicAuth(user, password),
            headers={"Accept-Encoding": "identity"},
            timeout=httpx.Timeout(deadline),
            limits=httpx.Limits(max_connections=connections, max_keepalive_connections=connections),
            trust_env=False,
            verify=tls or True,
        )
        self._root_url: str | None = None

    async def aclose(self) -> None:
        """Close the connections."""
        await self._client.aclose()

    async def check(self) -> None:
        """Raise GedUnavailable if the repository does not answer now."""
        self._root_url = None
        await self._root()

    async def find(self, path: Sequence[str]) -> GedObject | None:
        """What is at ``path``, if anything."""
        wanted = {
            "cmisselector": "object",
            "succinct": "true",
            "filter": "cmis:objectId,cmis:objectTypeId,cmis:contentStreamLength",
        }
        url = await self._url(path)
        try:
            return _as_object(await self._call("GET", url, params=wanted))
        except _CmisError as error:
            if error.name == "objectNotFound":
                return None
            raise _translated(error) from None

    async def create_folder(self, path: Sequence[str]) -> None:
        """Create the last folder of ``path``; its parent has to exist."""
        form = _action("createFolder", {"cmis:objectTypeId": "cmis:folder", "cmis:name": path[-1]})
        url = await self._url(path[:-1])
        try:
            await self._call("POST", url, data=form)
        except _CmisError as error:
            raise _translated(error) from None

    async def create(
        self, folder: Sequence[str], document: GedDocument, content: AsyncIterable[bytes]
    ) -> GedObject | None:
        """Create ``document`` in ``folder``, sending ``content`` as it comes; None if there is no such folder.

        Raises ArchiveMismatch if ``content`` is not of the size that ``document`` says, and GedOutcomeUnknown if the
        document may have been created, or may still be: all was sent, and no answer says what came of it. After any other
        error of ours nothing was created.
        """
        properties = {
            "cmis:objectTypeId": "cmis:document",
            "cmis:name": document.name,
            "cmis:description": document.description,
        }
        upload = MultipartUpload(
            _action("createDocument", properties), ("content", document.name, document.mime_type, document.size)
        )
        url = await self._url(folder)
        deadline = self._deadline + document.size / _SLOWEST
        try:
            async with aclosing(upload.body(content)) as body:
                return _as_object(
                    await self._call("POST", url, headers=upload.headers, content=body, deadline=deadline)
                )
        except _CmisError as error:
            if error.name == "objectNotFound":
                return None
            if error.status >= _SERVER_ERROR and upload.is_complete:
                raise GedOutcomeUnknown("The GED failed over a creation.") from None
            raise _translated(error) from None
        except GedUnavailable:
            if upload.is_complete:
                raise GedOutcomeUnknown("The GED did not confirm a creation.") from None
            raise

    async def children(self, folder: Sequence[str]) -> AsyncIterator[tuple[str, GedObject]]:
        """Names and objects in ``folder``, in no order; nothing if there is no such folder.

        What others create or delete there meanwhile may be missing.
        """
        url = await self._url(folder)
        wanted = {
            "cmisselector": "children",
            "succinct": "true",
            "filter": "cmis:objectId,cmis:objectTypeId,cmis:name,cmis:contentStreamLength",
            "maxItems": str(_PAGE),
        }
        seen: set[str] = set()
        skipped, more = 0, True
        while more:
            try:
                page = await self._call("GET", url, params={**wanted, "skipCount": str(skipped)})
            except _CmisError as error:
                if error.name == "objectNotFound":
                    return
                raise _translated(error) from None
            found = _as_children(page)
            for name, child in found:
                if child.id not in seen:
                    seen.add(child.id)
                    yield name, child
            # Pages overlap, so that a deletion between two of them moves nothing out of sight.
            more = page.get("hasMoreItems") is True and len(found) > _OVERLAP
            skipped += len(found) - _OVERLAP

    async def read(self, object_id: str) -> AsyncIterator[bytes]:
        """The content of a document, from its first byte to its last."""
        root = await self._root()
        clock = asyncio.get_running_loop().time
        started = clock()
        received = 0
        try:
            params = {"objectId": object_id, "cmisselector": "content"}
            async with self._answer("GET", root, params=params) as response:
                async for chunk in response.aiter_bytes(_READ_SIZE):
                    yield chunk
                    received += len(chunk)
                    if clock() - started > self._deadline + received / _SLOWEST:
                        raise GedUnavailable("The GED sends a document too slowly.")
        except _CmisError as error:
            raise _translated(error) from None

    async def description_of(self, object_id: str) -> str | None:
        """The description of the document of that id, wherever it lies; None if there is no such document."""
        wanted = {
            "objectId": object_id,
            "cmisselector": "object",
            "succinct": "true",
            "filter": "cmis:objectId,cmis:objectTypeId,cmis:baseTypeId,cmis:description",
        }
        try:
            answer = await self._call("GET", await self._root(), params=wanted)
        except _CmisError as error:
            if error.name == "objectNotFound":
                return None
            raise _translated(error) from None
        _as_object(answer)
        properties = answer["succinctProperties"]
        if properties.get("cmis:baseTypeId") != "cmis:document":
            return None
        return str(properties.get("cmis:description") or "")

    async def delete(self, object_id: str) -> None:
        """Delete a document in all its versions; an absent one is fine."""
        form = {"cmisaction": "delete", "objectId": object_id, "allVersions": "true", "_charset_": "UTF-8"}
        root = await self._root()
        try:
            await self._call("POST", root, data=form)
        except _CmisError as error:
            if error.name != "objectNotFound":
                raise _translated(error) from None

    async def _root(self) -> str:
        """The root folder's URL, as the service document tells it, at the address that we were given.

        Its host is not taken over: behind a proxy a repository often names one that we can't reach, and the password
        goes to no other host than the one it was set for.
        """
        if self._root_url is None:
            try:
                repositories = await self._call("GET", self._service_url)
            except _CmisError as error:
                raise GedUnavailable(f"The GED's service document answered HTTP {error.status}.") from None
            about = repositories.get(self._repository_id)
            if not isinstance(about, dict) or not isinstance(about.get("rootFolderUrl"), str):
                raise GedUnavailable("The GED has no repository of the configured id.")
            ours = urlsplit(self._service_url)
            self._root_url = f"{ours.scheme}://{ours.netloc}{urlsplit(about['rootFolderUrl']).path.rstrip('/')}"
        return self._root_url

    async def _url(self, path: Sequence[str]) -> str:
        if any(name in {"", ".", ".."} for name in path):
            raise ArchiveRefused("A name in the GED can't be empty or a dot segment.")
        return "/".join([await self._root(), *(quote(name, safe="") for name in path)])

    async def _call(self, method: str, url: str, *, deadline: float | None = None, **request: Any) -> Mapping[str, Any]:
        """Send, and parse the JSON object of the answer (empty where there is none, as after a deletion)."""
        try:
            async with asyncio.timeout(deadline or self._deadline), self._answer(method, url, **request) as response:
                body = await _bounded(response)
        except TimeoutError:
            raise GedUnavailable("The GED did not answer in time.") from None
        return _parsed(body) if body else {}

    @asynccontextmanager
    async def _answer(self, method: str, url: str, **request: Any) -> AsyncIterator[httpx.Response]:
        """A successful response under way; it is closed, and its connection dropped if unfinished, on every way out."""
        try:
            async with self._client.stream(method, url, **request) as response:
                if not response.is_success:
                    raise _CmisError(_exception_name(await _bounded(response)), response.status_code)
                yield response
        except httpx.HTTPError:
            raise GedUnavailable("The GED can't be reached.") from None


def _action(name: str, properties: Mapping[str, str]) -> dict[str, str]:
    """The form of an action (section 5.4.4); without ``_charset_`` some repositories read it as Latin-1."""
    form = {"_charset_": "UTF-8", "cmisaction": name, "succinct": "true"}
    for index, (property_id, value) in enumerate(properties.items()):
        form[f"propertyId[{index}]"] = property_id
        form[f"propertyValue[{index}]"] = value
    return form


async def _bounded(response: httpx.Response) -> bytes:
    body = bytearray()
    async for chunk in response.aiter_bytes():
        body += chunk
        if len(body) > _ANSWER_LIMIT:
            raise GedUnavailable("The GED's answer is too long.")
    return bytes(body)


def _parsed(body: bytes) -> dict[str, Any]:
    try:
        answer = json.loads(body)
    except ValueError:
        answer = None
    if not isinstance(answer, dict):
        raise GedUnavailable("The GED's answer is not CMIS.")
    return answer


def _exception_name(body: bytes) -> str:
    """The name of the CMIS exception in an error answer (section 5.2.10); empty if a proxy or web server answered."""
    try:
        answer = json.loads(body)
    except ValueError:
        return ""
    return str(answer.get("exception", "")) if isinstance(answer, dict) else ""


def _as_object(answer: Mapping[str, Any]) -> GedObject:
    properties = answer.get("succinctProperties")
    if not isinstance(properties, dict) or not isinstance(properties.get("cmis:objectId"), str):
        raise GedUnavailable("The GED's answer is not CMIS.")
    size = properties.get("cmis:contentStreamLength")
    return GedObject(properties["cmis:objectId"], size if isinstance(size, int) and size >= 0 else None)


def _as_children(page: Mapping[str, Any]) -> list[tuple[str, GedObject]]:
    entries = page.get("objects")
    if not isinstance(entries, list):
        raise GedUnavailable("The GED's answer is not CMIS.")
    children = []
    for entry in entries:
        described = entry.get("object") if isinstance(entry, dict) else None
        if not isinstance(described, dict):
            raise GedUnavailable("The GED's answer is not CMIS.")
        child = _as_object(described)
        name = described["succinctProperties"].get("cmis:name")
        if not isinstance(name, str):
            raise GedUnavailable("The GED's answer is not CMIS.")
        children.append((name, child))
    return children


def _translated(error: _CmisError) -> GedUnavailable | ArchiveRefused:
    """nameConstraintViolation counts as transient: somebody was faster, and the next try finds what they made."""
    if error.name in _REFUSALS:
        return ArchiveRefused(f"The GED refuses this for good: {error.name}.")
    if error.status == _TOO_LARGE:
        return ArchiveRefused("The GED takes no document of this size.")
    return GedUnavailable(f"The GED answered HTTP {error.status}.")

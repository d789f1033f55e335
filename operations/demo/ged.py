"""A look at the GED from outside: plain CMIS 1.1 browser binding (OASIS CMIS 1.1, section 5), none of the pipeline's code."""

from __future__ import annotations

import hashlib
import ssl
from types import TracebackType
from typing import Final, Self
from urllib.parse import quote, urlsplit

import httpx

DEADLINE: Final = 30.0


class GedClient:
    """``url`` is the service document's address, ``tls`` whom to trust over TLS if not the usual authorities. Methods raise httpx.HTTPError or KeyError when the GED does not answer as such."""

    def __init__(self, url: str, repository: str, user: str, password: str, tls: ssl.SSLContext | None = None) -> None:
        self._client = httpx.Client(auth=(user, password), timeout=DEADLINE, trust_env=False, verify=tls or True)
        about = self._client.get(url).raise_for_status().json()[repository]
        ours = urlsplit(url)
        # A repository may name a host that is not reachable from here: only its path is taken over.
        self.root = f"{ours.scheme}://{ours.netloc}{urlsplit(about['rootFolderUrl']).path.rstrip('/')}"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._client.close()

    def sha256_of(self, object_id: str) -> str:
        """Digest of the content that the GED gives for an object."""
        digest = hashlib.sha256()
        params = {"objectId": object_id, "cmisselector": "content"}
        with self._client.stream("GET", self.root, params=params) as response:
            response.raise_for_status()
            for piece in response.iter_bytes():
                digest.update(piece)
        return digest.hexdigest()

    def folder_link(self, path: str) -> str:
        """Where the folder of a document at ``path`` can be looked at."""
        folder = "/".join(quote(name, safe="") for name in path.split("/")[:-1])
        return f"{self.root}{folder}?cmisselector=children&succinct=true"

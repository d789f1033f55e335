"""A light load: uploads and decisions, a few a second, whatever happens to the pipeline meanwhile."""

from __future__ import annotations

import threading
import time
from collections.abc import Mapping
from typing import Any, Final
from uuid import uuid4

import asyncpg
import httpx

from tests.support.pipeline import Pipeline, metadata, small_pdf

TENANT: Final = "drills"
_VERIFIED: Final = "SELECT id FROM documents WHERE tenant = $1 AND statut = 'VERIFIED' ORDER BY created_at LIMIT 50"
_REFUSED: Final = (httpx.HTTPError, AssertionError, OSError, asyncpg.PostgresError)


class Load:
    """``uploads`` a second are deposited; each that is verified is validated, once ``validating``."""

    def __init__(self, pipeline: Pipeline, uploads: float) -> None:
        self._pipeline = pipeline
        self._pause = 1 / uploads
        self._dossier = pipeline.dossier(TENANT)
        #: Cleared, no more uploads come: only then can all rest.
        self.flowing = threading.Event()
        self.validating = threading.Event()
        self.taken: list[str] = []
        self._decided: set[str] = set()
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._upload, self._decide)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def put(self, number: int, **more: Any) -> None:
        """So many uploads at once."""
        for _ in range(number):
            self._one(small_pdf(uuid4().hex), metadata(self._dossier), **more)

    def put_files(self, contents: list[bytes], said: Mapping[str, Any], **more: Any) -> list[str]:
        return [self._one(content, {**metadata(self._dossier), **said}, **more) for content in contents]

    def _one(self, content: bytes, said: Mapping[str, Any], **more: Any) -> str:
        taken = self._pipeline.upload(content, said, key=uuid4().hex, tenant=TENANT, **more)
        self.taken.append(str(taken["id"]))
        return str(taken["id"])

    def _upload(self) -> None:
        while True:
            self.flowing.wait()
            began = time.monotonic()
            try:
                self.put(1)
            except _REFUSED:
                time.sleep(1)
            time.sleep(max(0.0, self._pause - (time.monotonic() - began)))

    def _decide(self) -> None:
        """For as long as the program runs: what is verified after the last upload is decided as well."""
        validator = self._pipeline.client("validator", TENANT)
        while True:
            self.validating.wait()
            try:
                for row in self._pipeline.sql(_VERIFIED, TENANT):
                    found = str(row["id"])
                    if found not in self._decided:
                        validator.post(f"/documents/{found}/validate", json={}).raise_for_status()
                        self._decided.add(found)
            except _REFUSED:
                pass
            time.sleep(1)

"""The running pipeline as its neighbours see it: HTTP, command line, mailbox, GED, and the servers' own clients.

Nothing of the product is imported here: what is proven with it is proven from outside.
"""

from __future__ import annotations

import asyncio
import base64
import email
import email.policy
import hashlib
import json
import os
import re
import signal
import ssl
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from email.message import EmailMessage
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote, urlsplit
from uuid import uuid4

import asyncpg
import httpx
from minio import Minio
from pymongo import MongoClient

from tests.support.kafka_reading import KafkaReader, Record
from tests.support.quota_clients import QuotaKeepingTransport

ROOT = Path(__file__).resolve().parents[2]
SAMPLES = ROOT / "samples"
TENANT = "banque-e2e"
SUBJECTS = {
    "Nous avons bien reçu votre document": ("receipt", "fr"),
    "We have received your document": ("receipt", "en"),
    "Votre document est validé": ("validated", "fr"),
    "Your document has been approved": ("validated", "en"),
    "Votre document est archivé": ("archived", "fr"),
    "Your document has been archived": ("archived", "en"),
    "Votre document n’a pas pu être accepté": ("rejected", "fr"),
    "Your document could not be accepted": ("rejected", "en"),
    "Votre document n’a pas pu être traité": ("quarantined", "fr"),
    "Your document could not be processed": ("quarantined", "en"),
    "Document mis en quarantaine": ("operators-quarantine", "fr"),
}

Found = TypeVar("Found")


def wait_for(look: Callable[[], Found], what: str, seconds: float) -> Found:
    """What ``look`` gives once it is true; AssertionError with the last look if that takes longer than ``seconds``."""
    ends = time.monotonic() + seconds
    while True:
        found = look()
        if found:
            return found
        if time.monotonic() > ends:
            raise AssertionError(f"not within {seconds:.0f} s: {what}; last seen {found!r}")
        time.sleep(0.15)


@dataclass(frozen=True, slots=True)
class Mail:
    """A received mail; ``kind`` is its template and language."""

    kind: tuple[str, str]
    message_id: str
    to: str
    text: str


class Pipeline:
    """``settings``: the stack's DPJ_... values. ``tracing``: what its processes are told of where spans go (DPJ_TRACING_...)."""

    def __init__(self, settings: Mapping[str, str], tracing: Mapping[str, str] | None = None) -> None:
        self.settings = settings
        self.tracing = dict(tracing or {})
        self.name = settings["DPJ_STACK_NAME"]
        #: Whom to trust where the stack speaks TLS; None where it does not.
        self.tls: ssl.SSLContext | None = None
        security = {}
        if ca := settings.get("DPJ_TLS_CA_FILE"):
            self.tls = ssl.create_default_context(cafile=ca)
            security = {"security.protocol": "ssl", "ssl.ca.location": ca}
        scheme = "http" if self.tls is None else "https"
        self.url = f"{scheme}://{settings['DPJ_API_HOST']}:{settings['DPJ_API_PORT']}"
        self.home = Path(os.environ.get("DPJ_HOME", ROOT / ".dpj")) / self.name
        self.ended = False
        self._clients_lock = threading.Lock()
        self._clients: dict[tuple[str, str], httpx.Client] = {}
        self._keyed: set[str] = set()
        self._kafka = KafkaReader(settings["DPJ_KAFKA_BOOTSTRAP"], security)

    # --- the command line ----------------------------------------------------------------------------------------

    def dpj(self, *words: str, status: int = 0) -> str:
        """Standard output of the real command; AssertionError if it does not end with ``status``."""
        kept = {key: value for key, value in os.environ.items() if not key.startswith("DPJ_") or key == "DPJ_HOME"}
        command = [sys.executable, "-m", "runtime.cli.main", *words, "--stack", self.name]
        done = subprocess.run(
            command, cwd=ROOT, env=kept | self.tracing, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == status, (words, done.returncode, done.stdout[-2000:], done.stderr[-2000:])
        return done.stdout

    def json(self, *words: str) -> Any:
        return json.loads(self.dpj(*words, "--json"))

    def up(self) -> None:
        self.dpj("up", "--profile", "full")
        self.ended = False

    def give_key(self, tenant: str) -> None:
        """What an operator does for a new tenant."""
        if tenant not in self._keyed:
            self.json("keys", "create", "--tenant", tenant)
            self._keyed.add(tenant)

    def token(self, role: str, tenant: str = TENANT, seconds: int = 3600) -> str:
        """What an operator issues for a caller of the API, good for so many seconds."""
        issued: str = self.json("token", "--role", role, "--tenant", tenant, "--ttl", str(seconds))["token"]
        return issued

    def stop(self) -> None:
        """End our processes, not the servers."""
        self.dpj("down", "--keep-servers")

    def pids(self) -> dict[str, int]:
        return {part["name"]: part["pid"] for part in json.loads(self._status())["parts"] if part["pid"]}

    def _status(self) -> str:
        command = [sys.executable, "-m", "runtime.cli.main", "status", "--json", "--stack", self.name]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode in {0, 3}, done.stderr[-2000:]
        return done.stdout

    def end(self, number: signal.Signals, *names: str, pids: Mapping[str, int] | None = None) -> None:
        """Send a signal to processes of ours and wait until they are gone. ``pids``, if known, save asking for them."""
        found = self.pids() if pids is None else pids
        self.ended = True
        for name in names:
            os.kill(found[name], number)
        for name in names:
            wait_for(lambda pid=found[name]: not _runs(pid), f"{name} ends after {number.name}", 30)

    # --- the HTTP API --------------------------------------------------------------------------------------------

    def client(self, role: str, tenant: str = TENANT) -> httpx.Client:
        """The API as ``role`` of ``tenant`` reaches it; closed with the pipeline."""
        key = (role, tenant)
        with self._clients_lock:
            if key not in self._clients:
                self._clients[key] = self._new_client(role, tenant)
            return self._clients[key]

    def _new_client(self, role: str, tenant: str) -> httpx.Client:
        self.give_key(tenant)
        token = self.token(role, tenant)
        return httpx.Client(
            base_url=f"{self.url}/api/v1",
            headers={"Authorization": f"Bearer {token}"},
            timeout=60,
            trust_env=False,
            transport=QuotaKeepingTransport(limits=httpx.Limits(max_connections=32), verify=self.tls or True),
        )

    def close(self) -> None:
        for client in self._clients.values():
            client.close()

    def dossier(self, tenant: str = TENANT) -> str:
        new = {"number": f"E2E-{uuid4().hex[:12]}", "client_id": "client-1", "journey_type": "PRET_IMMOBILIER"}
        answer = self.client("portal", tenant).post("/dossiers", json=new)
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    def post(
        self,
        content: bytes,
        metadata: Mapping[str, Any],
        *,
        name: str = "piece.pdf",
        media_type: str = "application/pdf",
        key: str | None = None,
        role: str = "portal",
        tenant: str = TENANT,
    ) -> httpx.Response:
        """A multipart upload."""
        files: list[tuple[str, Any]] = [
            ("metadata", (None, json.dumps(metadata).encode(), "application/json")),
            ("file", (name, content, media_type)),
        ]
        headers = {} if key is None else {"Idempotency-Key": key}
        return self.client(role, tenant).post("/documents", files=files, headers=headers)

    def upload(self, content: bytes, metadata: Mapping[str, Any], **more: Any) -> dict[str, Any]:
        answer = self.post(content, metadata, **more)
        assert answer.status_code == 201, answer.text
        taken: dict[str, Any] = answer.json()
        return taken

    def upload_raw(self, content: bytes, metadata: Mapping[str, Any], media_type: str) -> dict[str, Any]:
        """The same without multipart."""
        said = base64.urlsafe_b64encode(json.dumps(metadata).encode()).decode().rstrip("=")
        headers = {"X-DPJ-Metadata": said, "Content-Type": media_type}
        answer = self.client("portal").post("/documents", content=content, headers=headers)
        assert answer.status_code == 201, answer.text
        taken: dict[str, Any] = answer.json()
        return taken

    def get(self, document_id: str, below: str = "", **more: Any) -> httpx.Response:
        return self.client("portal").get(f"/documents/{document_id}{below}", **more)

    def decide(self, document_id: str, verb: str, **body: str) -> httpx.Response:
        return self.client("validator").post(f"/documents/{document_id}/{verb}", json=body)

    def reaches(self, document_id: str, state: str, seconds: float = 30) -> dict[str, Any]:
        """The document once it is in ``state``."""

        def look() -> dict[str, Any] | None:
            document: dict[str, Any] = self.get(document_id).json()
            return document if document["status"] == state else None

        return wait_for(look, f"{document_id} is {state}", seconds)

    def timeline(self, document_id: str) -> list[str]:
        return [entry["type"] for entry in self.get(document_id, "/events").json()["items"]]

    # --- what the neighbours hold --------------------------------------------------------------------------------

    def sql(self, query: str, *arguments: Any) -> list[Any]:
        async def run() -> list[Any]:
            connection = await asyncpg.connect(self.settings["DPJ_POSTGRES_DSN"], timeout=10)
            try:
                found: list[Any] = await connection.fetch(query, *arguments, timeout=60)
                return found
            finally:
                await connection.close()

        # In a thread of its own: a test with a browser has an event loop in this one (Playwright's).
        with ThreadPoolExecutor(1) as apart:
            return apart.submit(lambda: asyncio.run(run())).result()

    def mongo(self, collection: str, query: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
        with MongoClient[dict[str, Any]](self.settings["DPJ_MONGO_URL"], serverSelectionTimeoutMS=10_000) as client:
            return list(client[self.settings["DPJ_MONGO_DATABASE"]][collection].find(query or {}))

    def mongo_collections(self) -> list[str]:
        with MongoClient[dict[str, Any]](self.settings["DPJ_MONGO_URL"], serverSelectionTimeoutMS=10_000) as client:
            return client[self.settings["DPJ_MONGO_DATABASE"]].list_collection_names()

    def minio(self) -> Minio:
        given = self.settings
        return Minio(
            given["DPJ_MINIO_ENDPOINT"],
            access_key=given["DPJ_MINIO_ACCESS_KEY"],
            secret_key=given["DPJ_MINIO_SECRET_KEY"],
            secure=False,
        )

    def objects(self) -> set[str]:
        listed = self.minio().list_objects(self.settings["DPJ_MINIO_BUCKET"], recursive=True)
        return {str(one.object_name) for one in listed} - {"health/write-probe"}  # readiness puts and deletes it

    def known_objects(self) -> set[str]:
        """Object keys that the database stands by."""
        query = """
            SELECT chemin_stockage FROM documents WHERE statut NOT IN ('ABANDONED', 'ERASING', 'ERASED')
            UNION ALL SELECT chemin_stockage FROM vignettes"""
        return {row[0] for row in self.sql(query)}

    def mails(self, document_id: str) -> list[Mail]:
        """Mails that name the document."""
        return [mail for mail in self._every_mail() if document_id in mail.text]

    def mail_kinds(self, document_id: str) -> Counter[tuple[str, str]]:
        return Counter(mail.kind for mail in self.mails(document_id))

    def _every_mail(self) -> Iterator[Mail]:
        maildir = Path(self.settings["DPJ_SMTP_MAILDIR"])
        for path in sorted([*(maildir / "new").glob("*"), *(maildir / "cur").glob("*")]):
            message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
            assert isinstance(message, EmailMessage)
            body = message.get_body(("plain",))
            assert body is not None
            template, language = SUBJECTS[str(message["Subject"])]
            assert str(message["Content-Language"]) == language
            yield Mail((template, language), str(message["Message-ID"]), str(message["To"]), body.get_content())

    def ged_copies(self, document: Mapping[str, Any]) -> list[tuple[str, str]]:
        """(object id, SHA-256 of the bytes) of every GED object in the document's folder that bears its id."""
        given = self.settings
        user = (given["DPJ_GED_USER"], given["DPJ_GED_PASSWORD"])
        with httpx.Client(auth=user, timeout=60, trust_env=False, verify=self.tls or True) as ged:
            about = ged.get(given["DPJ_GED_URL"]).raise_for_status().json()[given["DPJ_GED_REPOSITORY"]]
            ours = urlsplit(given["DPJ_GED_URL"])
            root = f"{ours.scheme}://{ours.netloc}{urlsplit(about['rootFolderUrl']).path.rstrip('/')}"
            folder = "/".join(quote(part, safe="") for part in document["archive"]["ged_path"].split("/")[:-1])
            asked = {"cmisselector": "children", "succinct": "true", "maxItems": "1000"}
            children = ged.get(f"{root}/{folder.lstrip('/')}", params=asked).raise_for_status().json()["objects"]
            copies = []
            for child in children:
                held = child["object"]["succinctProperties"]
                if document["id"] in held["cmis:name"]:
                    wanted = {"objectId": held["cmis:objectId"], "cmisselector": "content"}
                    content = ged.get(root, params=wanted).raise_for_status().content
                    copies.append((held["cmis:objectId"], hashlib.sha256(content).hexdigest()))
            return copies

    # --- Kafka ---------------------------------------------------------------------------------------------------

    def records(self) -> list[Record]:
        """Every record of every topic that is not Kafka's own."""
        return self._kafka.records()

    def lag(self) -> dict[str, int]:
        """Records that each consumer group has not committed, over the partitions in which it has committed any."""
        return self._kafka.lag()

    def is_quiet(self) -> bool:
        """Nothing is under way: outbox and audit queue empty, no lag by our count or by the product's."""
        query = """
            SELECT 1 FROM outbox WHERE published_at IS NULL UNION ALL SELECT 1 FROM audit_waiting
            UNION ALL SELECT 1 FROM audit_pending LIMIT 1"""
        if self.sql(query):
            return False
        return not any(self.lag().values()) and not any(row["lag"] for row in self.json("lag"))

    def settle(self, seconds: float = 60) -> None:
        wait_for(self.is_quiet, "nothing is under way", seconds)


def _runs(pid: int) -> bool:
    """Whether the process is there and no zombie (a zombie waits for whoever started it)."""
    try:
        status = Path(f"/proc/{pid}/status").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return False
    return re.search(r"^State:\s+Z", status, re.MULTILINE) is None


def metadata(dossier: str, type_code: str = "JUSTIFICATIF_DOMICILE", **more: Any) -> dict[str, Any]:
    """What a portal says of an upload; ``language`` and ``email`` are the depositor's."""
    depositor = {"email": more.pop("email", "depositor@client.example"), "language": more.pop("language", "fr")}
    return {"type": type_code, "dossier_id": dossier, "depositor": depositor, **more}


def sample(name: str) -> bytes:
    return (SAMPLES / name).read_bytes()


def small_pdf(mark: str) -> bytes:
    """A one-page PDF of bytes that no other mark gives."""
    parts: Sequence[bytes] = (
        b"<</Type/Catalog/Pages 2 0 R>>",
        b"<</Type/Pages/Kids[3 0 R]/Count 1>>",
        b"<</Type/Page/Parent 2 0 R/MediaBox[0 0 200 200]>>",
    )
    body = b"%PDF-1.4\n%" + mark.encode() + b"\n"
    places = []
    for number, part in enumerate(parts, 1):
        places.append(len(body))
        body += b"%d 0 obj\n%s\nendobj\n" % (number, part)
    start = len(body)
    body += b"xref\n0 4\n0000000000 65535 f \n" + b"".join(b"%010d 00000 n \n" % place for place in places)
    return body + b"trailer\n<</Size 4/Root 1 0 R>>\nstartxref\n%d\n%%%%EOF\n" % start

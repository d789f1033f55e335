"""Reads everything the checker looks at, with each server's own client: no part of the product takes part in it."""

from __future__ import annotations

import asyncio
import email
import email.policy
import hashlib
import json
import re
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from email.message import EmailMessage
from functools import cache
from io import BytesIO
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlsplit

import asyncpg
import httpx
from confluent_kafka import Consumer, KafkaException, TopicPartition
from fastavro import parse_schema, schemaless_reader
from minio import Minio
from pymongo import MongoClient

from tests.faults.observation import (
    CONSUMERS,
    DEAD_LETTERS,
    Copy,
    DeadLetter,
    Entry,
    Mail,
    Notice,
    Observation,
    Record,
    Row,
)
from tests.faults.plain_http import NO_TLS
from tests.faults.sealed_file_names import column_keys, file_name
from tests.support.pipeline import ROOT, SUBJECTS

UUID = re.compile(r"[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}")
#: Bytes before the Avro body in a record (docs/ARCHITECTURE.md: Confluent's wire format).
FRAME = 5
READ_SECONDS = 60
MAX_CHILDREN = 1000
KAFKA_SECONDS = 60.0
#: An answer of the broker that does not come in time is asked for again, by a new client. One that came back leads no partition at first.
LAG_SECONDS, LAG_TRIES, LAG_PAUSE_SECONDS = 15.0, 10, 2.0


class Stores:
    """``settings``: DPJ_... values with the servers' own addresses, no proxy between."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        self._settings = settings
        self._mails: dict[Path, Mail] = {}
        self._lock = threading.Lock()
        self._members: dict[str, Any] = {}

    async def observe(self, tenants: Iterable[str], since: Mapping[tuple[str, int], int] | None = None) -> Observation:
        """All that is held for ``tenants``; Kafka from the offsets ``since``, or from its beginning."""
        wanted = sorted(tenants)
        seen = Observation()
        await self._postgres(seen, wanted)
        jobs: tuple[Callable[[], None], ...] = (
            lambda: seen.objects.update(self._objects()),
            lambda: seen.copies.extend(self._copies(wanted)),
            lambda: seen.mails.extend(self._maildir(wanted, set(seen.rows))),
            lambda: seen.entries.extend(self._entries(wanted)),
            lambda: self._kafka(seen, set(wanted), since or {}),
            lambda: seen.lag.update(self.lag()),
        )
        await asyncio.gather(*(asyncio.to_thread(job) for job in jobs))
        return seen

    # --- PostgreSQL ----------------------------------------------------------------------------------------------

    async def query(self, text: str, *values: Any) -> list[Any]:
        connection = await asyncpg.connect(self._settings["DPJ_POSTGRES_DSN"], timeout=READ_SECONDS)
        try:
            found: list[Any] = await connection.fetch(text, *values, timeout=READ_SECONDS)
            return found
        finally:
            await connection.close()

    async def names(self, tenants: list[str]) -> dict[str, str]:
        """Documents' file names, by id, opened."""
        query = "SELECT id::text, tenant, nom_original, cle_personnelle FROM documents WHERE tenant = ANY($1::text[])"
        keys = column_keys(Path(self._settings["DPJ_COLUMN_KEY_FILE"]))
        return {row[0]: file_name(keys, row) for row in await self.query(query, tenants)}

    async def _postgres(self, seen: Observation, tenants: list[str]) -> None:
        rows = await self.query(
            """
            SELECT id::text, tenant, statut AS status, chemin_stockage AS object_key, sequence,
                   checksum_sha256 AS sha256, taille_fichier AS size, ged_id, chemin_ged AS ged_path,
                   coalesce(bail_expire_a < now(), false) AS lease_over
            FROM documents WHERE tenant = ANY($1::text[])""",
            tenants,
        )
        names = await self.names(tenants)
        seen.rows = {row["id"]: Row(name=names.get(row["id"], ""), **dict(row)) for row in rows}
        ids = list(seen.rows)
        told = "SELECT document_id::text, type FROM dossier_events WHERE document_id = ANY($1::uuid[]) ORDER BY rang"
        for row in await self.query(told, ids):
            seen.timeline.setdefault(row["document_id"], []).append(row["type"])
        made = "SELECT chemin_stockage, document_id::text FROM vignettes WHERE document_id = ANY($1::uuid[])"
        seen.renditions = {row[0]: row[1] for row in await self.query(made, ids)}
        others = """
            SELECT chemin_stockage FROM documents
            WHERE NOT tenant = ANY($1::text[]) AND statut NOT IN ('PENDING', 'ABANDONED', 'ERASING', 'ERASED')
            UNION ALL SELECT v.chemin_stockage FROM vignettes v JOIN documents d ON d.id = document_id
            WHERE NOT tenant = ANY($1::text[])"""
        seen.other_object_keys = {row[0] for row in await self.query(others, tenants)}
        notices = """
            SELECT document_id::text, template, statut AS status, message_id FROM notifications
            WHERE document_id = ANY($1::uuid[])"""
        seen.notices = [Notice(**dict(row)) for row in await self.query(notices, ids)]
        await self._delivery(seen, tenants)

    async def _delivery(self, seen: Observation, tenants: list[str]) -> None:
        waiting = """
            SELECT (SELECT count(*) FROM outbox WHERE published_at IS NULL),
                   (SELECT count(*) FROM audit_pending) + (SELECT count(*) FROM audit_waiting)"""
        seen.unpublished, seen.audit_waiting = (await self.query(waiting))[0]
        claimed = "SELECT consumer, event_id::text FROM inbox WHERE state = 'CLAIMED'"
        seen.claimed = [tuple(row) for row in await self.query(claimed)]
        heads = "SELECT tenant, seq, hash FROM audit_heads WHERE tenant = ANY($1::text[])"
        seen.heads = {row[0]: (row[1], row[2]) for row in await self.query(heads, tenants)}

    async def under_way(self) -> dict[str, int]:
        """What is not at rest yet, by what it is; empty once everything is."""
        counts = """
            SELECT (SELECT count(*) FROM outbox WHERE published_at IS NULL) AS outbox,
                   (SELECT count(*) FROM audit_pending) + (SELECT count(*) FROM audit_waiting) AS audit,
                   (SELECT count(*) FROM inbox WHERE state = 'CLAIMED') AS inbox,
                   (SELECT count(*) FROM documents WHERE statut = 'PENDING') AS pending,
                   (SELECT count(*) FROM documents WHERE statut = 'STORED') AS stored,
                   (SELECT count(*) FROM documents WHERE statut = 'ERASING') AS erasing,
                   (SELECT count(*) FROM documents JOIN types_documents ON code_type = type_document
                    WHERE statut = 'VALIDATED' AND est_archive) AS validated"""
        row = (await self.query(counts))[0]
        lag = sum((await asyncio.to_thread(self.lag)).values())
        return {name: count for name, count in [*row.items(), ("lag", lag)] if count}

    # --- object store, GED, mailbox, MongoDB ---------------------------------------------------------------------

    def minio(self) -> Minio:
        given = self._settings
        return Minio(
            given["DPJ_MINIO_ENDPOINT"],
            access_key=given["DPJ_MINIO_ACCESS_KEY"],
            secret_key=given["DPJ_MINIO_SECRET_KEY"],
            secure=False,
        )

    def _objects(self) -> set[str]:
        listed = self.minio().list_objects(self._settings["DPJ_MINIO_BUCKET"], recursive=True)
        return {str(one.object_name) for one in listed} - {"health/write-probe"}  # readiness puts and deletes it

    def ged(self) -> GedReader:
        return GedReader(self._settings)

    def _copies(self, tenants: list[str]) -> list[Copy]:
        with self.ged() as ged:
            return [copy for tenant in tenants for copy in ged.copies(tenant)]

    def _maildir(self, tenants: list[str], documents: set[str]) -> Iterator[Mail]:
        """Mails about one of ``documents`` or to a depositor of one of ``tenants``; not those to the operators."""
        maildir = Path(self._settings["DPJ_SMTP_MAILDIR"])
        for folder in ("new", "cur"):
            for path in (maildir / folder).glob("*"):
                if path not in self._mails:
                    self._mails[path] = _mail(path)
        ends = tuple(f"@{tenant}.example" for tenant in tenants)
        for mail in self._mails.values():
            if mail.to == self._settings.get("DPJ_OPERATORS_MAIL"):
                continue
            if mail.document_id in documents or mail.to.endswith(ends):
                yield mail

    def mongo(self) -> MongoClient[dict[str, Any]]:
        return MongoClient(self._settings["DPJ_MONGO_URL"], serverSelectionTimeoutMS=10_000)

    def _entries(self, tenants: list[str]) -> list[Entry]:
        with self.mongo() as client:
            log = client[self._settings["DPJ_MONGO_DATABASE"]]["audit_logs"]
            return [
                Entry(str(one["_id"]), one["tenant"], int(one["seq"]), one["entree"], one["empreinte"])
                for tenant in tenants
                for one in log.find({"tenant": tenant})
            ]

    # --- Kafka ---------------------------------------------------------------------------------------------------

    def _consumer(self, group: str) -> Any:
        about = {"enable.auto.commit": False, "auto.offset.reset": "earliest", "group.id": group}
        return Consumer({"bootstrap.servers": self._settings["DPJ_KAFKA_BOOTSTRAP"], **about})

    def ends(self) -> dict[tuple[str, int], int]:
        """The next offset of every partition of the pipeline's topics."""
        consumer = self._consumer("faults-reader")
        try:
            return {place: _watermarks(consumer, place)[1] for place in _partitions(consumer)}
        finally:
            consumer.close()

    def _kafka(self, seen: Observation, tenants: set[str], since: Mapping[tuple[str, int], int]) -> None:
        for message in self._messages(since):
            if message.topic().startswith(DEAD_LETTERS):
                seen.dead_letters.append(_dead_letter(message))
            else:
                record = _record(message)
                if record is not None and record.tenant in tenants:
                    seen.records.append(record)

    def dead_letters(self, since: Mapping[tuple[str, int], int]) -> list[DeadLetter]:
        """Those that came after the offsets ``since``."""
        return [_dead_letter(message) for message in self._messages(since) if message.topic().startswith(DEAD_LETTERS)]

    def _messages(self, since: Mapping[tuple[str, int], int]) -> Iterator[Any]:
        consumer = self._consumer("faults-reader")
        try:
            remaining: dict[tuple[str, int], int] = {}
            for place in _partitions(consumer):
                low, high = _watermarks(consumer, place)
                if high > max(low, since.get(place, 0)):
                    remaining[place] = high
            consumer.assign([TopicPartition(*place, since.get(place, 0)) for place in remaining])
            ends = time.monotonic() + READ_SECONDS
            while remaining:
                if time.monotonic() > ends:
                    raise TimeoutError(f"Kafka's records can't be read: {remaining}")
                for message in consumer.consume(1000, timeout=0.5):
                    if message.error() is None:
                        yield message
                for place in consumer.position([TopicPartition(*one) for one in remaining]):
                    if place.offset >= remaining[place.topic, place.partition]:
                        del remaining[place.topic, place.partition]
        finally:
            consumer.close()

    def lag(self) -> dict[tuple[str, str, int], int]:
        """Records not committed, per (group, topic, partition)."""
        with self._lock:
            for _ in range(LAG_TRIES - 1):
                try:
                    return _lag(self._asking())
                except KafkaException:
                    self._forget_members()
                    time.sleep(LAG_PAUSE_SECONDS)
            return _lag(self._asking())

    def _asking(self) -> dict[str, Any]:
        """The same clients for all looks: rest is looked for twice a second."""
        self._members = self._members or {name: self._consumer(f"dpj.{name}") for name in CONSUMERS}
        return self._members

    def _forget_members(self) -> None:
        """After a broker came back a client may wait for ever for the coordinator that it knew (librdkafka's issue 5511)."""
        for member in self._members.values():
            member.close()
        self._members = {}


def _lag(members: Mapping[str, Any]) -> dict[tuple[str, str, int], int]:
    """They ask as their group's consumers do, without joining it: librdkafka's administrators may abort the process when the broker
    goes away under their question."""
    found = {}
    anyone = next(iter(members.values()))
    places = _partitions(anyone)
    spans = {place: _watermarks(anyone, place) for place in places}
    for name, topics in CONSUMERS.items():
        mine = [TopicPartition(*place) for place in places if place[0] in topics]
        for place in members[name].committed(mine, timeout=LAG_SECONDS):
            if place.error is not None:
                raise KafkaException(place.error)
            low, high = spans[place.topic, place.partition]
            found[f"dpj.{name}", place.topic, place.partition] = high - max(low, place.offset, 0)
    return found


class GedReader:
    """The GED over the CMIS browser binding, by the calls that any client has."""

    def __init__(self, settings: Mapping[str, str]) -> None:
        user = (settings["DPJ_GED_USER"], settings["DPJ_GED_PASSWORD"])
        self._client = httpx.Client(auth=user, timeout=READ_SECONDS, trust_env=False, verify=NO_TLS)
        about = self._client.get(settings["DPJ_GED_URL"]).raise_for_status().json()[settings["DPJ_GED_REPOSITORY"]]
        ours = urlsplit(settings["DPJ_GED_URL"])
        self.root = f"{ours.scheme}://{ours.netloc}{urlsplit(about['rootFolderUrl']).path.rstrip('/')}"

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def copies(self, tenant: str) -> Iterator[Copy]:
        """Every document below the tenant's folder."""
        waiting = [f"/dpj/{tenant}"]
        while waiting:
            folder = waiting.pop()
            for held in self._children(folder):
                path = f"{folder}/{held['cmis:name']}"
                if held["cmis:objectTypeId"] == "cmis:folder":
                    waiting.append(path)
                else:
                    object_id = held["cmis:objectId"]
                    yield Copy(
                        object_id, tenant, path, held["cmis:name"], hashlib.sha256(self.read(object_id)).hexdigest()
                    )

    def _children(self, folder: str) -> Iterator[dict[str, Any]]:
        skip = 0
        while True:
            asked: dict[str, str | int] = {
                "cmisselector": "children",
                "succinct": "true",
                "maxItems": MAX_CHILDREN,
                "skipCount": skip,
            }
            answer = self._client.get(f"{self.root}{quote(folder)}", params=asked)
            if answer.status_code == httpx.codes.NOT_FOUND:
                return
            found = answer.raise_for_status().json()["objects"]
            yield from (child["object"]["succinctProperties"] for child in found)
            if len(found) < MAX_CHILDREN:
                return
            skip += len(found)

    def read(self, object_id: str) -> bytes:
        asked = {"objectId": object_id, "cmisselector": "content"}
        return self._client.get(self.root, params=asked).raise_for_status().content

    def act(self, folder: str, **form: str) -> None:
        """A POST of the browser binding (an action on ``folder``), with a content if there is one to create."""
        content = form.pop("content", None)
        files = {"content": ("content", content.encode())} if content is not None else None
        self._client.post(f"{self.root}{quote(folder)}", data=form, files=files).raise_for_status()


def _mail(path: Path) -> Mail:
    message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    body = message.get_body(("plain",))
    found = UUID.search(body.get_content() if body else "")
    template, _ = SUBJECTS.get(str(message["Subject"]), (str(message["Subject"]), ""))
    return Mail(template, found[0] if found else "", str(message["Message-ID"]), str(message["To"]))


@cache
def _schemas() -> dict[str, Any]:
    """The Avro schema of each topic, from the files that the repository publishes."""
    found = {}
    for path in (ROOT / "schemas" / "avro").glob("*.avsc"):
        schema = json.loads(path.read_text("utf-8"))
        name = schema["name"]
        topic = (
            "dpj.audit.recorded" if name == "AuditRecorded" else f"dpj.document.{name.removeprefix('Document').lower()}"
        )
        found[topic] = parse_schema(schema)
    return found


def _record(message: Any) -> Record | None:
    """None for a record that is no event: the harness puts some there."""
    try:
        said: Any = schemaless_reader(BytesIO(message.value()[FRAME:]), _schemas()[message.topic()], None)
        document = str(said["document_id"]) if "document_id" in said else said["entity_id"]
        ids = {"event_id": str(said["event_id"]), "tenant": said["tenant"], "document_id": document}
        place = (message.topic(), message.partition(), message.offset(), message.timestamp()[1])
        return Record(*place, **ids, sequence=said["sequence"])
    except (ValueError, EOFError, IndexError, KeyError, TypeError, UnicodeDecodeError):
        return None


def _dead_letter(message: Any) -> DeadLetter:
    told = {name: value.decode() for name, value in message.headers() or []}
    found = UUID.fullmatch((message.key() or b"").decode("utf-8", "replace"))
    origin = (told["dpj-origin-topic"], int(told["dpj-origin-partition"]), int(told["dpj-origin-offset"]))
    return DeadLetter(told["dpj-consumer"], told["dpj-code"], told["dpj-event-id"], found[0] if found else "", origin)


def _partitions(consumer: Any) -> list[tuple[str, int]]:
    topics = consumer.list_topics(timeout=KAFKA_SECONDS).topics
    return [(name, number) for name in topics if name.startswith("dpj.") for number in topics[name].partitions]


def _watermarks(consumer: Any, place: tuple[str, int]) -> tuple[int, int]:
    low, high = consumer.get_watermark_offsets(TopicPartition(*place), timeout=KAFKA_SECONDS)
    return low, high

"""Strings that exist nowhere else go through everything that can happen to a document; then every place is searched for them.

Where a string may be: the depositor's own mails, and the document itself in the GED. Nowhere else, as it is, in hex or in base64, in
small letters or large.
"""

from __future__ import annotations

import base64
import email
import email.policy
import json
import mmap
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote, urlsplit
from uuid import uuid4

import httpx
import pytest
from bson import json_util
from confluent_kafka import Producer
from minio import Minio

from tests.e2e.test_confidentiality import dump, forms_of
from tests.e2e.test_malware import infected_pdf
from tests.support.free_ports import free_ports
from tests.support.otlp_receiver import OtlpReceiver
from tests.support.pipeline import ROOT, TENANT, Pipeline, metadata, small_pdf, wait_for
from tests.support.planted_words import planted_pdf, planted_pictures
from tests.support.refusing_servers import refusing_ged, refusing_mail_server

TRACEPARENT = re.compile(r"00-[0-9a-f]{32}-[0-9a-f]{16}-[0-9a-f]{2}")
#: In the order of their health ports.
WORKERS = ("integrity", "renditions", "archiving", "notification", "audit")
#: Bytes that a form of a secret has at least, so that it is none by chance.
LONG_ENOUGH = 10
#: Spans leave a process every two seconds.
SPANS_SENT_SECONDS = 3.0


class Person:
    """Somebody whose every word is unlike any other."""

    def __init__(self) -> None:
        self.secrets: list[str] = []
        self.email = f"{self._new('adresse')}@client.example"
        self.name = f"{self._new('Prenom')} {self._new('Nom')}"
        self.file = f"{self._new('releve')}.pdf"
        self.tag, self.value = self._new("etiquette"), self._new("valeur")
        self.comment, self.reason = self._new("commentaire"), self._new("motif")
        self.subject, self.agent = self._new("utilisateur"), self._new("navigateur")
        self.title = self._new("titre")
        self.stray = self._new("egare")

    def _new(self, kind: str) -> str:
        word = f"{kind}{uuid4().hex[:14]}"
        self.secrets.append(word)
        return word

    def inside(self, media_type: str) -> Callable[[str], str]:
        """Makes words for places within a file: each is named after its place and holds the file's secret."""
        secret = self._new(f"dans{media_type.rpartition('/')[2]}")
        return lambda place: f"{place.lower()}{secret}"

    def said(self, dossier: str, type_code: str = "JUSTIFICATIF_DOMICILE") -> dict[str, Any]:
        said = metadata(dossier, type_code, email=self.email, language="en")
        said["depositor"]["name"] = self.name
        return {**said, "tags": [self.tag], "metadata": {"titulaire": self.value}}

    def pdf(self, mark: str) -> bytes:
        """Its own words are in the document and in its properties."""
        info = f"4 0 obj\n<</Title({self.title})/Author({self.name})>>\nendobj\n".encode()
        return (
            small_pdf(mark)
            .replace(b"\nxref\n", b"\n" + info + b"xref\n")
            .replace(b"/Root 1 0 R", b"/Root 1 0 R/Info 4 0 R")
        )


@contextmanager
def worker(pipeline: Pipeline, consumer: str, log: Path, others: Mapping[str, str]) -> Iterator[None]:
    """The stack's worker of that name is ended, and one with other settings is there instead."""
    pipeline.end(signal.SIGTERM, f"worker-{consumer}")
    place = int(others["DPJ_WORKER_PORT_BASE"]) + WORKERS.index(consumer) + 1
    given = {key: value for key, value in os.environ.items() if not key.startswith("DPJ_") or key == "DPJ_HOME"}
    given |= pipeline.tracing | others
    command = [sys.executable, "-m", "runtime.cli.main", "worker", consumer, "--stack", pipeline.name]
    with log.open("ab") as out:
        process = subprocess.Popen(command, cwd=ROOT, env=given, stdout=out, stderr=out)
    try:
        wait_for(lambda: _answers(f"http://127.0.0.1:{place}/readyz"), f"{consumer} is ready", 60)
        yield
    finally:
        process.terminate()
        process.wait(30)
        pipeline.up()


def _answers(url: str) -> bool:
    try:
        return httpx.get(url, timeout=2, trust_env=False).status_code == 200
    except httpx.HTTPError:
        return False


@pytest.mark.full
@pytest.mark.timeout(600)
def test_a_person_s_words_stand_nowhere(pipeline: Pipeline, collector: OtlpReceiver, tmp_path: Path) -> None:
    person, dossier = Person(), pipeline.dossier()
    begun = time.time()
    ids = {
        **happy(pipeline, person, dossier),
        **refused_mail(pipeline, person, dossier, tmp_path / "refused-mail.log"),
        **refused_archive(pipeline, person, dossier, tmp_path / "refused-archive.log"),
        **bad_ends(pipeline, person, dossier),
        **planted(pipeline, person, dossier),
    }
    invalid(pipeline, person, dossier)
    poison(pipeline)
    looked_up(pipeline, person, ids)
    pipeline.settle(120)

    places = {f"table {table}": held for table, held in dump(pipeline).items()}
    places |= everything_else(pipeline)
    places |= {f"log {path.name}": path.read_bytes() for path in tmp_path.glob("*.log")}
    time.sleep(SPANS_SENT_SECONDS)
    places["spans"] = b"\n".join(collector.bodies)
    # What is searched is what the words went through.
    for state, document in ids.items():
        assert any(document.encode() in held for held in places.values()), state
    assert {"dpj.dlq.notification", "dpj.dlq.archiving", "dpj.dlq.integrity"} <= {name.split(" ")[0] for name in places}
    assert {"mongo audit_logs", "mongo documents_metadata", "metrics api", "log api.log"} <= places.keys()
    processes = ("api", "relay", *(f"worker-{name}" for name in WORKERS))
    assert all(f"dpj-{name}".encode() in places["spans"] for name in processes)
    assert all(code in places["spans"] for code in (b"mail_refused", b"archive_refused", b"content_mismatch"))
    assert found_in(places, person.secrets) == []
    assert found_on_disk(pipeline, person.secrets, begun) == []
    assert found_in({"unsent": b"\n".join(mail_of_others(pipeline, person))}, person.secrets) == []
    assert sum(person.file in text for text in own_mails(pipeline, person)) >= 3
    # The search does find.
    assert found_in({"here": f"x{person.email.upper()}x".encode()}, person.secrets) != []
    assert found_in({"here": base64.b64encode(f"xx{person.email}xx".encode())}, person.secrets) != []


def happy(pipeline: Pipeline, person: Person, dossier: str) -> dict[str, str]:
    """Deposited by somebody with a name, twice with one key, looked at, validated with a comment, archived, linked to."""
    token = pipeline.json("token", "--role", "portal", "--tenant", TENANT, "--subject", person.subject)["token"]
    key = uuid4().hex
    headers = {
        "Authorization": f"Bearer {token}",
        "User-Agent": person.agent,
        "Idempotency-Key": key,
        "traceparent": f"00-{person.stray}-x-00",
        "tracestate": f"a={person.stray}",
        "correlation-id": person.stray,
    }
    files: list[tuple[str, Any]] = [
        ("metadata", (None, json.dumps(person.said(dossier)).encode(), "application/json")),
        ("file", (person.file, person.pdf("happy"), "application/pdf")),
    ]
    with httpx.Client(base_url=f"{pipeline.url}/api/v1", headers=headers, timeout=60, trust_env=False) as portal:
        first, again = (portal.post("/documents", files=files) for _ in range(2))
        assert (first.status_code, again.status_code) == (201, 201), first.text
        assert again.headers["idempotent-replayed"] == "true"
        assert again.json() == first.json()
        assert TRACEPARENT.fullmatch(first.headers["traceparent"])
        taken = first.json()
        assert (taken["file_name"], taken["tags"]) == (person.file, [person.tag])
        assert taken["metadata"] == {"titulaire": person.value}
        pipeline.reaches(taken["id"], "VERIFIED")
        content = portal.get(f"/documents/{taken['id']}/content")
        link = portal.post(f"/documents/{taken['id']}/links", json={"purpose": "audit"})
    opened = httpx.get(f"{pipeline.url}{link.json()['url']}", trust_env=False)
    for served in (content, opened):
        assert person.file in served.headers["content-disposition"]
    assert pipeline.decide(taken["id"], "validate", comment=person.comment).json()["decision"]["note"] == person.comment
    archived = pipeline.reaches(taken["id"], "ARCHIVED", 60)
    assert person.file not in json.dumps(archived["archive"])
    return {"archived": taken["id"]}


def bad_ends(pipeline: Pipeline, person: Person, dossier: str) -> dict[str, str]:
    """Malware; a rejection that came before the verdict; one erased."""
    quarantined = pipeline.upload(infected_pdf(), person.said(dossier, "CONTRAT"), name=person.file)["id"]
    pipeline.reaches(quarantined, "QUARANTINED")
    rejected = pipeline.upload(person.pdf("rejected"), person.said(dossier), name=person.file)["id"]
    answer = pipeline.decide(rejected, "reject", reason=person.reason)
    assert answer.status_code in {200, 202}, answer.text
    assert pipeline.decide(rejected, "reject", reason=person.reason).status_code in {202, 409}
    assert pipeline.reaches(rejected, "REJECTED")["decision"]["note"] == person.reason
    erased = pipeline.upload(person.pdf("erased"), person.said(dossier), name=person.file)["id"]
    pipeline.reaches(erased, "VERIFIED")
    pipeline.decide(erased, "reject", reason=person.reason)
    body = {"reason": "T-1", "legal_basis": "GDPR_17_1_B"}
    assert pipeline.client("operator").post(f"/documents/{erased}/erase", json=body).status_code == 202
    assert pipeline.reaches(erased, "ERASED", 60)["file_name"] == ""
    return {"quarantined": quarantined, "rejected": rejected, "erased": erased}


def planted(pipeline: Pipeline, person: Person, dossier: str) -> dict[str, str]:
    """A file of each format that is rendered and can be written here, full of words; its facts are kept without them."""
    kind = "JUSTIFICATIF_DOMICILE"
    allow = "UPDATE types_documents SET formats_autorises = $2 WHERE code_type = $1"
    (before,) = pipeline.sql("SELECT formats_autorises FROM types_documents WHERE code_type = $1", kind)[0]
    files = {"application/pdf": planted_pdf(person.inside("application/pdf"))}
    for media_type in planted_pictures(str, 0):
        shade = uuid4().bytes[0]
        files[media_type] = planted_pictures(person.inside(media_type), shade)[media_type]
    ids = {}
    try:
        pipeline.sql(allow, kind, list(files))
        for media_type, content in files.items():
            taken = pipeline.upload(content, person.said(dossier), name=person.file, media_type=media_type)
            ids[media_type] = taken["id"]
    finally:
        pipeline.sql(allow, kind, before)
    for media_type, taken in ids.items():
        wait_for(lambda at=taken: "THUMBNAILS_READY" in pipeline.timeline(at), f"{media_type} is rendered", 60)
        (held,) = pipeline.mongo("documents_metadata", {"_id": taken})
        facts = held["metadata"]
        # They were read: what is known of them is kept.
        named = [facts.get("producer"), facts.get("creator_tool"), *(facts.get("exif") or {}).values()]
        assert named.count("other") == (0 if media_type == "image/gif" else 2), facts
    return ids


def refused_mail(pipeline: Pipeline, person: Person, dossier: str, log: Path) -> dict[str, str]:
    """The mail server refuses the address, and says it: a dead letter, which an operator gives another try later."""
    with refusing_mail_server() as port:
        others = {"DPJ_SMTP_PORT": str(port), "DPJ_WORKER_PORT_BASE": str(free_ports(len(WORKERS) + 1))}
        with worker(pipeline, "notification", log, others):
            taken = pipeline.upload(person.pdf("no mail"), person.said(dossier), name=person.file)["id"]
            wait_for(lambda: "NOTIFICATION_FAILED" in pipeline.timeline(taken), "the mail was given up", 60)
    redriven(pipeline, "notification", taken)
    wait_for(lambda: pipeline.mails(taken), "the mail is sent after all", 60)
    return {"refused mail": taken}


def refused_archive(pipeline: Pipeline, person: Person, dossier: str, log: Path) -> dict[str, str]:
    """The GED refuses the document, and quotes it; then an operator has it archived all the same."""
    given = urlsplit(pipeline.settings["DPJ_GED_URL"])
    with refusing_ged(f"{given.scheme}://{given.netloc}") as port:
        others = {
            "DPJ_GED_URL": f"http://127.0.0.1:{port}{given.path}",
            "DPJ_WORKER_PORT_BASE": str(free_ports(len(WORKERS) + 1)),
        }
        with worker(pipeline, "archiving", log, others):
            taken = pipeline.upload(person.pdf("no archive"), person.said(dossier), name=person.file)["id"]
            pipeline.reaches(taken, "VERIFIED")
            pipeline.decide(taken, "validate", comment=person.comment)
            pipeline.reaches(taken, "ARCHIVE_FAILED", 60)
    redriven(pipeline, "archiving", taken)
    pipeline.reaches(taken, "ARCHIVED", 60)
    return {"retried": taken}


def redriven(pipeline: Pipeline, consumer: str, document: str) -> None:
    """An operator looks at the dead letter of the document, and has it taken again."""
    words = ("--consumer", consumer, "--document", document)
    wait_for(lambda: document in pipeline.dpj("dlq", "list", *words, "--json"), "the dead letter is there", 60)
    assert pipeline.json("dlq", "redrive", *words, "--apply")["done"] == 1


def invalid(pipeline: Pipeline, person: Person, dossier: str) -> None:
    """Requests that are refused, each with a word in another place."""
    portal, validator = pipeline.client("portal"), pipeline.client("validator")
    said, pdf = person.said(dossier), person.pdf("invalid")
    bad: dict[str, httpx.Response] = {
        "content": pipeline.post(b"no PDF but text\n" * 20, said, name=person.file),
        "address": pipeline.post(pdf, {**said, "depositor": {"email": person.stray}}, name=person.file),
        "field": pipeline.post(pdf, {**said, person.stray: person.value}, name=person.file),
        "type": pipeline.post(pdf, {**said, "type": person.stray}, name=person.file),
        "checksum": pipeline.post(pdf, {**said, "sha256": "0" * 64}, name=person.file),
        "media type": pipeline.post(pdf, said, name=person.file, media_type=f"application/{person.stray}"),
        "query": portal.get("/documents", params={"file_name": person.file, "email": person.email}),
        "path": portal.get(f"/documents/{quote(person.email)}"),
        "nowhere": portal.get(f"/{quote(person.name)}"),
        "cursor": portal.get("/documents", params={"cursor": person.stray}),
        "note": validator.post(f"/documents/{uuid4()}/reject", json={"reason": person.reason}),
        "json": validator.post(f"/documents/{uuid4()}/reject", content=person.reason.encode()),
        "token": httpx.get(f"{pipeline.url}/api/v1/documents", headers={"Authorization": f"Bearer {person.stray}"}),
        "link": httpx.get(f"{pipeline.url}/api/v1/links/{person.stray}"),
        "search": portal.post("/document-search", json={"file_name": person.file, "x": person.stray}),
    }
    for name, answer in bad.items():
        assert 400 <= answer.status_code < 500, (name, answer.status_code)
        # The name of a field that there is not goes back to who sent it, and nowhere else.
        text = answer.text.replace(person.stray, "") if name == "field" else answer.text
        for secret in person.secrets:
            assert secret not in text, name


def poison(pipeline: Pipeline) -> None:
    """Records that nobody can read become dead letters."""
    producer = Producer({"bootstrap.servers": pipeline.settings["DPJ_KAFKA_BOOTSTRAP"]})
    before = len([one for one in pipeline.records() if one.topic == "dpj.dlq.integrity"])
    producer.produce("dpj.document.uploaded", key=str(uuid4()).encode(), value=b"\x00no event")
    assert producer.flush(30) == 0
    wait_for(
        lambda: len([one for one in pipeline.records() if one.topic == "dpj.dlq.integrity"]) > before,
        "a dead letter",
        60,
    )


def looked_up(pipeline: Pipeline, person: Person, ids: Mapping[str, str]) -> None:
    """By the API and by an operator; the erased one is not found."""
    wanted = set(ids.values()) - {ids["erased"]}
    for body in ({"file_name": person.file.upper()}, {"depositor_email": person.email, "file_name": person.file}):
        answer = pipeline.client("portal").post("/document-search", json=body)
        assert answer.status_code == 200, answer.text
        assert wanted <= {one["id"] for one in answer.json()["items"]}
        assert ids["erased"] not in answer.text
    command = [
        sys.executable,
        "-m",
        "runtime.cli.main",
        "personal",
        "find",
        "--tenant",
        TENANT,
        "--stack",
        pipeline.name,
        "--json",
    ]
    given = {key: value for key, value in os.environ.items() if not key.startswith("DPJ_") or key == "DPJ_HOME"}
    done = subprocess.run(
        command, cwd=ROOT, env=given, input=f"{person.email}\n", capture_output=True, text=True, timeout=60, check=True
    )
    assert wanted <= {one["id"] for one in json.loads(done.stdout)["documents"]}
    assert pipeline.client("portal", "autre-banque").post(
        "/document-search", json={"depositor_email": person.email}
    ).json() == {"items": [], "next_cursor": None}


# --- where it is looked ----------------------------------------------------------------------------------------------


def everything_else(pipeline: Pipeline) -> dict[str, bytes]:
    """Kafka, MongoDB, object names and what the store knows of them, GED names and properties, metrics, logs."""
    places: dict[str, bytes] = {}
    for number, record in enumerate(pipeline.records()):
        places[f"{record.topic} {number}"] = b"\n".join((record.key, record.value, record.headers))
    for collection in pipeline.mongo_collections():
        places[f"mongo {collection}"] = json_util.dumps(pipeline.mongo(collection)).encode()
    for kind in ("MINIO", "CHECKPOINT"):
        endpoint, access, secret, bucket = (
            pipeline.settings[f"DPJ_{kind}_{name}"] for name in ("ENDPOINT", "ACCESS_KEY", "SECRET_KEY", "BUCKET")
        )
        store = Minio(endpoint, access_key=access, secret_key=secret, secure=False, region="us-east-1")
        told = []
        for one in store.list_objects(bucket, recursive=True):
            known = store.stat_object(bucket, one.object_name)
            told.append(f"{one.object_name} {dict(known.metadata)} {known.content_type}")
        assert told, bucket
        places[f"bucket {bucket}"] = "\n".join(told).encode()
    places["ged"] = "\n".join(ged_properties(pipeline)).encode()
    base = int(pipeline.settings["DPJ_WORKER_PORT_BASE"])
    for name, url in {
        "api": pipeline.url,
        **{str(place): f"http://127.0.0.1:{base + place}" for place in range(7)},
    }.items():
        for below in ("readyz", "livez") if name == "api" else ("metrics", "readyz", "livez"):
            places[f"{below} {name}"] = httpx.get(f"{url}/{below}", timeout=10, trust_env=False).content
    own = httpx.get(f"http://127.0.0.1:{base + 7}/metrics", timeout=10, trust_env=False)
    assert "dpj_upload_bytes_total" in own.text
    places["metrics api"] = own.content
    for path in (pipeline.home / "logs").iterdir():
        places[f"log {path.name}"] = path.read_bytes()
    return places


def ged_properties(pipeline: Pipeline) -> Iterator[str]:
    """Every folder's and document's properties, from the root down."""
    given = pipeline.settings
    with httpx.Client(auth=(given["DPJ_GED_USER"], given["DPJ_GED_PASSWORD"]), timeout=60, trust_env=False) as ged:
        about = ged.get(given["DPJ_GED_URL"]).raise_for_status().json()[given["DPJ_GED_REPOSITORY"]]
        ours = urlsplit(given["DPJ_GED_URL"])
        root = f"{ours.scheme}://{ours.netloc}{urlsplit(about['rootFolderUrl']).path.rstrip('/')}"
        folders = ["/dpj"]
        while folders:
            folder = folders.pop()
            asked = {"cmisselector": "children", "succinct": "true", "maxItems": "1000"}
            path = "/".join(quote(part, safe="") for part in folder.split("/"))
            for child in ged.get(f"{root}{path}", params=asked).raise_for_status().json()["objects"]:
                held = child["object"]["succinctProperties"]
                yield json.dumps(held)
                if held["cmis:baseTypeId"] == "cmis:folder":
                    folders.append(f"{folder}/{held['cmis:name']}")


def found_in(places: Mapping[str, bytes], secrets: list[str]) -> list[tuple[str, str]]:
    """(place, secret) wherever a form of a secret stands."""
    # Base64 knows large letters from small ones; all else is looked for in small ones.
    forms = {secret: (secret.lower().encode(), encoded(secret)) for secret in secrets}
    return [
        (place, secret)
        for place, held, lower in ((place, held, held.lower()) for place, held in places.items())
        for secret, (plain, others) in forms.items()
        if plain in lower or any(form in held for form in others)
    ]


def encoded(secret: str) -> set[bytes]:
    found: set[bytes] = set()
    for text in {secret, secret.lower(), secret.upper()}:
        found |= {form for form in forms_of(text.encode()) if len(form) >= LONG_ENOUGH and form != text.encode()}
    return found


def found_on_disk(pipeline: Pipeline, secrets: list[str], since: float) -> list[tuple[str, str]]:
    """In any file of any server and process of the stack that was written since, but for mails and for what the GED was given."""
    wanted = [secret.encode() for secret in secrets]
    maildir = Path(pipeline.settings["DPJ_SMTP_MAILDIR"])
    found = []
    for path in pipeline.home.rglob("*"):
        try:
            if path.is_symlink() or not path.is_file() or path.is_relative_to(maildir) or not path.stat().st_size:
                continue
            if path.stat().st_mtime < since - 1 or "ged" in path.relative_to(pipeline.home).parts[:2]:
                continue
            with path.open("rb") as opened, mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ) as held:
                found += [
                    (str(path.relative_to(pipeline.home)), secret.decode())
                    for secret in wanted
                    if held.find(secret) >= 0
                ]
        except (FileNotFoundError, ValueError):
            continue  # it went away meanwhile, or became empty
    return found


def _mails(pipeline: Pipeline) -> Iterator[tuple[str, str]]:
    maildir = Path(pipeline.settings["DPJ_SMTP_MAILDIR"])
    for path in [*(maildir / "new").glob("*"), *(maildir / "cur").glob("*")]:
        message = email.message_from_bytes(path.read_bytes(), policy=email.policy.default)
        text = "\n".join(part.get_content() for part in message.walk() if part.get_content_maintype() == "text")
        yield str(message["To"]), text + str(message.items())


def own_mails(pipeline: Pipeline, person: Person) -> list[str]:
    return [text for to, text in _mails(pipeline) if to == person.email]


def mail_of_others(pipeline: Pipeline, person: Person) -> list[bytes]:
    return [text.encode() for to, text in _mails(pipeline) if to != person.email]

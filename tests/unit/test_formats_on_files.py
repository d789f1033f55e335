"""docs/ENVELOPE.md suffices: what was written from that page alone reads what the product's adapters write into files.

What they write on servers: ``tests/e2e/test_formats_on_servers.py``.
"""

from __future__ import annotations

import ast
import hashlib
import json
import subprocess
import sys
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from crypto import local_key_file
from crypto.encoding import to_text
from crypto.envelope import Envelope
from crypto.link_tokens import LinkSigner
from crypto.local_keyring import LocalKeyring
from crypto.local_tenant_keys import LocalTenantKeys
from crypto.personal_data import PersonalDataKeys
from crypto.sealed_columns import SealedColumns
from domain.keys import EncryptionContext
from domain.links import DocumentLink
from domain.merkle import grown, inclusion_proof
from domain.personal_texts import PersonalField, TextContext
from domain.shared.encoding import canonical as product_canonical
from domain.subjects import SealedAuditField, Subject
from operations.audit.export import export_audit
from storage.checkpoints.folder import FolderCheckpointStore
from storage.objects.filesystem import FilesystemObjectStore
from tests.second_implementation import documents, forms, proofs
from tests.second_implementation.documents import Context, WrappedKey
from tests.second_implementation.forms import Refused
from tests.support.audit_histories import ListedEntries, checkpoints_of
from tests.support.audit_lines import MemoryUnflushedEntries, a_chain
from tests.support.memory_audit_trees import MemorySigner
from tests.unit.test_erasure_receipts import a_receipt
from tests.unit.test_proof_on_files import Site

ROOT = Path(__file__).resolve().parents[2]
SECOND = ROOT / "tests" / "second_implementation"
VECTORS = json.loads((ROOT / "tests" / "vectors" / "envelope-v1.json").read_text("utf-8"))["vectors"]
DOCUMENT = UUID("6f1f6c3e-0c1b-4c38-9a55-3b1d5f0b7a01")
TENANT = "acme"
MIB = 1 << 20


# --- it stands alone -------------------------------------------------------------------------------------------------


def imported(path: Path) -> set[str]:
    """Top-level names of what a file imports; "." for what lies beside it; every way to import by a text."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        if isinstance(node, ast.Import):
            found |= {name.name.split(".")[0] for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            found.add("." * node.level or str(node.module).split(".")[0])
        elif isinstance(node, ast.Name) and node.id in {"__import__", "eval", "exec"}:
            found.add(node.id)
    return found


def test_it_imports_nothing_of_ours() -> None:
    files = sorted(SECOND.glob("**/*.py"))
    assert len(files) == 4
    allowed = (sys.stdlib_module_names | {"cryptography", "."}) - {"importlib", "runpy", "pkgutil", "ctypes"}
    assert {(file.name, name) for file in files for name in imported(file) if name not in allowed} == set()


def test_it_runs_where_nothing_of_ours_is(tmp_path: Path) -> None:
    for file in SECOND.glob("*.py"):
        target = tmp_path / "second_implementation" / file.name
        target.parent.mkdir(exist_ok=True)
        target.write_bytes(file.read_bytes())
    asked = (
        f"import sys; sys.path.insert(0, {str(tmp_path)!r})\n"
        "from second_implementation import documents, forms, proofs\n"
        "ours = {'domain', 'crypto', 'storage', 'processors', 'operations', 'runtime', 'verifier'} & set(sys.modules)\n"
        "sys.exit(bool(ours))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", asked], cwd=tmp_path, timeout=60, check=False)
    assert done.returncode == 0


# --- envelopes and stores --------------------------------------------------------------------------------------------


def clear_of(size: int) -> bytes:
    return bytes((i * 7 + 3) % 251 for i in range(251)) * (size // 251) + bytes(
        (i * 7 + 3) % 251 for i in range(size % 251)
    )


@pytest.mark.parametrize("vector", VECTORS, ids=[vector["name"] for vector in VECTORS])
def test_both_agree_on_the_vectors(vector: dict[str, Any]) -> None:
    key, context, clear = bytes.fromhex(vector["key"]), Context(**vector["context"]), clear_of(vector["clear_size"])
    salt, prefix = bytes.fromhex(vector["salt"]), bytes.fromhex(vector["nonce_prefix"])
    sealed = documents.seal_envelope(clear, key, context, salt, prefix)
    assert (len(sealed), hashlib.sha256(sealed).hexdigest()) == (vector["sealed_size"], vector["sealed_sha256"])
    assert documents.sealed_size(len(clear)) == len(sealed)
    assert documents.open_envelope(sealed, key, context) == clear


async def once(clear: bytes) -> AsyncIterator[bytes]:
    yield clear


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "objects"


@pytest.fixture
async def keyring_file(tmp_path: Path) -> Path:
    """A keyring file with two versions of the tenant's key, both in use."""
    path = tmp_path / "keyring.json"
    LocalKeyring.create(path)
    await LocalTenantKeys(path).create(TENANT)
    return path


async def stored(folder: Path, keyring_file: Path, clear: bytes, role: str = "content") -> tuple[str, str, WrappedKey]:
    """A document as the product puts it into a folder: object key, etag, wrapped key."""
    context = EncryptionContext(TENANT, DOCUMENT)
    key, wrapped = await LocalKeyring(keyring_file).new_data_key(context)
    store, object_key = FilesystemObjectStore(folder), f"documents/6f/{DOCUMENT}/{uuid4().hex}"
    await store.prepare()
    kept = await store.put(object_key, Envelope().encrypt(key, EncryptionContext(TENANT, DOCUMENT, role), once(clear)))
    await store.aclose()
    return object_key, kept.etag, WrappedKey(wrapped.scheme, wrapped.key_name, wrapped.key_version, wrapped.ciphertext)


@pytest.mark.parametrize("size", [0, 1, 1000, MIB, MIB + 1, 2 * MIB])
async def test_a_document_in_a_folder_opens(folder: Path, keyring_file: Path, size: int) -> None:
    clear = clear_of(size)
    object_key, etag, wrapped = await stored(folder, keyring_file, clear)
    sealed, named = documents.read_stored_file(folder, object_key)
    assert (named, len(sealed)) == (etag, documents.sealed_size(size))
    context = Context(TENANT, str(DOCUMENT))
    key = documents.unwrap_by_file(wrapped, context, keyring_file)
    assert documents.open_envelope(sealed, key, context) == clear
    for other in (Context("acmf", str(DOCUMENT)), Context(TENANT, str(uuid4())), Context(TENANT, str(DOCUMENT), "x")):
        with pytest.raises(Refused):
            documents.unwrap_by_file(wrapped, other, keyring_file)
        with pytest.raises(Refused):
            documents.open_envelope(sealed, key, other)


@pytest.mark.parametrize(
    ("start", "end"), [(0, 1), (MIB - 1, MIB + 1), (MIB, 2 * MIB), (2 * MIB, 2 * MIB + 77), (5, 2 * MIB + 1)]
)
async def test_a_range_opens_out_of_its_chunks(folder: Path, keyring_file: Path, start: int, end: int) -> None:
    clear = clear_of(2 * MIB + 77)
    object_key, _, wrapped = await stored(folder, keyring_file, clear)
    sealed, _ = documents.read_stored_file(folder, object_key)
    context = Context(TENANT, str(DOCUMENT))
    key = documents.unwrap_by_file(wrapped, context, keyring_file)

    def read(offset: int, length: int) -> bytes:
        return sealed[offset : offset + length]

    assert documents.open_range(read, len(clear), key, context, start, end) == clear[start:end]


async def test_a_thumbnail_opens_under_the_documents_key(folder: Path, keyring_file: Path) -> None:
    object_key, _, wrapped = await stored(folder, keyring_file, b"a picture", "thumbnail-256")
    sealed, _ = documents.read_stored_file(folder, object_key)
    context = Context(TENANT, str(DOCUMENT))
    key = documents.unwrap_by_file(wrapped, context, keyring_file)
    assert documents.open_envelope(sealed, key, Context(TENANT, str(DOCUMENT), "thumbnail-256")) == b"a picture"


async def test_damage_to_a_stored_file_is_refused(folder: Path, keyring_file: Path) -> None:
    object_key, _, _ = await stored(folder, keyring_file, b"x" * 100)
    path = folder / f"{object_key}@"
    held = path.read_bytes()
    for damaged in (held[:-1], held[1:], held[:50] + b"?" + held[51:], held + b"?", b""):
        path.write_bytes(damaged)
        with pytest.raises(Refused):
            documents.read_stored_file(folder, object_key)


async def test_keyring_files_of_all_forms(folder: Path, keyring_file: Path, tmp_path: Path) -> None:
    """Several versions, a retired one, and the single key of format 1, alone and moved into format 2."""
    context = Context(TENANT, str(DOCUMENT))
    _, _, first = await stored(folder, keyring_file, b"1")
    await LocalTenantKeys(keyring_file).rotate(TENANT)
    _, _, second = await stored(folder, keyring_file, b"2")
    assert (first.version, second.version) == (1, 2)
    for wrapped in (first, second):
        assert len(documents.unwrap_by_file(wrapped, context, keyring_file)) == 32
    await LocalTenantKeys(keyring_file).raise_floor(TENANT, 2)
    with pytest.raises(Refused):
        documents.unwrap_by_file(first, context, keyring_file)
    old = tmp_path / "old.json"
    held = {"format": "dpj-keyring-1", "name": "local-x", "current": 1, "keys": {"1": to_text(b"k" * 32)}}
    old.touch(0o600)
    old.write_text(json.dumps(held))
    assert documents.key_encryption_key(old, "local-x", 1) == b"k" * 32
    await LocalTenantKeys(old).create(TENANT)
    assert json.loads(old.read_text())["format"] == local_key_file.FORMAT
    assert documents.key_encryption_key(old, "local-x", 1) == b"k" * 32
    assert documents.key_encryption_key(old, f"local-x.{TENANT}", 1) != b"k" * 32


# --- sealed texts ----------------------------------------------------------------------------------------------------


def other(text: str) -> str:
    """Another text of the same letters."""
    return ("B" if text[0] == "A" else "A") + text[1:]


def key_list(path: Path, *keys: bytes) -> Path:
    """The first line is padded, as other programs write it."""
    path.touch(0o600)
    path.write_text("".join(f"{to_text(key)}{'' if number else '='}\n" for number, key in enumerate(keys)))
    return path


def test_sealed_texts_open(tmp_path: Path) -> None:
    personal_file = key_list(tmp_path / "personal.key", b"a" * 32, b"b" * 32)
    pseudonym_file = key_list(tmp_path / "pseudonym.key", b"c" * 32)
    made = PersonalDataKeys.from_files(personal_file, pseudonym_file)
    personal = documents.listed_keys(personal_file, "dpj-personal")
    assert documents.open_text(made.seal("203.0.113.7"), personal) == "203.0.113.7"
    assert documents.pseudonym(b"c" * 32, "actor", "é") == made.pseudonym("actor", "é")
    wrapped = made.subjects.new(Subject(TENANT, DOCUMENT))
    key = documents.open_subject_key(wrapped, personal, TENANT, str(DOCUMENT))
    sealed = made.subjects.seal(wrapped, Subject(TENANT, DOCUMENT), {SealedAuditField.IP: "::1"})[SealedAuditField.IP]
    assert documents.open_audit_field(sealed, key, TENANT, str(DOCUMENT), "ip") == "::1"
    with pytest.raises(Refused):
        documents.open_audit_field(sealed, key, TENANT, str(DOCUMENT), "user_agent")
    with pytest.raises(Refused):
        documents.open_subject_key(wrapped, personal, TENANT, str(uuid4()))


@pytest.mark.parametrize("field", PersonalField)
def test_personal_texts_open_and_are_found(tmp_path: Path, field: PersonalField) -> None:
    column_file = key_list(tmp_path / "column.key", b"d" * 32, b"e" * 32)
    lookup_file = key_list(tmp_path / "lookup.key", b"f" * 32)
    made = SealedColumns.from_files(column_file, lookup_file)
    columns, lookups = (
        documents.listed_keys(column_file, "dpj-column"),
        documents.listed_keys(lookup_file, "dpj-lookup"),
    )
    assert (made.current().sealing, made.current().lookup) == (next(iter(columns)), next(iter(lookups)))
    text = "Straße E\u0301TÉ.pdf "
    for key in columns:
        sealed = made.seal(TextContext(TENANT, DOCUMENT, field), text, key)
        assert documents.open_column(sealed, columns, TENANT, str(DOCUMENT), field.value) == text
        with pytest.raises(Refused):
            documents.open_column(sealed, columns, "other", str(DOCUMENT), field.value)
    found = {name: documents.look_up_index(key, TENANT, field.value, text) for name, key in lookups.items()}
    assert found == made.indexes(TENANT, field, text)


def test_a_link_says_whose_it_is(tmp_path: Path) -> None:
    path = key_list(tmp_path / "link.key", b"g" * 32)
    ends = datetime(2030, 1, 1, tzinfo=UTC)
    now = datetime.now(UTC)
    link = DocumentLink(id=uuid4(), document_id=DOCUMENT, purpose="x", created_by="u", created_at=now, expires_at=ends)
    token = LinkSigner.from_file(path).sign(link)
    keys = documents.listed_keys(path, "dpj-link")
    assert documents.open_link(token, keys) == (link.id, DOCUMENT, 1_893_456_000)
    prefix, _, body = token.rpartition(".")
    with pytest.raises(Refused):
        documents.open_link(f"{prefix}.{other(body)}", keys)


# --- proofs ----------------------------------------------------------------------------------------------------------


@pytest.fixture
async def site(tmp_path: Path) -> Site:
    """Entries, and checkpoints of them in a folder, signed with the key of a file."""
    site = Site(tmp_path)
    for first, last in ((0, 7), (7, 20), (20, 30)):
        site.trees.chained(site.chain[first:last])
        await site.checkpointer.run_once()
    return site


async def test_checkpoints_in_a_folder_and_an_export_verify(site: Site, tmp_path: Path) -> None:
    folder = await site.export(tmp_path / "export")
    keys = proofs.public_keys((folder / "keys.json").read_bytes())
    seeds = documents.signing_seeds(tmp_path / "signing.json")
    raw = {key.public_bytes_raw() for key in keys.values()}
    assert raw == {
        Ed25519PrivateKey.from_private_bytes(seed).public_key().public_bytes_raw() for seed in seeds.values()
    }
    entries, checkpoints = proofs.verify_export(folder, TENANT, keys)
    assert (len(entries), [made.size for made in checkpoints]) == (30, [7, 20, 30])
    kept = {proofs.checkpoint_name(TENANT, made.size): made for made in checkpoints}
    found = {path.relative_to(tmp_path / "checkpoints").as_posix() for path in (tmp_path / "checkpoints").glob("*/*")}
    assert found == set(kept)
    for name, made in kept.items():
        assert proofs.read_checkpoint((tmp_path / "checkpoints" / name).read_bytes(), keys) == made


async def test_what_was_done_to_an_export_is_refused(site: Site, tmp_path: Path) -> None:
    folder = await site.export(tmp_path / "export")
    keys = proofs.public_keys((folder / "keys.json").read_bytes())
    entries, checkpoints = (folder / "entries.jsonl").read_bytes(), (folder / "checkpoints.jsonl").read_bytes()
    lines = entries.splitlines(keepends=True)
    for altered in (
        entries.replace(b'"actor":"u-1"', b'"actor":"u-2"', 1),
        b"".join(lines[:-1]),
        b"".join([lines[1], lines[0], *lines[2:]]),
        entries[:-1],
    ):
        (folder / "entries.jsonl").write_bytes(altered)
        with pytest.raises(Refused):
            proofs.verify_export(folder, TENANT, keys)
    (folder / "entries.jsonl").write_bytes(entries)
    signed = checkpoints.splitlines(keepends=True)
    for altered in (
        signed[0] + signed[2],
        checkpoints.replace(b'"size', b'"Size', 1),
        checkpoints.replace(b"7", b"8", 1),
    ):
        (folder / "checkpoints.jsonl").write_bytes(altered)
        with pytest.raises((Refused, KeyError)):
            proofs.verify_export(folder, TENANT, keys)
    with pytest.raises(Refused):
        proofs.verify_export(await site.export(tmp_path / "again"), "other", keys)


@pytest.mark.parametrize("tenant", ["acme", "a.b_c~d", ".hidden", "é b/c"])
async def test_checkpoints_of_any_tenant_are_found(tmp_path: Path, tenant: str) -> None:
    store, signer = FolderCheckpointStore(tmp_path), MemorySigner()
    (made,) = checkpoints_of(a_chain(3, tenant), [3], signer, tenant)
    await store.put(tenant, 3, made.content)
    assert (tmp_path / proofs.checkpoint_name(tenant, 3)).read_bytes() == made.content


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 30])
async def test_an_export_of_any_size_has_the_signed_root(tmp_path: Path, size: int) -> None:
    chain, signer, store = a_chain(size), MemorySigner(), FolderCheckpointStore(tmp_path / "checkpoints")
    for made in checkpoints_of(chain, range(1, size + 1), signer):
        await store.put(TENANT, made.checkpoint.size, made.content)
    await export_audit(TENANT, tmp_path / "x", ListedEntries(chain), MemoryUnflushedEntries(), store, [signer.public])
    keys = proofs.public_keys((tmp_path / "x" / "keys.json").read_bytes())
    assert len(proofs.verify_export(tmp_path / "x", TENANT, keys)[1]) == size


def test_a_receipt_of_an_erasure_verifies(tmp_path: Path) -> None:
    signer = MemorySigner()
    keys = proofs.public_keys(json.dumps({"keys": [signer.public.jwk]}).encode())
    text = a_receipt(signer)
    assert proofs.verify_erasure(text + "\n", keys)["document"]["tenant"] == TENANT
    header, payload, signature = text.split(".")
    for altered in (
        f"{header}.{payload[:-1]}.{signature}",
        f"{header}.{payload}.{other(signature)}",
        f"{payload}.{payload}.{signature}",
    ):
        with pytest.raises(Refused):
            proofs.verify_erasure(altered, keys)
    with pytest.raises(Refused):
        proofs.verify_erasure(text, proofs.public_keys(json.dumps({"keys": [MemorySigner(2).public.jwk]}).encode()))


@pytest.mark.parametrize("size", [*range(1, 18), 255, 256, 257, 600])
def test_every_inclusion_path_leads_to_the_root(size: int) -> None:
    leaves = [proofs.leaf(str(number).encode()) for number in range(size)]
    tiles = grown(0, {}, leaves)
    for index in {0, 1, size // 2, size - 2, size - 1} & set(range(size)):
        path = inclusion_proof(index, size, tiles)
        assert proofs.root_by_path(leaves[index], index, size, path) == proofs.root(leaves)
        with pytest.raises(Refused):
            proofs.root_by_path(leaves[index], size, size, path)


@pytest.mark.parametrize(
    "value",
    [{}, {"b": 1, "a": [True, None, -3, "é\u2028\U0001f600"]}, {"": '\x00\x08\t\n\x0b\x0c\r\x1f\x7f"\\/'}, {"é": {}, "z": {}, "\uffff": 1, "\U00010000": 2}],
)  # fmt: skip
def test_both_write_the_same_canonical_json(value: dict[str, Any]) -> None:
    assert forms.canonical(value) == product_canonical(value)

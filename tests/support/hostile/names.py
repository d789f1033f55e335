"""Hostile names and metadata: what a portal may say of a file, and what must become of it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from tests.support.hostile.cases import PDF, THUMBNAIL, Case, page, pdf, refused

MALFORMED = refused("body_malformed")
INVALID = refused("metadata_invalid")

#: Names as they stand in the form's header, and how each ends.
FILE_NAMES: dict[bytes, str] = {
    b"../../../../etc/passwd": THUMBNAIL,
    b"..\\\\..\\\\windows\\\\system32\\\\x.dll": THUMBNAIL,
    b"/absolute/path.pdf": THUMBNAIL,
    b"C:\\\\temp\\\\x.pdf": THUMBNAIL,
    b"..": THUMBNAIL,
    b".": THUMBNAIL,
    b"": THUMBNAIL,
    b" ": THUMBNAIL,
    b"x.pdf\x00.exe": MALFORMED,
    b"x\x07\x1b[31m.pdf": MALFORMED,
    b"x\r\nX-Evil: 1.pdf": THUMBNAIL,
    b"x\x7f.pdf": MALFORMED,
    "facture\u202efdp.exe".encode(): THUMBNAIL,
    "\u2066\u2067\u2068\u2069".encode(): THUMBNAIL,
    "a\u200b\u200d\ufeffb.pdf".encode(): THUMBNAIL,
    "\u0301\u0301\u0301.pdf".encode(): THUMBNAIL,
    ("a" + "\u0301" * 1000 + ".pdf").encode(): THUMBNAIL,
    "\ufdfa".encode() * 300 + b".pdf": THUMBNAIL,
    b"\xff\xfe\xfd.pdf": THUMBNAIL,
    b"\xed\xa0\x80.pdf": THUMBNAIL,
    b"\xc0\xae\xc0\xae/x.pdf": THUMBNAIL,
    "\U0001f4a9.pdf".encode(): THUMBNAIL,
    "\U000e0041\U000e0042.pdf".encode(): THUMBNAIL,
    "\ue000\ufff9\ufffa.pdf".encode(): THUMBNAIL,
    b"x" * 2_000 + b".pdf": THUMBNAIL,
    b"x" * 10_240 + b".pdf": MALFORMED,
    b"x" * 40_000 + b".pdf": MALFORMED,
    b"CON.pdf": THUMBNAIL,
    b"<script>alert(1)</script>.pdf": THUMBNAIL,
    b"'; DROP TABLE documents; --.pdf": THUMBNAIL,
    b"%00%2e%2e%2f.pdf": THUMBNAIL,
    b"{{7*7}}${7*7}.pdf": THUMBNAIL,
    b"=cmd|'/c calc'!A1.pdf": THUMBNAIL,
    b"a;b=c;filename=d.pdf": THUMBNAIL,
    b"x.pdf\"; filename*=utf-8''..%2F..%2Fetc%2Fcron.d%2Fx; a=\"": THUMBNAIL,
    b"x.pdf\"; filename*=utf-8''x%00%0D%0ASet-Cookie%3A%20a%3Db.pdf; a=\"": THUMBNAIL,
    b"x.pdf\"; filename*=utf-8''facture%E2%80%AEfdp.exe; a=\"": THUMBNAIL,
    b"x.pdf\"; filename*=utf-8''%ED%A0%80%ED%B0%80.pdf; a=\"": THUMBNAIL,
    b"x.pdf\"; filename*=utf-7''+AC8-.pdf; a=\"": THUMBNAIL,
    b'x.pdf"; ' + b"".join(b"filename*%d*=%%41; " % n for n in range(99)) + b'a="': THUMBNAIL,
    b"x.pdf\"; filename*=utf-8''" + b"%41" * 1_200 + b'; a="': THUMBNAIL,
    b'x.pdf"; filename*=' + b"'" * 3_900 + b'; a="': THUMBNAIL,
    b"=?utf-8?Q?facture=E2=80=AEfdp.exe?=": THUMBNAIL,
    b"=?utf-8?B?Li4vLi4vZXRjL3Bhc3N3ZA==?=": THUMBNAIL,
    b"=?unicode_escape?Q?=5Cu202e?=.pdf": THUMBNAIL,
    b"=?utf-8?Q?" * 400: THUMBNAIL,
    ("\u0645" + "\u200c" * 500 + "\u0645.pdf").encode(): THUMBNAIL,
}


def _deep(depth: int) -> Any:
    value: Any = 1
    for _ in range(depth):
        value = {"a": value}
    return value


#: Laid over the metadata, and how each ends.
METADATA: dict[str, tuple[dict[str, Any], str]] = {
    "name with a zero": ({"file_name": "x\x00.pdf"}, INVALID),
    "name that turns the reading direction": ({"file_name": "x\u202efdp.exe"}, THUMBNAIL),
    "name of half a character": ({"file_name": "\ud800x.pdf"}, INVALID),
    "name of 10 KB": ({"file_name": "x" * 10_240}, INVALID),
    "name that climbs": ({"file_name": "../../x.pdf"}, THUMBNAIL),
    "value with a zero": ({"metadata": {"a": "x\x00y"}}, INVALID),
    "key with a zero": ({"metadata": {"a\x00b": "x"}}, INVALID),
    "value of half a character": ({"metadata": {"a": "\udfff"}}, INVALID),
    "value that turns the reading direction": ({"metadata": {"a": "\u202e\u2066"}}, INVALID),
    "key that turns the reading direction": ({"metadata": {"a\u061c": "x"}}, INVALID),
    "tag that turns the reading direction": ({"tags": ["invoice\u202efdp"]}, INVALID),
    "depositor that turns the reading direction": (
        {"depositor": {"email": "a@b.fr", "name": "\u2067Ann", "language": "fr"}},
        INVALID,
    ),
    "labels of joined letters": (
        {"tags": ["\u0645\u06cc\u200c\u062e\u0648\u0627\u0647\u0645"], "metadata": {"a": "\U0001f468\u200d\U0001f33e"}},
        THUMBNAIL,
    ),
    "values 100 deep": ({"metadata": _deep(100)}, INVALID),
    "values 900 deep": ({"metadata": _deep(900)}, INVALID),
    "4,000 keys": ({"metadata": {f"k{n}": n for n in range(4_000)}}, INVALID),
    "a number too large for a float": ({"metadata": {"a": 10**400}}, INVALID),
    "a key that is an operator": ({"metadata": {"$where": "sleep(9999)"}}, THUMBNAIL),
    "a key of a prototype": ({"metadata": {"__proto__": {"admin": True}}}, INVALID),
    "a tag with a zero": ({"tags": ["x\x00"]}, INVALID),
    "10,000 tags": ({"tags": ["x"] * 10_000}, INVALID),
    "a tag of 60 KB": ({"tags": ["x" * 60_000]}, INVALID),
    "an address with a line break": ({"depositor": {"email": "a@b.fr\r\nBcc: x@y.z", "language": "fr"}}, INVALID),
    "an address with a zero": ({"depositor": {"email": "a\x00@b.fr", "language": "fr"}}, INVALID),
    "two addresses": ({"depositor": {"email": "a@b.fr,x@y.z", "language": "fr"}}, INVALID),
    "an address of 10 KB": ({"depositor": {"email": "a" * 10_240 + "@b.fr", "language": "fr"}}, INVALID),
    "an address that turns the reading direction": (
        {"depositor": {"email": "a\u202e@b.fr", "language": "fr"}},
        INVALID,
    ),
    "an address of two dots": ({"depositor": {"email": "a..b@b.fr", "language": "fr"}}, INVALID),
    "an address at a number": ({"depositor": {"email": "a@127.0.0.1", "language": "fr"}}, INVALID),
    "an address of 250 labels": ({"depositor": {"email": "a@" + "b." * 120 + "fr", "language": "fr"}}, THUMBNAIL),
    "an address of marks": ({"depositor": {"email": "a@" + "\u0301" * 240 + ".fr", "language": "fr"}}, INVALID),
    "a language of noise": ({"depositor": {"email": "a@b.fr", "language": "\u202e"}}, INVALID),
    "a type that climbs": ({"type": "../CNI"}, INVALID),
    "a type with a zero": ({"type": "CNI\x00"}, INVALID),
    "a dossier that is no id": ({"dossier_id": "' OR 1=1 --"}, INVALID),
    "a digest of noise": ({"sha256": "\u0660" * 64}, INVALID),
    "70 KB": ({"metadata": {"a": "x" * 70_000}}, MALFORMED),
}


def cases() -> Iterator[Case]:
    paper = pdf(page())
    for name, end in FILE_NAMES.items():
        yield Case(f"file name {name[:60]!r} of {len(name)}", lambda: paper, PDF, end, file_name=name)
    for what, (changes, end) in METADATA.items():
        yield Case(f"metadata: {what}", lambda: paper, PDF, end, metadata=changes)

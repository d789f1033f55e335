"""A port has at most five members: what a use case needs of the world shows in its signature."""

from __future__ import annotations

import ast
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parents[2]
PACKAGES: Final = (
    "domain", "schemas", "crypto", "storage", "ged", "notifications", "rendering", "antivirus", "processors", "streams",
    "identity", "ingest_api", "console", "operations", "runtime", "deploy", "benchmarks",
)  # fmt: skip
MOST: Final = 5

#: Made of small ports and of nothing else. Reasons why the whole is asked for at all:
WHOLES: Final = {
    "Work": "delivery hands a whole transaction to commits, each of which asks for its part",
    "OperatorWork": "an operator's act marks the letter, the inbox and the document in one transaction, or nothing",
    "ErasureRequestWork": "an erasure looks at all that keeps a document and ends all that tells of it, at once",
    "RowWork": "a row that is made again comes with its dossier, its timeline and its key, or not at all",
    "RetentionWork": "retention is a matter of the document, its type and its holds, and each change is audited",
    "DetailsWork": "all that an operator may know of a document is read at one moment, and audited as one read",
    "GedRepository": "one copy's life: its folder is made, it is put there, found, compared and removed",
    "Cipher": "content is read whole and in parts",
    "AuditTrees": "a checkpoint grows the tree that it signs",
    "OutboxReader": "rows are published over the session that holds the lead, so that who lost it can't write",
}
#: Larger for a reason of their own.
LARGER: Final = {
    "OutboxRow": "a row's columns, read and never called",
    "QueryFilter": "what a list is narrowed to, read and never called",
}


@dataclass(frozen=True)
class Port:
    name: str
    place: str
    bases: tuple[str, ...]
    members: frozenset[str]


def _name(base: ast.expr) -> str:
    return ast.unparse(base.value if isinstance(base, ast.Subscript) else base).rpartition(".")[2]


def _ports() -> Iterator[Port]:
    for package in PACKAGES:
        for path in sorted((ROOT / package).rglob("*.py")):
            text = path.read_text()
            if "Protocol" not in text or "from typing import" not in text:
                continue
            tree = ast.parse(text)
            ours = any(
                isinstance(node, ast.ImportFrom)
                and node.module == "typing"
                and any(a.name == "Protocol" for a in node.names)
                for node in ast.walk(tree)
            )
            for node in ast.walk(tree):
                if ours and isinstance(node, ast.ClassDef) and "Protocol" in {_name(base) for base in node.bases}:
                    bases = tuple(name for base in node.bases if (name := _name(base)) != "Protocol")
                    members = frozenset(
                        one.target.id
                        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
                        else one.name
                        for one in node.body
                        if isinstance(one, ast.FunctionDef | ast.AsyncFunctionDef | ast.AnnAssign)
                    )
                    yield Port(node.name, f"{path.relative_to(ROOT)}:{node.lineno}", bases, members)


def _all_members(port: Port, by_name: Mapping[str, Port]) -> frozenset[str]:
    return port.members.union(*(_all_members(by_name[base], by_name) for base in port.bases if base in by_name))


def test_ports_are_small() -> None:
    ports = list(_ports())
    by_name = {port.name: port for port in ports}
    assert len(ports) > 100
    large = {port.name: port for port in ports if len(_all_members(port, by_name)) > MOST}
    assert {name: port.place for name, port in large.items() if name not in WHOLES | LARGER} == {}
    assert set(large) == WHOLES.keys() | LARGER.keys(), "an exception that is none any more"
    assert [port.place for name, port in large.items() if name in WHOLES and port.members] == []

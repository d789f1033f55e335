"""The audit chain: canonical entries, and every way of breaking it is seen."""

from __future__ import annotations

import hashlib
import json
from dataclasses import fields, replace
from datetime import timedelta, timezone
from uuid import UUID, uuid4

import pytest

from domain.audit_chain import (
    ChainBreak,
    ChainCheck,
    ChainFault,
    ChainHead,
    entry_of,
    genesis,
    hash_of,
    head_after,
    verify,
)
from tests.support.audit_lines import a_chain, a_line
from tests.support.builders import NOW


def test_an_entry_is_canonical_json_and_its_hash_covers_it() -> None:
    line = a_line(event_id=UUID(int=1), correlation_id=UUID(int=2), entity_id="é", details='{"a":1}')
    entry = entry_of(line, genesis("acme"))
    said = json.loads(entry.body)
    assert entry.body == json.dumps(said, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    assert entry.hash == hashlib.sha256(entry.body).hexdigest() == hash_of(entry.body)
    assert (said["seq"], said["prev"], said["tenant"]) == (1, genesis("acme").hash, "acme")
    assert said["at"] == "2026-03-01T12:00:00.000000+00:00"
    assert (said["details"], said["entity_id"], said["ip_sealed"]) == ('{"a":1}', "é", "sealed:ip")
    assert entry.fields() == said


def test_every_field_of_a_line_is_in_its_entry() -> None:
    line = a_line()
    base = entry_of(line, genesis("acme")).hash
    changes = {
        "event_id": uuid4(),
        "sequence": 4,
        "occurred_at": NOW + timedelta(microseconds=1),
        "correlation_id": uuid4(),
        "actor": "u-2",
        "entity_type": "dossier",
        "entity_id": "x",
        "action": "document.read",
        "details": "{}",
        "old_state": None,
        "new_state": None,
        "ip_sealed": None,
        "user_agent_sealed": "sealed:agent",
    }
    assert set(changes) == {field.name for field in fields(line)} - {"tenant"}
    hashes = {entry_of(replace(line, **{name: value}), genesis("acme")).hash for name, value in changes.items()}
    assert len(hashes | {base}) == len(changes) + 1


def test_the_same_line_after_the_same_head_is_the_same_bytes() -> None:
    line = a_line()
    elsewhere = replace(line, occurred_at=line.occurred_at.astimezone(timezone(timedelta(hours=2))))
    assert entry_of(line, genesis("acme")) == entry_of(elsewhere, genesis("acme"))


def test_chains_of_two_tenants_start_differently() -> None:
    assert genesis("a").hash != genesis("b").hash
    with pytest.raises(ValueError, match="own tenant"):
        entry_of(a_line("a"), genesis("b"))


def test_a_whole_chain_verifies() -> None:
    chain = a_chain(5)
    assert verify("acme", chain) is None
    assert verify("acme", []) is None
    assert head_after(chain[-1]) == ChainHead("acme", 5, chain[-1].hash)


def test_a_missing_repeated_or_moved_entry_is_seen() -> None:
    chain = a_chain(4)
    assert verify("acme", chain[1:]) == ChainFault(1, ChainBreak.MISSING)
    assert verify("acme", [chain[0], chain[2], chain[3]]) == ChainFault(2, ChainBreak.MISSING)
    assert verify("acme", [chain[0], chain[0]]) == ChainFault(2, ChainBreak.MISSING)
    assert verify("acme", [chain[0], chain[2], chain[1]]) == ChainFault(2, ChainBreak.MISSING)


def test_altered_bytes_are_seen() -> None:
    chain = a_chain(3)
    altered = replace(chain[1], body=chain[1].body.replace(b"VERIFIED", b"REJECTED"))
    assert verify("acme", [chain[0], altered, chain[2]]) == ChainFault(2, ChainBreak.ALTERED)


@pytest.mark.parametrize("body", [b"", b"not json", b"[]", b"\xff"])
def test_bytes_that_are_no_entry_are_seen_even_with_their_own_hash(body: bytes) -> None:
    chain = a_chain(1)
    assert verify("acme", [replace(chain[0], body=body, hash=hash_of(body))]) == ChainFault(1, ChainBreak.ALTERED)


def test_a_rewritten_entry_no_longer_links() -> None:
    chain = a_chain(3)
    rewritten = entry_of(a_line(actor="someone else"), head_after(chain[0]))
    assert verify("acme", [chain[0], rewritten, chain[2]]) == ChainFault(3, ChainBreak.UNLINKED)


def test_an_entry_filed_under_another_event_or_tenant_is_seen() -> None:
    chain = a_chain(2)
    assert verify("acme", [replace(chain[0], event_id=uuid4())]) == ChainFault(1, ChainBreak.MISLABELLED)
    assert verify("acme", [replace(chain[0], tenant="other")]) == ChainFault(1, ChainBreak.MISLABELLED)
    assert verify("other", chain) == ChainFault(1, ChainBreak.UNLINKED)


def test_another_tenants_whole_chain_does_not_pass() -> None:
    head = ChainHead("other", 0, genesis("acme").hash)
    check = ChainCheck(head)
    assert check.add(a_chain(1)[0]) == ChainFault(1, ChainBreak.MISLABELLED)


def test_fields_that_say_something_else_are_an_alteration() -> None:
    chain = a_chain(2)
    check = ChainCheck(genesis("acme"))
    assert check.add(chain[0], faithful=False) == ChainFault(1, ChainBreak.ALTERED)
    assert check.add(chain[0]) == ChainFault(1, ChainBreak.ALTERED), "a broken chain stays broken"
    assert check.head == genesis("acme")


def test_entries_do_not_show_their_text() -> None:
    assert "u-1" not in repr(a_chain(1)[0])

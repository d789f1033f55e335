"""Duties, bound operators and unknown tenants on real API processes and real commands, over one database."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx
import pytest

from crypto.local_keyring import LocalKeyring
from domain.audit_chain import SYSTEM_TENANT
from domain.documents import Role
from identity.tokens import issue_token
from tests.support.api_processes import PDF, ROOT, TENANT, ApiProcesses

OTHER = "races-other"


class Site:
    """An API process with duties separated, and commands on the same settings."""

    def __init__(self, api: ApiProcesses, stack: Mapping[str, str]) -> None:
        self.api, self._stack = api, stack

    def token(self, subject: str, *roles: Role, tenant: str = TENANT, tenants: list[str] | None = None) -> str:
        settings = self.api.settings
        assert settings.jwt_private_key_file is not None
        return issue_token(
            settings.jwt_private_key_file, settings.jwt_issuer, settings.jwt_audience, subject, tenant, roles, 3600,
            tenants=tenants,
        )  # fmt: skip

    async def ask(self, method: str, path: str, token: str, body: Any = None) -> tuple[int, Any]:
        headers = {"Authorization": f"Bearer {token}"}
        answer: httpx.Response = await self.api.clients[0].request(method, path, json=body, headers=headers)
        return answer.status_code, answer.json()

    async def problem(self, method: str, path: str, token: str, body: Any = None) -> tuple[int, str]:
        status, said = await self.ask(method, path, token, body)
        assert said["advice"], said
        return status, said["code"]

    async def dpj(
        self, *words: str, token: str | None = None, signs: bool = True, **changes: str
    ) -> tuple[int, dict[str, Any]]:
        """Exit status and JSON answer of a command. ``token``: its DPJ_TOKEN. ``signs``: the site has a key to sign tokens with.
        ``changes`` are settings by field name."""
        named = {f"DPJ_{name.upper()}": value for name, value in {**self.api.changes, **changes}.items()}
        clean = {key: value for key, value in os.environ.items() if not key.startswith("DPJ_")}
        given = {
            **clean,
            **self._stack,
            **named,
            "DPJ_SETTINGS": "/nonexistent",
            **({"DPJ_TOKEN": token} if token else {}),
        }
        if not signs:
            del given["DPJ_JWT_PRIVATE_KEY_FILE"]
        command = [sys.executable, "-m", "runtime.cli.main", *words, "--json"]
        done = await asyncio.to_thread(
            subprocess.run, command, cwd=ROOT, env=given, capture_output=True, text=True, timeout=120, check=False
        )
        assert done.stdout, done.stderr[-1500:]
        return done.returncode, json.loads(done.stdout.splitlines()[0])

    async def document(self) -> str:
        answer = await self.api.post(PDF, await self.api.dossier())
        assert answer.status_code == 201, answer.text
        return str(answer.json()["id"])

    async def audited(self, *, tenant: str = TENANT) -> list[str]:
        """Actions in the outbox's audit lines, as far as they can be read without a schema: their topic's bytes hold the words."""
        rows = await self.api.sql("SELECT body FROM outbox WHERE topic = 'dpj.audit.recorded' ORDER BY id")
        return [row[0].decode("utf-8", "replace") for row in rows if tenant.encode() in row[0]]

    async def tenants_on_record(self) -> set[str]:
        found = await self.api.sql(
            "SELECT tenant FROM audit_heads UNION SELECT tenant FROM dossiers UNION SELECT tenant FROM tenants"
        )
        return {row[0] for row in found}


@pytest.fixture
async def site(stack: Mapping[str, str], database_dsn: str, tmp_path: Path) -> AsyncIterator[Site]:
    keyring = tmp_path / "keyring.json"
    LocalKeyring.create(keyring)
    changes = {"separation_of_duties": "true", "erasure_second_person": "true"}
    changes |= {"keyring": "local", "keyring_file": str(keyring)}
    async with ApiProcesses(stack, database_dsn, **changes).up() as api:
        await api.make_known(OTHER)
        yield Site(api, stack)


async def test_who_deposited_does_not_decide(site: Site) -> None:
    document = await site.document()
    both = (Role.PORTAL, Role.VALIDATOR)
    for verb, body in (("validate", {}), ("reject", {"reason": "R"})):
        path = f"/documents/{document}/{verb}"
        # Many at once, from who deposited: none gets through while another decides.
        asked = [site.problem("POST", path, site.token("tester", *both), body) for _ in range(5)]
        assert set(await asyncio.gather(*asked)) == {(403, "depositor_may_not_decide")}
    assert (await site.ask("POST", f"/documents/{document}/validate", site.token("v", *both), {}))[0] == 202
    words = ("types", "set", "DIVERS", "--separation-of-duties", "no", "--reason", "INC-7")
    change = {"separation_of_duties": {"before": None, "after": False}}
    status, said = await site.dpj(*words)
    assert (status, said["applied"], said["changes"], said["separation_of_duties"]) == (0, False, change, None)
    assert await site.problem("POST", path, site.token("tester", *both), body) == (403, "depositor_may_not_decide")
    status, said = await site.dpj(*words, "--apply")
    assert (status, said["applied"], said["changes"], said["separation_of_duties"]) == (0, True, change, False)
    assert (await site.dpj(*words, "--apply"))[1]["changes"] == {}
    (line,) = [line for line in await site.audited(tenant="system") if "document_type.changed" in line]
    assert "INC-7" in line
    status, said = await site.dpj("types", "list")
    assert [one["separation_of_duties"] for one in said["types"] if one["type"] == "DIVERS"] == [False]
    status, said = await site.dpj("types", "set", "NOBODY", "--max-mb", "3", "--reason", "INC-7", "--apply")
    assert (status, said["error"]["code"]) == (1, "type_unknown")
    status, _ = await site.ask("POST", f"/documents/{await site.document()}/validate", site.token("tester", *both), {})
    assert status == 202


async def test_an_erasure_takes_two(site: Site) -> None:
    document, body = await site.document(), {"reason": "T-1", "legal_basis": "COURT_ORDER"}
    anne, bob = (site.token(name, Role.OPERATOR) for name in ("anne", "bob"))
    me = f"/documents/{document}"
    status, asked = await site.ask("POST", f"{me}/erase", anne, body)
    assert (status, asked["status"]) == (202, "STORED")
    order = {"order_id": asked["order"]["id"]}
    for _ in range(2):
        assert await site.problem("POST", f"{me}/erase/confirm", anne, order) == (403, "second_person_needed")
    assert (await site.ask("GET", f"{me}/erasure-order", bob))[1] == asked["order"]
    racing = await asyncio.gather(*(site.ask("POST", f"{me}/erase/confirm", bob, order) for _ in range(5)))
    assert {(status, said["status"]) for status, said in racing} == {(202, "ERASING")}
    rows = await site.api.sql("SELECT demandeur FROM effacements")
    assert [row[0] for row in rows] == [asked["order"]["ordered_by"]]
    assert await site.api.sql("SELECT 1 FROM ordres") == []
    lines = await site.audited()
    for action in ("document.erasure.ordered", "document.erasure.confirmed"):
        assert sum(action in line for line in lines) == 1


async def test_an_erasure_takes_two_at_the_terminal(site: Site) -> None:
    document, here = await site.document(), {"api_port": str(site.api.clients[0].base_url.port)}
    anne, bob = (site.token(name, Role.OPERATOR) for name in ("anne", "bob"))
    asking = ("erasure", "request", document, "--reason", "T-1", "--legal-basis", "COURT_ORDER")
    status, asked = await site.dpj(*asking, token=anne, **here)
    assert (status, asked["status"]) == (0, "STORED")
    status, read = await site.dpj("erasure", "order", document, token=bob, **here)
    assert (status, read) == (0, {**asked["order"], "http_status": 200})
    confirming = ("erasure", "confirm", document, "--order", read["id"])
    status, said = await site.dpj(*confirming, token=anne, **here)
    assert (status, said["error"]["code"]) == (1, "second_person_needed")
    status, said = await site.dpj(*confirming, token=bob, **here)
    assert (status, said["status"]) == (0, "ERASING")


async def test_an_operator_sees_and_acts_on_his_tenants_alone(site: Site) -> None:
    document, absent = await site.document(), str(uuid4())
    stranger = site.token("anne", Role.OPERATOR, Role.AUDITOR, tenants=[OTHER, "nobody"])
    for one in (document, absent):  # the same answer for what is there and what is not
        for path in ("", "/events", "/retention", "/erasure-receipt", "/erasure-order"):
            assert await site.problem("GET", f"/documents/{one}{path}", stranger) == (404, "document_not_found")
        body = {"reason": "T", "legal_basis": "COURT_ORDER"}
        assert await site.problem("POST", f"/documents/{one}/erase", stranger, body) == (404, "document_not_found")
    assert (await site.ask("GET", "/documents", stranger))[1]["items"] == []
    assert await site.problem("POST", "/revocations", stranger, {"token_id": "t"}) == (403, "operator_bound")
    bound = site.token("anne", Role.OPERATOR, tenants=[TENANT, OTHER])
    assert (await site.ask("GET", f"/documents/{document}", bound))[0] == 200
    assert [one["id"] for one in (await site.ask("GET", "/documents", bound))[1]["items"]] == [document]


async def test_a_tenant_that_nobody_created_leaves_nothing(site: Site) -> None:
    before, lines = await site.tenants_on_record(), len(await site.audited(tenant=""))
    token = site.token("u", *Role, tenant="racse")
    one = uuid4()
    for method, path, body in (
        ("GET", "/documents", None),
        ("GET", f"/documents/{one}", None),
        ("GET", f"/documents/{one}/receipt", None),
        ("POST", "/document-search", {"file_name": "x"}),
        ("POST", "/dossiers", {"number": "D", "client_id": "c", "journey_type": "LOAN"}),
        ("GET", "/dossiers", None),
        ("GET", "/document-types", None),
        ("POST", f"/documents/{one}/validate", {}),
        ("POST", f"/documents/{one}/links", {"purpose": "p"}),
        ("POST", f"/documents/{one}/erase", {"reason": "T"}),
        ("POST", "/revocations", {"token_id": "t"}),
    ):
        assert await site.problem(method, path, token, body) == (403, "tenant_unknown"), path
    for name in ("system", "System"):
        token = site.token("u", *Role, tenant=name)
        assert await site.problem("GET", "/documents", token) == (401, "unauthenticated")
    # The terminal's ways to a tenant's chain.
    for words in (
        ("personal", "find", "--tenant", "racse"),
        ("export", "anonymised", "--tenant", "racse", "--to", "/nonexistent/x", "--reason", "T"),
        ("audit", "show", str(one), "--tenant", "racse", "--reason", "T"),
    ):
        status, said = await site.dpj(*words)
        assert (status, said["error"]["code"]) == (1, "tenant_unknown"), words
    assert (await site.tenants_on_record(), len(await site.audited(tenant=""))) == (before, lines)
    # Created, it is taken at once, without a restart.
    status, _ = await site.dpj("keys", "create", "--tenant", "racse")
    assert status == 0
    assert (await site.ask("GET", "/documents", site.token("u", Role.PORTAL, tenant="racse")))[0] == 200
    for name in (SYSTEM_TENANT, "SYSTEM"):
        status, said = await site.dpj("keys", "create", "--tenant", name)
        assert (status, said["error"]["code"]) == (1, "tenant_invalid")


async def test_the_command_line_s_operator_is_bound_by_setting(site: Site) -> None:
    bound = {"operator_tenants": json.dumps({"*": [OTHER]})}
    for words in (
        ("keys", "rotate", "--tenant"),
        ("keys", "retire", "--tenant"),
        ("keys", "create", "--tenant"),
        ("personal", "find", "--tenant"),
        ("export", "anonymised", "--to", "/nonexistent/x", "--reason", "T", "--tenant"),
        ("audit", "verify", "--tenant"),
        ("doc", "list", "--tenant"),
    ):
        # The same answer for what is there and what is not.
        there, absent = await asyncio.gather(*(site.dpj(*words, name, **bound) for name in (TENANT, "nobody")))
        assert there == absent, words
        assert (there[0], there[1]["error"]["code"]) == (1, "tenant_not_yours"), words
    for words in (
        ("purge",),
        ("tokens", "revoke", "--id", "t"),
        ("reconcile",),
        ("personal", "status"),
        ("audit", "verify"),
        ("dlq", "list"),
        ("types", "list"),
    ):
        status, said = await site.dpj(*words, **bound)
        assert (status, said["error"]["code"]) == (1, "operator_bound"), words
    status, said = await site.dpj("keys", "create", "--tenant", OTHER, **bound)
    assert (status, said["keys"][0]["tenant"]) == (0, OTHER)
    status, said = await site.dpj("keys", "status", **bound)
    assert (status, {one["tenant"] for one in said["keys"]}) == (0, {OTHER})
    status, said = await site.dpj("keys", "rotate", "--all", **bound)
    assert [one["tenant"] for one in said["keys"]] == [OTHER]


async def test_retiring_a_key_takes_two(site: Site) -> None:
    two = {"key_retirement_second_person": "true"}
    anne, bob, portal = (
        site.token(name, role) for name, role in (("anne", Role.OPERATOR), ("bob", Role.OPERATOR), ("p", Role.PORTAL))
    )
    retire = ("keys", "retire", "--tenant", TENANT, "--apply")
    assert (await site.dpj("keys", "rotate", "--tenant", TENANT))[0] == 0
    status, said = await site.dpj(*retire, token=portal, **two)
    assert (status, said["error"]["code"]) == (1, "forbidden")
    status, ordered = await site.dpj(*retire, token=anne, **two)
    assert (status, ordered["apply"], ordered["below_version"]) == (0, False, 2)
    confirming = (*retire, "--order", ordered["order"])
    status, said = await site.dpj(*confirming, token=anne, **two)
    assert (status, said["error"]["code"]) == (1, "second_person_needed")
    stranger = site.token("carl", Role.OPERATOR, tenants=[OTHER])
    status, said = await site.dpj(*confirming, token=stranger, **two)
    assert (status, said["error"]["code"]) == (1, "tenant_not_yours")
    status, said = await site.dpj(*retire[:-1], "--apply", "--order", str(uuid4()), token=bob, **two)
    assert (status, said["error"]["code"]) == (1, "order_not_found")
    # Where nobody signs tokens here, a login is nobody's proof.
    status, said = await site.dpj(*confirming, **two, signs=False)
    assert (status, said["error"]["code"]) == (1, "token_needed")
    status, said = await site.dpj(*confirming, token=bob, **two)
    assert (status, said["min_decryption_version"], said["apply"]) == (0, 2, True)
    lines = await site.audited()
    for action in ("key.retirement.ordered", "key.retirement.confirmed", "key.retired"):
        assert sum(action in line for line in lines) == 1

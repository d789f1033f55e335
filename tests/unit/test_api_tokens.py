"""Tokens: what is accepted, and every way of being refused."""

import asyncio
import json
import os
import time
from base64 import urlsafe_b64encode
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import jwt
import pytest
import structlog
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from domain.documents import Role
from domain.errors import IdentityUnavailable
from domain.refusals import Unauthenticated
from identity.jwks import KNOWN, Jwks, jwks_source, parse_jwks
from identity.tokens import ClaimRules, Identity, TokenAuthenticator, issue_token
from ingest_api.rate_limits import QuotaName, RateLimits
from runtime.config.settings import JWT_ALGORITHMS
from tests.support.api import a_client, an_app
from tests.support.fakes_intake import IntakeBench
from tests.support.jwks import public_jwks

ISSUER, AUDIENCE = "https://auth.test", "dpj"
KEYS = {
    "RS256": rsa.generate_private_key(public_exponent=65537, key_size=2048),
    "ES256": ec.generate_private_key(ec.SECP256R1()),
    "EdDSA": ed25519.Ed25519PrivateKey.generate(),
}


def pem(folder: Path, key: Any) -> Path:
    path = folder / "key.pem"
    path.write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return path


class Serving:
    """A fetch that gives each of ``sets`` in turn, the last one for ever; exceptions are raised."""

    def __init__(self, *sets: Any) -> None:
        self._left = list(sets)
        self.calls = 0

    async def __call__(self) -> bytes:
        self.calls += 1
        now = self._left.pop(0) if len(self._left) > 1 else self._left[0]
        if isinstance(now, Exception):
            raise now
        return json.dumps(now).encode()


def authenticator(jwks: Any) -> TokenAuthenticator:
    return TokenAuthenticator(Jwks(Serving(jwks)), issuer=ISSUER, audience=AUDIENCE)


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    base = {
        "iss": ISSUER,
        "aud": AUDIENCE,
        "sub": "u1",
        "tenant": "acme",
        "roles": ["portal"],
        "iat": now,
        "exp": now + 60,
    }
    return {name: value for name, value in {**base, **changes}.items() if value is not None}


@pytest.fixture
def key_file(tmp_path: Path) -> Path:
    return pem(tmp_path, KEYS["ES256"])


def signed(key_file: Path, payload: dict[str, Any], **header: Any) -> str:
    kid = public_jwks(key_file)["keys"][0]["kid"]
    return jwt.encode(payload, KEYS["ES256"], algorithm="ES256", headers={"kid": kid, **header})


@pytest.mark.parametrize("algorithm", KEYS)
async def test_issued_tokens_of_every_key_type_are_accepted(algorithm: str, tmp_path: Path) -> None:
    path = pem(tmp_path, KEYS[algorithm])
    token = issue_token(path, ISSUER, AUDIENCE, "u1", "acme", [Role.PORTAL, Role.AUDITOR], 60)
    assert jwt.get_unverified_header(token)["alg"] == algorithm
    identity = await authenticator(public_jwks(path)).authenticate(token)
    assert replace(identity, marks=()) == Identity("u1", "acme", frozenset({Role.PORTAL, Role.AUDITOR}))
    assert "u1" not in repr(identity)


def test_thumbprint_is_that_of_rfc_8037(tmp_path: Path) -> None:
    """RFC 8037, appendix A.3."""
    from identity.tokens import thumbprint

    public = {"kty": "OKP", "crv": "Ed25519", "x": "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo", "use": "sig"}
    assert thumbprint(public) == "kPrK_qmxVWaYVA9wwBF6Iuo3vVzz7TxHCTwXBygrS4k"


def test_other_keys_issue_nothing(tmp_path: Path) -> None:
    path = pem(tmp_path, ec.generate_private_key(ec.SECP384R1()))
    with pytest.raises(ValueError, match="Ed25519"):
        issue_token(path, ISSUER, AUDIENCE, "u", "t", [], 1)


@pytest.mark.parametrize(
    "changes",
    [
        {"iss": "https://other"},
        {"iss": None},
        {"aud": "other"},
        {"aud": None},
        {"exp": 1},
        {"exp": None},
        {"nbf": int(time.time()) + 3600},
        {"sub": None},
        {"sub": ""},
        {"sub": "x" * 256},
        {"tenant": None},
        {"tenant": "../other"},
        {"tenant": ["acme"]},
        {"roles": None},
        {"roles": "portal"},
        {"typ": "ID"},
        {"typ": "Refresh"},
    ],
)
async def test_claims_that_do_not_fit_are_refused(changes: dict[str, Any], key_file: Path) -> None:
    with pytest.raises(Unauthenticated) as refused:
        await authenticator(public_jwks(key_file)).authenticate(signed(key_file, claims(**changes)))
    assert "acme" not in str(refused.value)


@pytest.mark.parametrize(
    ("header", "changes", "taken"),
    [
        ("JWT", {}, True),
        ("at+jwt", {"typ": "Bearer"}, True),
        ("application/at+jwt", {}, True),
        ("logout+jwt", {}, False),
        ("dpop+jwt", {}, False),
    ],
)
async def test_only_access_tokens_are_taken(header: str, changes: dict[str, Any], taken: bool, key_file: Path) -> None:
    token = signed(key_file, claims(**changes), typ=header)
    with nullcontext() if taken else pytest.raises(Unauthenticated, match="no access token"):
        await authenticator(public_jwks(key_file)).authenticate(token)


async def test_unknown_roles_are_left_out(key_file: Path) -> None:
    token = signed(key_file, claims(roles=["root", 7, "validator"]))
    assert (await authenticator(public_jwks(key_file)).authenticate(token)).roles == {Role.VALIDATOR}


async def test_an_expired_token_is_refused_beyond_a_small_leeway(key_file: Path) -> None:
    now = int(time.time())
    check = authenticator(public_jwks(key_file))
    await check.authenticate(signed(key_file, claims(exp=now - 2)))
    with pytest.raises(Unauthenticated, match="expired"):
        await check.authenticate(signed(key_file, claims(exp=now - 30)))


async def test_the_algorithm_is_the_keys_own(key_file: Path) -> None:
    """No ``none``, no HMAC over the public key, no other algorithm."""
    jwks = public_jwks(key_file)
    kid = jwks["keys"][0]["kid"]
    unsigned = jwt.encode(claims(), None, algorithm="none", headers={"kid": kid})
    header = urlsafe_b64encode(json.dumps({"alg": "HS256", "kid": kid}).encode()).decode().rstrip("=")
    hmac = jwt.api_jws.PyJWS().encode(json.dumps(claims()).encode(), b"k" * 32, algorithm="HS256", headers={"kid": kid})
    other = jwt.encode(claims(), KEYS["RS256"], algorithm="RS256", headers={"kid": kid})
    check = authenticator(jwks)
    for token in (unsigned, hmac, other, f"{header}.e30.", "garbage", "a.b.c", ""):
        with pytest.raises(Unauthenticated):
            await check.authenticate(token)


async def test_a_changed_token_is_refused(key_file: Path) -> None:
    head, _, signature = signed(key_file, claims()).split(".")
    forged = urlsafe_b64encode(json.dumps(claims(tenant="other")).encode()).decode().rstrip("=")
    with pytest.raises(Unauthenticated):
        await authenticator(public_jwks(key_file)).authenticate(f"{head}.{forged}.{signature}")


async def test_tokens_name_a_known_key_and_are_short(key_file: Path) -> None:
    check = authenticator(public_jwks(key_file))
    with pytest.raises(Unauthenticated, match="unknown key"):
        await check.authenticate(signed(key_file, claims(), kid="other"))
    nameless = jwt.encode(claims(), KEYS["ES256"], algorithm="ES256")
    with pytest.raises(Unauthenticated, match="names no key"):
        await check.authenticate(nameless)
    with pytest.raises(Unauthenticated, match="too long"):
        await check.authenticate("x" * 9000)


def test_only_usable_signature_keys_are_taken(tmp_path: Path) -> None:
    good = public_jwks(pem(tmp_path, KEYS["EdDSA"]))["keys"][0]
    weak = rsa.generate_private_key(public_exponent=65537, key_size=1024)  # noqa: S505 - that is the point
    small = public_jwks(pem(tmp_path, weak))["keys"][0]
    p384 = {"kty": "EC", "crv": "P-384", "x": "AA", "y": "AA", "kid": "p384"}
    broken = {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "broken"}
    secret = {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"}
    sealing = {**good, "use": "enc", "kid": "enc"}
    other = {**good, "alg": "ES256", "kid": "alg"}
    nameless = {name: value for name, value in good.items() if name != "kid"}
    keys = [good, {**small, "kid": "small"}, p384, broken, secret, sealing, other, nameless]
    assert set(parse_jwks(json.dumps({"keys": keys}).encode())) == {good["kid"]}


DEEP = b'{"keys": ' + b"[" * 100_000 + b"]" * 100_000 + b"}"


@pytest.mark.parametrize(
    "bad",
    [
        3,
        None,
        "kid",
        [],
        {"kty": "EC", "crv": "P-256", "x": "AA", "y": "AA", "kid": "k"},
        {"kty": "RSA", "n": 3, "e": "AQAB", "kid": "k"},
        {"kty": "RSA", "n": "", "e": "", "kid": "k"},
        {"kty": "OKP", "crv": ["Ed25519"], "x": "AA", "kid": "k"},
        {"kty": "OKP", "crv": "Ed25519", "x": "\ud800", "kid": "k"},
        {"kty": "OKP", "crv": "Ed25519", "x": "AA", "alg": ["EdDSA"], "kid": "k"},
        ("kid", 3),
        ("kid", ["k"]),
        ("key_ops", "verify"),
        ("key_ops", 3),
    ],
)
def test_a_bad_member_takes_no_good_key_away(bad: Any, tmp_path: Path) -> None:
    good = public_jwks(pem(tmp_path, KEYS["EdDSA"]))["keys"][0]
    if isinstance(bad, tuple):
        bad = {**good, "kid": "k", bad[0]: bad[1]}
    with structlog.testing.capture_logs() as log:
        found = parse_jwks(json.dumps({"keys": [bad, good]}).encode())
    assert set(found) == {good["kid"]}
    if isinstance(bad, dict):
        assert [(line["event"], line["place"]) for line in log] == [("jwks_key_not_used", 0)]


def test_a_key_for_other_operations_verifies_nothing(tmp_path: Path) -> None:
    good = public_jwks(pem(tmp_path, KEYS["EdDSA"]))["keys"][0]
    operations: list[list[Any]] = [["verify"], ["sign", "verify"], ["sign"], ["encrypt"], []]
    keys = [{**good, "kid": str(number), "key_ops": given} for number, given in enumerate(operations)]
    assert set(parse_jwks(json.dumps({"keys": keys}).encode())) == {"0", "1"}


async def test_a_set_that_is_nested_too_deep_is_no_set_and_good_keys_stay(key_file: Path) -> None:
    now = [0.0]
    known = public_jwks(key_file)
    served = [json.dumps(known).encode(), DEEP]

    async def fetch() -> bytes:
        return served.pop(0)

    keys = Jwks(fetch, min_interval=10, monotonic=lambda: now[0])
    await keys.key(known["keys"][0]["kid"])
    now[0] = 20.0
    with pytest.raises(IdentityUnavailable):
        await keys.key("other")
    await keys.key(known["keys"][0]["kid"])


def raw_token(header: bytes, payload: bytes) -> str:
    """Signed as any other, whatever is in it."""
    parts = [urlsafe_b64encode(part).rstrip(b"=") for part in (header, payload)]
    signature = KEYS["EdDSA"].sign(b".".join(parts))
    return b".".join([*parts, urlsafe_b64encode(signature).rstrip(b"=")]).decode()


@pytest.mark.parametrize("claim", ["sub", "jti", "sid", "tenant", "roles", "name"])
async def test_half_a_character_in_a_claim_is_refused(claim: str, key_file: Path) -> None:
    half = ["\ud800"] if claim == "roles" else "\ud800"
    with pytest.raises(Unauthenticated):
        await authenticator(public_jwks(key_file)).authenticate(signed(key_file, claims(**{claim: half})))


@pytest.mark.parametrize(
    ("changes", "replaced"),
    [
        ({}, (b'"u-1"', b'"u-1", "deep": ' + b"[" * 2500 + b"]" * 2500)),
        ({"exp": 7}, (b'"exp": 7', b'"exp": 1e999')),
        ({"exp": 7}, (b'"exp": 7', b'"exp": NaN')),
        ({"exp": 7}, (b'"exp": 7', b'"exp": [1]')),
        ({"nbf": 7}, (b'"nbf": 7', b'"nbf": -1e999')),
        ({"iat": 7}, (b'"iat": 7', b'"iat": 1e999')),
        ({"exp": 7}, (b'"exp": 7', b'"exp": ' + b"9" * 4000)),
    ],
)
async def test_claims_that_no_library_reads_are_refused(
    changes: dict[str, Any], replaced: tuple[bytes, bytes], key_file: Path
) -> None:
    known = public_jwks(key_file)
    header = json.dumps({"alg": "EdDSA", "kid": known["keys"][0]["kid"]}).encode()
    said = json.dumps(claims(**{"sub": "u-1", **changes})).encode()
    assert replaced[0] in said
    with pytest.raises(Unauthenticated):
        await authenticator(known).authenticate(raw_token(header, said.replace(*replaced)))


async def test_a_header_that_is_nested_too_deep_is_refused(key_file: Path) -> None:
    deep = b'{"alg": "EdDSA", "kid": ' + b"[" * 2500 + b"]" * 2500 + b"}"
    with pytest.raises(Unauthenticated):
        await authenticator(public_jwks(key_file)).authenticate(raw_token(deep, b"{}"))


@pytest.mark.parametrize("content", [b"", b"[]", b"{}", b'{"keys": 3}', b'{"keys": "abc"}', DEEP])
def test_what_is_no_key_set_is_refused(content: bytes) -> None:
    with pytest.raises(IdentityUnavailable):
        parse_jwks(content)


async def test_an_unknown_key_id_fetches_anew_but_not_too_often(key_file: Path, tmp_path: Path) -> None:
    now = [100.0]
    first, second = public_jwks(key_file), public_jwks(pem(tmp_path, KEYS["EdDSA"]))
    fetch = Serving(first, second)
    jwks = Jwks(fetch, min_interval=10, monotonic=lambda: now[0])
    await jwks.key(first["keys"][0]["kid"])
    new = second["keys"][0]["kid"]
    with pytest.raises(Unauthenticated):
        await jwks.key(new)
    assert fetch.calls == 1
    now[0] += 11
    assert (await jwks.key(new)).algorithm == "EdDSA"
    assert fetch.calls == 2
    with pytest.raises(Unauthenticated):
        await jwks.key(first["keys"][0]["kid"])


async def test_keys_are_fetched_anew_with_age_and_kept_while_that_fails(key_file: Path, tmp_path: Path) -> None:
    now = [0.0]
    known = public_jwks(key_file)
    kid = known["keys"][0]["kid"]
    other = public_jwks(pem(tmp_path, KEYS["EdDSA"]))
    fetch = Serving(known, IdentityUnavailable("away"), other)
    jwks = Jwks(fetch, max_age=300, min_interval=10, monotonic=lambda: now[0])
    await asyncio.gather(*(jwks.key(kid) for _ in range(20)))
    assert fetch.calls == 1
    now[0] = 301
    await jwks.key(kid)
    await asyncio.sleep(0)
    assert fetch.calls == 2
    now[0] = 320
    await jwks.key(kid)
    await asyncio.sleep(0)
    assert fetch.calls == 3
    with pytest.raises(Unauthenticated):
        await jwks.key(kid)


async def test_a_key_withdrawn_while_nobody_came_is_not_taken_once_more(key_file: Path, tmp_path: Path) -> None:
    now = [0.0]
    known, other = public_jwks(key_file), public_jwks(pem(tmp_path, KEYS["EdDSA"]))
    kid = known["keys"][0]["kid"]
    jwks = Jwks(Serving(known, other), max_age=300, monotonic=lambda: now[0])
    await jwks.key(kid)
    now[0] = 601
    with pytest.raises(Unauthenticated):
        await jwks.key(kid)


async def test_a_provider_that_is_away_is_waited_for_once(key_file: Path) -> None:
    """The last good set serves; who comes while tries fail does not wait for each of them."""
    now = [0.0]
    known = public_jwks(key_file)
    kid = known["keys"][0]["kid"]
    fetch = Serving(known, IdentityUnavailable("away"))
    jwks = Jwks(fetch, max_age=300, min_interval=10, monotonic=lambda: now[0])
    await jwks.key(kid)
    now[0] = 601
    await jwks.key(kid)
    assert fetch.calls == 2
    now[0] = 620
    await jwks.key(kid)
    assert fetch.calls == 2  # not yet: in the background
    await asyncio.sleep(0)
    assert fetch.calls == 3


async def test_regular_renewing_leaves_no_old_set(key_file: Path, tmp_path: Path) -> None:
    now = [0.0]
    known, other = public_jwks(key_file), public_jwks(pem(tmp_path, KEYS["EdDSA"]))
    fetch = Serving(known, IdentityUnavailable("away"), other)
    jwks = Jwks(fetch, max_age=300, monotonic=lambda: now[0])
    calls = []
    for now[0] in (0, 30, 290, 301, 331):
        await jwks.renew()
        calls.append(fetch.calls)
    assert calls == [1, 1, 1, 2, 3]
    with pytest.raises(Unauthenticated):
        await jwks.key(known["keys"][0]["kid"])


@pytest.mark.parametrize("useless", [{"keys": []}, {"keys": [{"kty": "oct", "k": "c2VjcmV0", "kid": "secret"}]}])
async def test_a_set_without_a_usable_key_takes_no_good_one_s_place(
    useless: dict[str, Any], key_file: Path, tmp_path: Path
) -> None:
    now, copy = [0.0], tmp_path / "jwks.copy"
    known = public_jwks(key_file)
    kid = known["keys"][0]["kid"]
    jwks = Jwks(Serving(known, useless), copy=copy, max_age=300, monotonic=lambda: now[0])
    await jwks.key(kid)
    kept = copy.read_bytes()
    now[0] = 700
    await jwks.key(kid)
    assert copy.read_bytes() == kept
    with pytest.raises(IdentityUnavailable):
        await Jwks(Serving(useless)).check()


async def test_while_no_set_can_be_had_an_unknown_key_is_no_failure_of_its_sender(key_file: Path) -> None:
    """It may be the provider's new one. Such requests are bounded by address, as those without a token are."""
    now = [0.0]
    fetch = Serving(public_jwks(key_file), IdentityUnavailable("away"))
    keys = Jwks(fetch, monotonic=lambda: now[0])
    await keys.key(public_jwks(key_file)["keys"][0]["kid"])
    now[0] = 20
    check = TokenAuthenticator(keys, issuer=ISSUER, audience=AUDIENCE)
    limits = RateLimits({QuotaName.FAILURES: 2, QuotaName.CLIENT: 5})
    headers = {"Authorization": f"Bearer {signed(key_file, claims(), kid='new')}"}
    async with a_client(an_app(IntakeBench(), authenticator=check, limits=limits)) as client:
        answers = [(await client.get("/api/v1/dossiers", headers=headers)).status_code for _ in range(7)]
    assert answers == [503] * 5 + [429] * 2
    assert fetch.calls == 2


async def test_a_copy_counts_only_for_where_it_came_from(key_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "jwks.copy"
    kid = public_jwks(key_file)["keys"][0]["kid"]
    here, there = "https://login.example/keys", "https://other.example/keys"
    await Jwks(Serving(public_jwks(key_file)), copy=copy, location=here).key(kid)
    away = Serving(IdentityUnavailable("away"))
    with pytest.raises(IdentityUnavailable):
        await Jwks(away, copy=copy, location=there).key(kid)
    await Jwks(away, copy=copy, location=here).key(kid)
    copy.write_text(json.dumps(public_jwks(key_file)))  # as releases before this one wrote it
    with pytest.raises(IdentityUnavailable):
        await Jwks(away, copy=copy, location=here).key(kid)


async def test_without_any_keys_we_say_so(tmp_path: Path, key_file: Path) -> None:
    jwks = Jwks(jwks_source(str(tmp_path / "absent.json")))
    with pytest.raises(IdentityUnavailable):
        await jwks.key("k")
    with pytest.raises(IdentityUnavailable):
        await jwks.check()
    path = tmp_path / "jwks.json"
    path.write_text(json.dumps(public_jwks(key_file)))
    for location in (str(path), f"file://{path}"):
        await Jwks(jwks_source(location)).check()


# --- Any provider -----------------------------------------------------------------------------------------------------


def with_rules(key_file: Path, **rules: Any) -> TokenAuthenticator:
    keys = Jwks(Serving(public_jwks(key_file)))
    return TokenAuthenticator(keys, issuer=ISSUER, audience=AUDIENCE, rules=ClaimRules(**rules))


async def test_claims_are_found_where_the_provider_puts_them(key_file: Path) -> None:
    nested = {
        "roles": None,
        "tenant": None,
        "realm_access": {"roles": ["Collaborateur", "offline_access", "operator"]},
        "organization": {"id": "acme"},
    }
    check = with_rules(
        key_file,
        tenant="organization.id",
        roles="realm_access.roles",
        role_names={"Collaborateur": Role.VALIDATOR, "Administrateur": Role.OPERATOR},
    )
    identity = await check.authenticate(signed(key_file, claims(**nested)))
    assert (identity.tenant, identity.roles) == ("acme", {Role.VALIDATOR})  # our own name is no name of theirs
    named = with_rules(key_file, roles="https://dpj.example/roles")
    whole = {"roles": None, "https://dpj.example/roles": ["auditor"]}
    assert (await named.authenticate(signed(key_file, claims(**whole)))).roles == {Role.AUDITOR}
    for other in (None, [], {"roles": "Collaborateur"}, {}):
        with pytest.raises(Unauthenticated, match="realm_access"):
            await check.authenticate(signed(key_file, claims(**{**nested, "realm_access": other})))


async def test_an_audience_may_be_one_of_several(key_file: Path) -> None:
    check = authenticator(public_jwks(key_file))
    await check.authenticate(signed(key_file, claims(aud=["account", AUDIENCE])))
    with pytest.raises(Unauthenticated):
        await check.authenticate(signed(key_file, claims(aud=["account"])))


def test_only_algorithms_on_the_list_are_used(tmp_path: Path) -> None:
    rsa_key = public_jwks(pem(tmp_path, KEYS["RS256"]))["keys"][0]
    keys = [
        {**rsa_key, "kid": "usual", "alg": "RS256"},
        {**rsa_key, "kid": "pss", "alg": "PS256"},
        {**rsa_key, "kid": "oaep", "alg": "RSA-OAEP"},
        {**rsa_key, "kid": "hmac", "alg": "HS256"},
        {**{name: value for name, value in rsa_key.items() if name != "alg"}, "kid": "silent"},
    ]
    content = json.dumps({"keys": keys}).encode()
    assert set(parse_jwks(content)) == {"usual", "silent"}
    found = parse_jwks(content, {"PS256", "RS256"})
    assert {kid: key.algorithm for kid, key in found.items()} == {"usual": "RS256", "pss": "PS256", "silent": "RS256"}
    assert parse_jwks(content, {"ES256"}) == {}
    for wrong in (set[str](), {"HS256"}, {"RS256", "none"}):
        with pytest.raises(ValueError, match="signed"):
            Jwks(Serving({}), algorithms=wrong)
    assert JWT_ALGORITHMS == KNOWN


async def test_the_last_good_set_does_not_serve_for_ever(key_file: Path) -> None:
    now = [0.0]
    known = public_jwks(key_file)
    kid = known["keys"][0]["kid"]
    jwks = Jwks(Serving(known, IdentityUnavailable("away")), max_age=300, keep=1000, monotonic=lambda: now[0])
    await jwks.key(kid)
    now[0] = 999
    await jwks.key(kid)
    await asyncio.sleep(0)
    now[0] = 1001 + 20
    with pytest.raises(IdentityUnavailable):
        await jwks.key(kid)


async def test_a_process_that_starts_while_the_provider_is_away_has_the_copy(key_file: Path, tmp_path: Path) -> None:
    copy = tmp_path / "jwks.copy"
    known = public_jwks(key_file)
    kid = known["keys"][0]["kid"]
    await Jwks(Serving(known), copy=copy).key(kid)
    assert copy.stat().st_mode & 0o777 == 0o600
    away = Serving(IdentityUnavailable("away"))
    await Jwks(away, copy=copy).key(kid)
    os.utime(copy, (time.time() - 5000,) * 2)
    with pytest.raises(IdentityUnavailable):
        await Jwks(away, copy=copy, keep=4000).key(kid)
    copy.write_text("{")
    with pytest.raises(IdentityUnavailable):
        await Jwks(away, copy=copy).key(kid)
    await Jwks(Serving(known), copy=tmp_path / "no" / "folder").key(kid)
    assert [name for name in os.listdir(tmp_path) if name.startswith("jwks.copy.")] == []  # noqa: PTH208 - no await here


# --- tenants ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("tenant", ["system", "System", "SYSTEM"])
async def test_no_token_speaks_for_the_site_itself(key_file: Path, tenant: str) -> None:
    with pytest.raises(Unauthenticated, match="tenant"):
        await authenticator(public_jwks(key_file)).authenticate(signed(key_file, claims(tenant=tenant)))


@pytest.mark.parametrize(
    ("roles", "tenants", "by_default", "found"),
    [
        (["operator"], None, False, None),
        (["operator"], None, True, {"acme"}),
        (["auditor"], ["a", "b"], False, {"a", "b"}),
        (["operator", "portal"], [], False, set()),
        # Whom nothing of other tenants is shown, nothing binds: a provider may have such a claim for its own use.
        (["portal"], ["a"], True, None),
        (["portal"], "a", False, None),
    ],
)
async def test_whom_a_token_binds(
    key_file: Path, roles: list[str], tenants: Any, by_default: bool, found: set[str] | None
) -> None:
    rules = ClaimRules(tenants="org.tenants", operators_bound=by_default)
    checking = TokenAuthenticator(Jwks(Serving(public_jwks(key_file))), issuer=ISSUER, audience=AUDIENCE, rules=rules)
    token = signed(key_file, claims(roles=roles, org={"tenants": tenants}))
    assert (await checking.authenticate(token)).bound_to == found


@pytest.mark.parametrize("tenants", ["a", {"a": 1}, [1], ["a b"], ["a"] * 101, 0, False])
async def test_bounds_that_are_none_let_nobody_in(key_file: Path, tenants: Any) -> None:
    with pytest.raises(Unauthenticated, match="tenants"):
        await authenticator(public_jwks(key_file)).authenticate(
            signed(key_file, claims(roles=["operator"], tenants=tenants))
        )


async def test_an_issued_token_binds(key_file: Path) -> None:
    token = issue_token(key_file, ISSUER, AUDIENCE, "u1", "acme", [Role.OPERATOR], 60, tenants=["b", "a"])
    assert (await authenticator(public_jwks(key_file)).authenticate(token)).bound_to == {"a", "b"}

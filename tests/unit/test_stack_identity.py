"""Keycloak beside a stack: on request only, the realm of ``deploy/identity``, nothing secret in it, and settings that fit it."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from console.pages_sign_in import SIGN_IN, SIGNED_IN
from deploy.native import settings_file
from deploy.native.parts import of
from deploy.native.parts.keycloak import (
    CONSOLE_CLIENT,
    FOLDER,
    NAME,
    PORTAL_CLIENT,
    STEP_UP_ACR,
    Keycloak,
    accounts,
    accounts_file,
    realm,
)
from deploy.native.site import StackSite
from domain.documents import Role
from runtime.cli.pipeline import identity_of
from runtime.config.settings import Settings
from tests.support.stack_sites import site_of


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> StackSite:
    monkeypatch.setenv("DPJ_HOME", str(tmp_path))
    return site_of("embedded")


def client(name: str) -> Any:
    [found] = [one for one in realm()["clients"] if one["clientId"] == name]
    return found


def test_one_word_brings_it_and_no_profile_has_it() -> None:
    without = {part.name for part in of("full", ())}
    assert {part.name for part in of("full", (NAME,))} - without == {"keycloak"}
    assert not Keycloak.late, "API and console are told of it at their start"


def test_settings_lead_to_it_and_without_it_nothing_changes(here: StackSite) -> None:
    before = Settings(_env_file=settings_file.write(here))
    assert (before.console_sign_in, before.jwt_issuer) == ("development", settings_file.JWT_ISSUER)
    here.identity["extras"] = [NAME]
    after = Settings(_env_file=settings_file.write(here))
    issuer = f"http://127.0.0.1:{here.ports['keycloak']}/realms/dpj"
    assert (after.console_sign_in, after.jwt_issuer) == ("oidc", issuer)
    assert after.jwks == f"{issuer}/protocol/openid-connect/certs"
    assert after.console_client_id == CONSOLE_CLIENT
    assert after.console_client_secret.get_secret_value() == accounts(here)["DPJ_IDENTITY_CONSOLE_SECRET"]
    assert after.console_step_up_acr == STEP_UP_ACR
    assert after.jwt_private_key_file is None, "what the local key signs is no token there"


def test_whoever_brings_it_up_is_told_where_it_is_and_no_password(here: StackSite) -> None:
    assert identity_of("mine") == identity_of("never-was") == {}
    here.identity["extras"] = [NAME]
    here.save()
    told = identity_of("mine")
    assert told == {"keycloak": f"http://127.0.0.1:{here.ports['keycloak']}", "accounts": str(accounts_file(here))}


def test_with_tls_it_has_an_address_of_https_alone(here: StackSite) -> None:
    here.identity |= {"extras": [NAME], "tls": True}
    assert Settings(_env_file=settings_file.write(here)).jwt_issuer.startswith("https://127.0.0.1:")


def test_the_files_hold_no_secret_and_all_that_they_leave_open_is_filled_in(here: StackSite) -> None:
    texts = [(FOLDER / name).read_text("utf-8") for name in ("realm.json", "local.json")]
    left_open = {name for text in texts for name in re.findall(r"\$\{(DPJ_\w+)\}", text)}
    assert left_open == accounts(here).keys()
    secret = re.compile(r'"(?:secret|value)": "(.*)"')
    assert all(re.fullmatch(r"\$\{DPJ_\w+\}", said) for text in texts for said in secret.findall(text))
    assert len(set(accounts(here).values())) == len(accounts(here))


def test_passwords_are_in_private_files_and_no_other(here: StackSite, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Keycloak, "_make", lambda *_: None)
    Keycloak().prepare(here)
    assert accounts_file(here).stat().st_mode & 0o777 == 0o600
    assert (here.folder / "data" / "keycloak" / "lib").is_symlink()
    written = {path: path.read_text("utf-8") for path in here.folder.rglob("*") if path.is_file()}
    with_secret = {path.name for path, text in written.items() if here.secret("identity_operator") in text}
    assert with_secret == {"identity.env", "stack.json"}
    imported = here.folder / "data" / "keycloak" / "data" / "import" / "dpj-realm.json"
    assert json.loads(imported.read_text("utf-8")) == realm()


def test_tokens_say_what_the_api_asks_for_and_no_more() -> None:
    [scope] = [one for one in realm()["clientScopes"] if one["name"] == "dpj"]
    config = {one["name"]: one["config"] for one in scope["protocolMappers"]}
    fields = Settings.model_fields
    assert config["audience"]["included.custom.audience"] == fields["jwt_audience"].default
    for mapper, setting in (
        ("tenant", "jwt_tenant_claim"),
        ("tenants", "jwt_tenants_claim"),
        ("roles", "jwt_roles_claim"),
    ):
        assert config[mapper]["claim.name"] == fields[setting].default
        assert (config[mapper]["access.token.claim"], config[mapper]["id.token.claim"]) == ("true", "false")
    assert {one["name"] for one in realm()["roles"]["realm"]} == {role.value for role in Role}


def test_the_console_is_a_client_with_pkce_and_one_address_to_come_back_to() -> None:
    console = client(CONSOLE_CLIENT)
    address = "${DPJ_IDENTITY_CONSOLE_URL}"
    assert console["redirectUris"] == [f"{address}{SIGNED_IN}"]
    said = console["attributes"]
    assert said["pkce.code.challenge.method"] == "S256"
    assert said["post.logout.redirect.uris"] == f"{address}{SIGN_IN}"
    assert said["backchannel.logout.url"] == f"{address}{SIGN_IN}/back-channel-logout"
    assert said["backchannel.logout.session.required"] == "true"


@pytest.mark.parametrize(
    ("name", "roles"), [(CONSOLE_CLIENT, {"operator", "auditor"}), (PORTAL_CLIENT, {"portal", "validator"})]
)
def test_a_client_has_one_way_in_and_the_roles_that_it_is_for(name: str, roles: set[str]) -> None:
    found = client(name)
    assert not found["publicClient"]
    assert not any(found[way] for way in ("implicitFlowEnabled", "directAccessGrantsEnabled", "fullScopeAllowed"))
    assert found["standardFlowEnabled"] != found["serviceAccountsEnabled"]
    [mapped] = [one["roles"] for one in realm()["scopeMappings"] if one["client"] == name]
    assert set(mapped) == roles


def test_nobody_changes_his_own_tenant() -> None:
    [component] = realm()["components"]["org.keycloak.userprofile.UserProfileProvider"]
    [text] = component["config"]["kc.user.profile.config"]
    attributes = {one["name"]: one["permissions"]["edit"] for one in json.loads(text)["attributes"]}
    assert attributes["tenant"] == attributes["tenants"] == ["admin"]
    assert "unmanagedAttributePolicy" not in json.loads(text), "what is not named there is refused"


def test_each_level_of_authentication_has_its_acr() -> None:
    found = realm()
    levels = json.loads(found["attributes"]["acr.loa.map"])
    assert levels[STEP_UP_ACR] == "1"
    assert {one["config"]["loa-condition-level"] for one in found["authenticatorConfig"]} == set(levels.values())


def test_guesses_are_slowed_and_sessions_end() -> None:
    found = realm()
    assert found["bruteForceProtected"]
    assert found["failureFactor"] <= 5
    assert found["accessTokenLifespan"] <= 300
    hours = Settings.model_fields["console_session_hours"].default
    assert found["ssoSessionMaxLifespan"] == hours * 3600


@pytest.mark.parametrize("tls", [False, True])
def test_it_listens_on_this_machine_alone(here: StackSite, monkeypatch: pytest.MonkeyPatch, *, tls: bool) -> None:
    monkeypatch.setattr("deploy.native.parts.keycloak.java_program", lambda: "/bin/java")
    here.identity["tls"] = tls
    command = Keycloak().command(here)
    assert "--http-host=127.0.0.1" in command.arguments
    assert ("--http-enabled=false" in command.arguments) is tls
    assert not any(here.secret(name) in " ".join(command.arguments) for name in here.identity["secrets"])

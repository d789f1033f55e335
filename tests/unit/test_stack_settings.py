"""What a stack writes down: settings that the pipeline takes, keys that fit each other, files for one reader."""

from __future__ import annotations

import stat
from pathlib import Path

import jwt
import pytest
from dotenv import dotenv_values

from deploy.native import settings_file, site, stack
from deploy.native.errors import StackError
from deploy.native.parts import of
from deploy.native.site import Profile, StackSite
from runtime.config.settings import Settings
from tests.support.stack_sites import site_of


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    home = tmp_path / "it's a home"  # with what a shell and dotenv treat specially
    monkeypatch.setenv("DPJ_HOME", str(home))
    return home


def made(profile: Profile) -> StackSite:
    here = site_of(profile)
    here.identity["secrets"] |= {"vault_role_id": "role", "vault_secret_id": "secret"}
    here.save()
    return here


@pytest.mark.parametrize("profile", ["embedded", "full"])
def test_every_setting_is_one_of_the_pipelines(profile: Profile) -> None:
    here = made(profile)
    written = dotenv_values(settings_file.write(here))
    assert written == settings_file.values(here)
    known = {f"DPJ_{name}".upper() for name in Settings.model_fields}
    assert set(written) <= known
    loaded = Settings(_env_file=settings_file.path(here))
    assert loaded.profile == profile
    assert loaded.object_store == ("minio" if profile == "full" else "filesystem")
    assert loaded.keyring == ("vault" if profile == "full" else "local")
    assert loaded.postgres_dsn.get_secret_value().startswith("postgresql://dpj:")


def test_the_embedded_profile_says_nothing_of_what_it_has_not() -> None:
    told = settings_file.values(made("embedded"))
    assert not [name for name in told if any(part in name for part in ("MINIO", "VAULT", "MONGO", "REGISTRY_URL"))]
    assert told["DPJ_CHECKPOINT_STORE"] == "folder"
    assert (told["DPJ_AUDIT_STORE"], told["DPJ_SCHEMA_REGISTRY"]) == ("postgresql", "repository")
    full = settings_file.values(made("full"))
    assert (full["DPJ_AUDIT_STORE"], full["DPJ_SCHEMA_REGISTRY"]) == ("mongodb", "server")


def test_the_embedded_profile_has_nothing_to_compile() -> None:
    parts = {part.name: part for part in of("embedded", ())}
    assert list(parts) == ["kafka", "postgres", "ged", "smtp"]
    assert not [name for name, part in parts.items() if part.recipe is not None and part.recipe.tool == "go"]


@pytest.mark.parametrize(("first", "then"), [("embedded", "full"), ("full", "embedded")])
def test_a_stack_keeps_the_profile_that_knows_where_its_audit_log_is(first: Profile, then: Profile) -> None:
    here = made(first)
    assert settings_file.audit_store(here) is None
    stack._refuse_other_stores("mine", then)  # it never came up
    settings_file.write(here)
    stack._refuse_other_stores("mine", first)
    with pytest.raises(StackError, match=r"dpj stack down --wipe --name mine"):
        stack._refuse_other_stores("mine", then)


def test_a_stack_of_an_earlier_release_has_its_audit_log_in_mongodb() -> None:
    path = settings_file.write(made("embedded"))
    path.write_text("\n".join(line for line in path.read_text().splitlines() if "AUDIT_STORE" not in line))
    with pytest.raises(StackError, match="in mongodb"):
        stack._refuse_other_stores("mine", "embedded")


@pytest.mark.parametrize("profile", ["embedded", "full"])
def test_a_new_stack_reads_sealed_texts_only_and_an_old_one_what_it_had(profile: Profile) -> None:
    here = made(profile)
    for _ in range(2):
        path = settings_file.write(here)
        assert Settings(_env_file=path).columns_sealed_only
    lines = path.read_text("utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if "SEALED_ONLY" not in line), "utf-8")
    for _ in range(2):
        assert not Settings(_env_file=settings_file.write(here)).columns_sealed_only
    for said, told in (("'true'", True), ("false", False)):
        path.write_text("".join([*lines, f"DPJ_COLUMNS_SEALED_ONLY={said}\n"]), "utf-8")
        assert Settings(_env_file=settings_file.write(here)).columns_sealed_only is told


def test_tokens_signed_with_the_key_verify_with_the_published_half() -> None:
    settings = Settings(_env_file=settings_file.write(made("embedded")))
    assert settings.jwt_private_key_file is not None
    [key] = jwt.PyJWKSet.from_json(Path(settings.jwks).read_text()).keys
    token = jwt.encode({"sub": "a"}, settings.jwt_private_key_file.read_text(), "EdDSA", {"kid": key.key_id})
    assert jwt.decode(token, key, ["EdDSA"]) == {"sub": "a"}
    assert '"d"' not in Path(settings.jwks).read_text()


def test_a_second_write_keeps_every_key() -> None:
    here = made("full")
    settings_file.write(here)
    keys = {path.name: path.read_bytes() for path in (here.folder / "keys").iterdir()}
    lines = {"personal.key", "pseudonym.key", "column.key", "lookup.key", "link.key"}
    assert lines | {"keyring.json", "signing.json", "jwt.pem", "jwks.json"} == set(keys)
    settings_file.write(here)
    assert {path.name: path.read_bytes() for path in (here.folder / "keys").iterdir()} == keys


def test_all_is_private_and_no_two_stacks_share_a_secret(home: Path) -> None:
    settings_file.write(made("full"))
    for path in [home, *home.rglob("*")]:
        assert stat.S_IMODE(path.stat().st_mode) & 0o077 == 0, path
    other = site.load_or_create("other", "full")
    mine = site.load("mine")
    assert mine is not None
    assert not set(mine.identity["secrets"].values()) & set(other.identity["secrets"].values())
    assert mine.id != other.id


def test_passwords_do_not_show_in_a_repr() -> None:
    here = made("full")
    assert here.secret("postgres") not in repr(here)


def test_ports_of_other_stacks_are_known_with_their_blocks() -> None:
    here = made("embedded")
    taken = site.ports_of_others("another")
    assert here.ports["workers"] + 15 in taken
    assert here.ports["kafka"] in taken
    assert site.ports_of_others("mine") == set()


@pytest.mark.parametrize("name", ["", "..", "a/b", "A", ".locks", "-a", "a" * 41, "a\n"])
def test_a_name_that_is_no_folder_is_refused(name: str) -> None:
    with pytest.raises(StackError, match="lower case"):
        site.load(name)

"""``dpj audit keys``: the public halves, and the key file where a site begins."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from runtime.cli.main import main
from tests.support.settings import BASE


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name, value in BASE.items():
        monkeypatch.setenv(f"DPJ_{name.upper()}", value)
    path = tmp_path / "signing.json"
    monkeypatch.setenv("DPJ_SETTINGS", str(tmp_path / "none.env"))
    monkeypatch.setenv("DPJ_SIGNING_KEY_FILE", str(path))
    return path


def test_a_key_is_made_once(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["audit", "keys"]) == 1
    capsys.readouterr()
    seen = []
    for _ in range(2):
        assert main(["audit", "keys", "--create"]) == 0
        seen.append(json.loads(capsys.readouterr().out)["keys"])
    assert seen[0] == seen[1]
    assert len(seen[0]) == 1
    assert site.stat().st_mode & 0o777 == 0o600


def test_there_is_no_file_to_make_where_vault_signs(
    site: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DPJ_SIGNER", "vault")
    assert main(["audit", "keys", "--create"]) == 1
    assert "type=ed25519" in capsys.readouterr().err
    assert not site.exists()


def test_a_folder_that_is_not_there_is_told(
    monkeypatch: pytest.MonkeyPatch, site: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DPJ_SIGNING_KEY_FILE", str(site.parent / "none" / "signing.json"))
    assert main(["audit", "keys", "--create"]) == 1
    assert "FileNotFoundError" in capsys.readouterr().err

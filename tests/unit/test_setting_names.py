"""The names of the environment variables and their defaults are an interface: sites have them in their files."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import SecretStr
from pydantic.fields import FieldInfo

from runtime.config import groups
from runtime.config.groups import SettingGroups
from runtime.config.settings import Settings

RECORDED = Path(__file__).resolve().parents[1] / "vectors" / "setting_defaults.json"


def _default(field: FieldInfo) -> Any:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True, validated_data={})
    value = value.get_secret_value() if isinstance(value, SecretStr) else value
    return str(value) if isinstance(value, Path) else value


def test_no_setting_is_renamed_dropped_or_given_another_default() -> None:
    """Add a new setting to the file; change nothing that is in it without a word in the CHANGELOG."""
    now = {f"DPJ_{name.upper()}": _default(field) for name, field in Settings.model_fields.items()}
    assert now == json.loads(RECORDED.read_text())


def test_each_setting_is_in_one_group() -> None:
    parts = SettingGroups.__bases__
    assert len(parts) == len({part.__name__ for part in parts if part.__module__ == groups.__name__})
    assert sum(len(part.model_fields) for part in parts) == len(Settings.model_fields)

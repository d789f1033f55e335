"""docs/OPERATIONS.md says what is true: every setting with its default, every state, every metric, every header."""

from __future__ import annotations

import re
from pathlib import Path
from uuid import uuid4

from pydantic import SecretStr
from pydantic_core import PydanticUndefined

from domain.antivirus import ScanResult
from domain.lifecycle import Status
from domain.reconciliation import DiscrepancyKind
from domain.renderings import NoThumbnail
from domain.restores import Difference, RestoredStore
from rendering.confinement import Layer
from runtime.config.settings import Settings
from runtime.observability.overview_metrics import LABELS
from streams.dead_letter_headers import GiveUpReason, dead_letter_headers
from streams.lanes import Partition, Record
from tests.support.metrics import all_metrics

PAGE = (Path(__file__).resolve().parents[2] / "docs" / "OPERATIONS.md").read_text("utf-8")


def _default(name: str) -> str:
    value = Settings.model_fields[name].default
    if value is PydanticUndefined:
        return "required"
    if isinstance(value, SecretStr):
        value = value.get_secret_value()
    if value is None:
        return "none"
    return f"`{value}`" if value != "" else "empty"


def test_every_setting_is_there_with_its_default_and_no_other() -> None:
    rows = re.findall(r"^\| `(DPJ_\w+)` \| ([^|]+) \|", PAGE, re.MULTILINE)
    assert dict(rows) == {f"DPJ_{name.upper()}": _default(name) for name in Settings.model_fields}
    assert len(rows) == len(Settings.model_fields)


def test_every_state_is_explained() -> None:
    assert [status.value for status in Status if f"`{status.value}`" not in PAGE] == []


def test_every_metric_of_ours_is_explained() -> None:
    registry = all_metrics()
    names = {name for metric in registry.collect() for name in (metric.name, f"{metric.name}_total")} | set(LABELS)
    told = set(re.findall(r"`(dpj_\w+)`", PAGE))
    assert told <= names
    assert all(metric.name in told or f"{metric.name}_total" in told for metric in registry.collect())
    assert set(LABELS) <= told


def test_every_fault_of_reconciling_is_explained() -> None:
    assert [fault.value for fault in DiscrepancyKind if f"`{fault.value}`" not in PAGE] == []


def test_every_kind_of_difference_after_a_restore_and_every_store_is_explained() -> None:
    names = [*(f"`{kind.value}`" for kind in Difference), *(store.value for store in RestoredStore)]
    assert [name for name in names if name not in PAGE] == []


def test_every_header_of_a_dead_letter_is_explained() -> None:
    verdict = GiveUpReason("code", "Error", 1, given_up=False)
    headers = dead_letter_headers(Record(Partition("t", 0), 7, b"k", b"v", {}, 1.0), "integrity", uuid4(), verdict)
    assert [name for name in headers if f"`{name}`" not in PAGE] == []


def test_every_reason_for_no_thumbnail_is_explained() -> None:
    assert [reason.value for reason in NoThumbnail if f"`{reason.value}`" not in PAGE] == []


def test_every_layer_of_confinement_and_every_finding_is_explained() -> None:
    names = [layer.value for layer in Layer] + [finding.value for finding in ScanResult]
    assert [name for name in names if f"`{name}`" not in PAGE] == []

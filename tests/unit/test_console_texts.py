"""The console's catalogues: both languages say everything, and everything that a page asks for."""

from __future__ import annotations

import inspect
import re
import string
from pathlib import Path

import pytest
from starlette.requests import Request

from console import findings
from console.languages import LANGUAGES, Texts, catalogue, language_of
from console.navigation import PLACES
from console.pages_documents import AGES, DEPENDENCIES
from domain import errors
from domain.act_notes import NOTES
from domain.batches import Act
from domain.consumers import CONSUMERS
from domain.error_table import ERROR_TABLE
from domain.lifecycle import Status
from domain.orders import OrderedAct
from domain.overview import Holder, NextStep
from domain.reconciliation import Repair
from domain.restores import Difference
from processors.operators.document_details import ProofState
from processors.operators.document_waits import WaitState
from processors.operators.restore_steps import STEPS

CONSOLE = Path(__file__).resolve().parents[2] / "console"
#: Keys that code makes of values.
MADE = {
    *(f"menu.{place.name}" for place in PLACES),
    *(f"{what}.{status.value}" for status in Status for what in ("status", "rest")),
    *(f"{what}.{state.value.replace(' ', '_')}" for state in WaitState for what in ("wait", "next")),
    *(f"holder.{one.value}" for one in Holder),
    *(f"step_next.{one.value}" for one in NextStep),
    *(f"{what}.{name}" for name in CONSUMERS for what in ("consumer", "letters.of")),
    *(f"repair.{one.value}" for one in Repair),
    *(f"proof.{one.value}" for one in ProofState),
    *(f"age.{name}" for name in AGES),
    *(f"language.{name}" for name in LANGUAGES),
    *(f"note.{code}" for code in NOTES),
    *(f"{what}.{act.value}" for act in Act for what in ("act", "plan.text")),
    *(f"{what}.{kind.value}" for kind in Difference for what in ("difference", "difference_next")),
    *(f"restore.step.{step}" for step in STEPS),
    *(f"order.{act.value}" for act in OrderedAct),
    *(f"dependency.{name}" for name in DEPENDENCIES),
    *(f"circuit.{state}" for state in ("open", "half_open", "closed")),
}


def places_in(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_documents_are_searched_by_all_that_an_event_can_be_held_for() -> None:
    kinds = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, errors.Transient)]
    requests_alone = {errors.Transient.waiting_for, "checkpoint_store", "identity_provider", "revocation_store"}
    assert set(DEPENDENCIES) == {kind.waiting_for for kind in kinds} - requests_alone


def test_both_languages_have_the_same_texts() -> None:
    french, english = (catalogue(language) for language in LANGUAGES)
    assert french.keys() == english.keys()
    assert list(french) == list(english)
    for key, text in french.items():
        assert places_in(text) == places_in(english[key]), key
        assert text.strip(), key
        assert english[key].strip(), key


def test_every_code_of_an_error_has_its_title_in_both_languages() -> None:
    french, english = (catalogue(language) for language in LANGUAGES)
    assert {code: english.get(f"code.{code}") for code in ERROR_TABLE} == {
        code: row.title for code, row in ERROR_TABLE.items()
    }
    assert {key for key in french if key.startswith("code.")} == {f"code.{code}" for code in ERROR_TABLE}
    assert [code for code in ERROR_TABLE if french[f"code.{code}"] == english[f"code.{code}"]] == []
    assert Texts("fr").of_code("none_of_ours") == ""


def test_every_text_that_a_page_asks_for_is_there() -> None:
    asked = set(MADE)
    for path in CONSOLE.rglob("*.html"):
        text = path.read_text("utf-8")
        asked |= set(re.findall(r'\bt\("([a-z_.A-Z0-9]+[a-z0-9_A-Z])"[,)]', text))
        asked |= {f"{key}.{form}" for key in re.findall(r't\.count\("([a-z_.]+)"', text) for form in ("one", "many")}
    for path in CONSOLE.glob("*.py"):
        asked |= set(re.findall(r'\btexts\("([a-z_.A-Z]+)"', path.read_text("utf-8")))
    names = set(re.findall(r'name="([a-z_]+)"', Path(findings.__file__).read_text("utf-8")))
    names |= set(
        re.findall(r'"(late_growing|late|waits_now|waits|away_now|away)"', Path(findings.__file__).read_text("utf-8"))
    )
    asked |= {f"finding.{name}{part}" for name in names for part in ("", ".short", ".act")}
    assert asked - catalogue("fr").keys() == set()


def test_a_text_that_is_missing_is_a_defect() -> None:
    with pytest.raises(KeyError):
        Texts("fr")("nowhere")


@pytest.mark.parametrize(
    ("number", "french", "english"), [(0, "0 essai", "0 tries"), (1, "1 essai", "1 try"), (2, "2 essais", "2 tries")]
)
def test_numbers_have_their_forms(number: int, french: str, english: str) -> None:
    assert Texts("fr").count("wait.tries", number) == french
    assert Texts("en").count("wait.tries", number) == english


@pytest.mark.parametrize(
    ("header", "cookie", "language"),
    [
        ("", "", "fr"),
        ("en-GB,en;q=0.9,fr;q=0.8", "", "en"),
        ("de,fr;q=0.5,en;q=0.4", "", "fr"),
        ("de", "", "fr"),
        ("en;q=none, fr", "", "fr"),
        ("en", "fr", "fr"),
        ("fr", "en", "en"),
        ("en", "de", "en"),
    ],
)
def test_the_switch_comes_before_what_the_browser_says_and_french_before_all(
    header: str, cookie: str, language: str
) -> None:
    headers = [(b"accept-language", header.encode()), (b"cookie", f"dpj-language={cookie}".encode())]
    assert language_of(Request({"type": "http", "headers": headers})) == language

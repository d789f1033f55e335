"""Results on disk: one JSON and one plot per bench, and docs/benchmarks.md made from them."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from benchmarks.console import goal_of
from benchmarks.plots import plot
from benchmarks.report import BenchReport, Chart, Ratio, figure

REPOSITORY: Final = Path(__file__).resolve().parent.parent
RESULTS: Final = REPOSITORY / "benchmarks" / "results"
PAGE: Final = REPOSITORY / "docs" / "benchmarks.md"
#: The longest line of prose on it.
WIDTH: Final = 120
_MARKED: Final = re.compile(r"(<!-- bench:(?P<name>[a-z_-]+) -->\n).*?(<!-- /bench -->)", re.DOTALL)


def write(folder: Path, report: BenchReport, circumstances: Mapping[str, Any]) -> None:
    """``NAME.json`` and, if it has a chart, ``NAME.svg``."""
    folder.mkdir(parents=True, exist_ok=True)
    document = {**report.document(), "circumstances": circumstances}
    text = json.dumps(document, indent=1, ensure_ascii=False)
    (folder / f"{report.name}.json").write_text(text + "\n", "utf-8")
    if report.chart is not None:
        (folder / f"{report.name}.svg").write_text(plot(report.chart), "utf-8")


def plot_again(folder: Path) -> None:
    """Every plot anew from its JSON."""
    for document in _all(folder).values():
        if document["chart"] is not None:
            chart = document["chart"]
            series = {name: tuple(values) for name, values in chart["series"].items()}
            (folder / f"{document['name']}.svg").write_text(plot(Chart(**{**chart, "series": series})), "utf-8")


def publish(folder: Path = RESULTS, page: Path = PAGE) -> None:
    """Fill the page's marked places from the results; what stands outside the marks is left as it is."""
    documents = _all(folder)

    def filled(place: re.Match[str]) -> str:
        name = place["name"]
        if name == "summary":
            lines = _summary(documents.values())
        elif name == "machine":
            lines = _machine(documents.values())
        elif name in documents:
            lines = _section(documents[name])
        else:
            lines = ["Not measured yet.", ""]
        return place[1] + "\n".join(map(_wrapped, lines)) + "\n" + place[3]

    page.write_text(_MARKED.sub(filled, page.read_text("utf-8")), "utf-8")


def _wrapped(line: str) -> str:
    """Prose in lines of the page's width; rows of tables and pictures stay whole."""
    if len(line) <= WIDTH or line.startswith(("|", "!")):
        return line
    indent = "  " if line.startswith("- ") else ""
    end = "\n" if line.endswith("\n") else ""
    return textwrap.fill(line, WIDTH, subsequent_indent=indent, break_long_words=False, break_on_hyphens=False) + end


def _all(folder: Path) -> dict[str, dict[str, Any]]:
    found = (json.loads(path.read_text("utf-8")) for path in sorted(folder.glob("*.json")))
    return {document["name"]: document for document in found}


def _ratio(document: Mapping[str, Any]) -> Ratio:
    return Ratio(**{name: value for name, value in document.items() if name != "verdict"})


def _summary(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    rows = [
        (ratio.name, f"{figure(ratio.value)} {ratio.unit}", goal_of(ratio), ratio.verdict)
        for document in documents
        for ratio in map(_ratio, document["ratios"])
    ]
    return ["", *_table(("figure", "measured", "goal", "verdict"), rows), ""]


def _machine(documents: Iterable[Mapping[str, Any]]) -> list[str]:
    latest = max((one["circumstances"] for one in documents), key=lambda one: str(one["measured_at"]), default=None)
    if latest is None:
        return ["", "Not measured yet.", ""]
    servers: dict[str, str] = {}
    libraries: dict[str, str] = {}
    for document in documents:
        servers |= document["circumstances"]["servers"]
        libraries |= document["circumstances"]["libraries"]
    rows = [
        ("processor", f"{latest['processor']}, {latest['cores']} cores"),
        ("memory", f"{latest['memory_gib']} GiB"),
        ("system", f"{latest['system']}, Linux {latest['kernel']}, Python {latest['python']}"),
        ("servers", _listed(servers)),
        ("libraries", _listed(libraries)),
    ]
    return ["", *_table(("what", "which"), rows), ""]


def _listed(versions: Mapping[str, str]) -> str:
    return ", ".join(f"{name} {version}" for name, version in sorted(versions.items()))


def _section(document: Mapping[str, Any]) -> list[str]:
    circumstances = document["circumstances"]
    lines = ["", *(f"- {sentence}" for sentence in document["method"])]
    lines.append(
        f"- Measured {circumstances['measured_at']}; load average of the machine before: {circumstances['load_before']}."
    )
    lines += ["", *_table(document["columns"], [tuple(map(figure, row)) for row in document["rows"]]), ""]
    for ratio in map(_ratio, document["ratios"]):
        lines.append(f"- **{ratio.name}: {figure(ratio.value)} {ratio.unit}** ({goal_of(ratio)}): {ratio.verdict}")
    if document["notes"]:
        lines += ["", *(f"{note}\n" for note in document["notes"])]
    if document["chart"] is not None:
        lines += ["", f"![{document['chart']['title']}](../benchmarks/results/{document['name']}.svg)", ""]
    return lines


def _table(columns: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    numeric = [all(row[number][:1].isdigit() or not row[number] for row in rows) for number in range(len(columns))]
    marks = ["---:" if is_number else "---" for is_number in numeric]
    return [_row(columns), _row(marks), *(_row(row) for row in rows)]


def _row(cells: Iterable[str]) -> str:
    return "| " + " | ".join(cells) + " |"

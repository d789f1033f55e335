"""All hostile cases, and the record of how those end whose end no rule foretells.

``python -m tests.support.hostile.corpus`` runs them and writes the record anew, for review.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

from tests.support.hostile import documents, images, mutations, names, polyglots
from tests.support.hostile.cases import Case
from tests.support.hostile.run import a_case_runner

RECORD = Path(__file__).with_name("ends.json")
GROUPS = {
    "images": images.cases,
    "structures": documents.structure_cases,
    "drawings": documents.content_cases,
    "polyglots": polyglots.cases,
    "mutations": mutations.cases,
    "names": names.cases,
}


def all_cases() -> dict[str, list[Case]]:
    """The cases by group, in the order in which they run."""
    return {group: list(cases()) for group, cases in GROUPS.items()}


def recorded() -> dict[str, str]:
    """Ends by the names of cases that have none of their own."""
    found: dict[str, str] = json.loads(RECORD.read_text("utf-8"))
    return found


async def _record(only: str) -> None:
    ends = recorded() if RECORD.exists() else {}
    async with a_case_runner() as (gauntlet, client):
        for group, cases in all_cases().items():
            for case in cases:
                if only not in (group, "all"):
                    continue
                result = await gauntlet.run(client, case)
                wrong = "" if case.end in (None, result.end) else f"   NOT {case.end}"
                print(f"{result.seconds:6.2f} s  {case.name}: {result.end}{wrong}", flush=True)
                if case.end is None:
                    ends[case.name] = result.end
        print(f"peak {gauntlet.peak >> 20} MB")
    known = {case.name for cases in all_cases().values() for case in cases if case.end is None}
    ends = {name: end for name, end in ends.items() if name in known}
    RECORD.write_text(json.dumps(dict(sorted(ends.items())), indent=1, ensure_ascii=False) + "\n", "utf-8")


if __name__ == "__main__":
    asyncio.run(_record(sys.argv[1] if len(sys.argv) > 1 else "all"))

"""What is owed and not on its way, and what a restore has left: the report, and the acts that put it right."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from fastapi import APIRouter
from starlette.responses import Response

from console.dependencies import Deps, Overseer
from console.findings import of_kafka
from console.pages_now import saying
from console.rendering import Writer
from domain.batches import Act
from domain.restores import REPAIRED_BY, Difference
from domain.shared.ids import uuid_or_none
from processors.operators.restore_steps import LastLook

router = APIRouter(prefix="/operations")

MOST_SHOWN: Final = 200
BATCHES: Final = 50
_RESTORE_ACTS: Final = frozenset({Act.CHECK_RESTORE, Act.REPAIR_RESTORE})
#: Kinds that say that something is lost or broken, or that the law minds; mails that went out are merely told.
_WORST: Final = frozenset(
    {
        Difference.ERASURE_UNDONE,
        Difference.DOCUMENT_LOST,
        Difference.LOG_BROKEN,
        Difference.CONTENT_MISSING,
        Difference.GED_MISSING,
    }
)


@dataclass(frozen=True, slots=True)
class DifferenceLine:
    """``count`` None: nobody could look; ``note`` says why. ``step``: of the repair, None where a person acts."""

    kind: str
    shape: str
    count: int | None
    note: str
    step: str | None


@router.get("/lost", name="lost_events")
async def lost_events(visitor: Overseer, deps: Deps) -> Response:
    """Events that somebody must still finish and that Kafka brings no more, by consumer and one by one."""
    report, overview = await deps.lost.get(), await deps.overview.get()
    # What is lost is told below by itself; that there are no topics to publish to is not.
    missing = [one for one in of_kafka(overview) if one.name != "lost"]
    rows = [(one, uuid_or_none(one.event.key)) for one in report.lost[:MOST_SHOWN]]
    return visitor.page(
        "lost.html",
        known=report.known,
        age=round(deps.lost.age),
        groups=[(name, count, report.oldest[name]) for name, count in sorted(report.count.items())],
        rows=rows,
        missing=missing,
        say=saying(visitor.texts, Writer(visitor.texts, visitor.zone, overview.at)),
        more=len(report.lost) > MOST_SHOWN,
        runbook=deps.runbook,
    )


@router.get("/restore", name="restore")
async def restore(visitor: Overseer, deps: Deps) -> Response:
    """Restores that are open, what the newest look found, and the steps that put it right."""
    overview = await deps.overview.get()
    last = await deps.last_look()
    batches = [one for one in await deps.desk.batches(visitor.caller, BATCHES) if one.request.act in _RESTORE_ACTS]
    return visitor.page(
        "restore.html",
        open=overview.restores,
        last=last,
        lines=[] if last is None else lines_of(last),
        repaired_since=last is not None
        and any(
            one.request.act is Act.REPAIR_RESTORE and one.changed_at and one.changed_at > last.at for one in batches
        ),
        batches=batches,
        runbook=deps.runbook,
    )


def lines_of(last: LastLook) -> list[DifferenceLine]:
    """What was found or could not be looked for; what is not there is left out."""
    lines = []
    for kind in REPAIRED_BY:
        count = last.count(kind)
        if count == 0:
            continue
        note, step = last.notes.get(kind, ""), REPAIRED_BY[kind]
        lines.append(DifferenceLine(kind.value, _shape(kind, count), count, note, step))
    return lines


def _shape(kind: Difference, count: int | None) -> str:
    if count is None:
        return "unknown"
    if kind is Difference.MAIL_SENT:
        return "rest"
    return "act" if kind in _WORST else "watch"

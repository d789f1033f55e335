"""One document's way, by logs and traces."""

from __future__ import annotations

from typing import Final

from deploy.observability.dashboards.description import Dashboard, Kind, Panel, Row, q

_LINES: Final = '{stack=~".+"}'
DASHBOARD: Final = Dashboard(
    name="document",
    title="DPJ / One document's way",
    about="Logs and traces of one document in all processes, by its id and by a trace's. Its state and proof are in the console.",
    asks={
        "document": "Id of a document",
        "trace": "Id of a trace: 32 hexadecimal digits",
        "console": "Address of the console, https://...",
    },
    rows=(
        Row(
            title="By the document's id",
            panels=(
                Panel(
                    title="Logs of this document",
                    kind=Kind.LOGS,
                    queries=(q(f'{_LINES} | document_id != "" | document_id = "$document"'),),
                    about="Each line's trace_id leads on to its trace.",
                ),
                Panel(
                    title="Traces of this document",
                    kind=Kind.TRACES,
                    queries=(q('{ span.dpj.document_id = "$document" }'),),
                ),
            ),
        ),
        Row(
            title="By a trace's id",
            panels=(
                Panel(
                    title="Logs of this trace",
                    kind=Kind.LOGS,
                    queries=(q(f'{_LINES} | trace_id != "" | trace_id = "$trace"'),),
                ),
                Panel(title="The trace", kind=Kind.TRACE, queries=(q("$trace"),)),
            ),
        ),
    ),
)

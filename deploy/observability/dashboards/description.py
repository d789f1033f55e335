"""What the dashboards show. No word of Grafana's JSON here: ``generate`` knows that.

Queries of metrics are PromQL; where a rule records a figure, the dashboards show that one and reckon nothing themselves. Unknown
figures are absent, never 0: a panel says so instead of a number. Labels of series (``by``) are those that our processes export;
a test holds that, and that every metric is on a dashboard or in an alert.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

UNKNOWN: Final = "unknown"
#: A figure that is there while something waits, and absent also while nobody knows.
NONE: Final = "nothing, or unknown"


class Kind(StrEnum):
    """``NOW``: a number with its colour. ``TREND``: lines over time. ``STATES``: bars of states over time. ``LOGS``: lines of logs.
    ``TRACES``: traces that are found. ``TRACE``: one, whole."""

    NOW = "now"
    TREND = "trend"
    STATES = "states"
    LOGS = "logs"
    TRACES = "traces"
    TRACE = "trace"


class Unit(StrEnum):
    """Grafana's names."""

    NUMBER = "short"
    SECONDS = "s"
    PER_SECOND = "ops"
    SHARE = "percentunit"
    BYTES_PER_SECOND = "Bps"


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """``by``: the label that names each series; empty: ``name`` does."""

    expr: str
    by: tuple[str, ...] = ()
    name: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Panel:
    """``red``: from this value on a person should look. ``absent``: what is said instead of a number that is not there."""

    title: str
    queries: tuple[Query, ...]
    kind: Kind = Kind.TREND
    unit: Unit = Unit.NUMBER
    about: str = ""
    red: float | None = None
    absent: str = UNKNOWN
    values: Mapping[int, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    title: str
    panels: tuple[Panel, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dashboard:
    """``asks``: text fields by the name of their variable, with what is to be put there."""

    name: str
    title: str
    about: str
    rows: tuple[Row, ...]
    asks: Mapping[str, str] = field(default_factory=dict)


def now(
    title: str, expr: str, *, unit: Unit = Unit.NUMBER, red: float | None = None, about: str = "", absent: str = UNKNOWN
) -> Panel:
    return Panel(
        title=title, queries=(Query(expr=expr),), kind=Kind.NOW, unit=unit, red=red, about=about, absent=absent
    )


def trend(
    title: str, *queries: Query, unit: Unit = Unit.NUMBER, red: float | None = None, about: str = "", absent: str = NONE
) -> Panel:
    return Panel(title=title, queries=queries, unit=unit, red=red, about=about, absent=absent)


def states(title: str, query: Query, values: Mapping[int, str], *, about: str = "") -> Panel:
    return Panel(title=title, queries=(query,), kind=Kind.STATES, values=values, about=about)


def q(expr: str, *by: str, name: str = "") -> Query:
    return Query(expr=expr, by=by, name=name)


def age(metric: str) -> str:
    """Seconds since the moment that a metric is."""
    return f"time() - {metric}"


def quantiles(metric: str, by: str, chosen: str = "") -> tuple[Query, ...]:
    """Median and 95 % of a histogram."""
    return tuple(
        Query(
            expr=f"histogram_quantile({share}, sum by (le, {by}) (rate({metric}_bucket{chosen}[$__rate_interval])))",
            by=(by,),
            name=f"{percent} %",
        )
        for share, percent in ((0.5, 50), (0.95, 95))
    )


_YES_NO: Final = {0: "no", 1: "yes"}

PAGES_FIRING: Final = now(
    "Alerts that page",
    'count(ALERTS{alertname=~"Dpj.*", alertstate="firing", severity="page"}) or vector(0)',
    red=1,
    about="Also those that Alertmanager keeps to itself, because another says why.",
)
OLDEST_DOCUMENT: Final = now(
    "Oldest document that waits",
    age("dpj_oldest_document_timestamp_seconds"),
    unit=Unit.SECONDS,
    red=900,
    absent=NONE,
    about="Whatever holds it: outbox, topic, hold, dead letter, GED. dpj overview names it.",
)
LAG_SECONDS: Final = trend(
    "Lag in seconds",
    q("dpj:lag_seconds:max", "consumer"),
    unit=Unit.SECONDS,
    red=300,
    about="How long ago the first record was written that the consumer has not consumed.",
)
OUTBOX_AGE: Final = trend(
    "Oldest row of the outbox",
    q(age("dpj_outbox_oldest_timestamp_seconds"), name="age"),
    unit=Unit.SECONDS,
    red=60,
)
HELD_AGE: Final = trend(
    "Oldest event that is held",
    q(age("dpj_events_held_oldest_timestamp_seconds"), "consumer", "dependency"),
    unit=Unit.SECONDS,
    red=900,
    about="By what it waits for.",
)
DEAD_LETTERS: Final = trend(
    "Dead letters that nobody has handled",
    q("sum by (consumer, code) (dpj_dead_letters_open)", "consumer", "code"),
    red=1,
)
CIRCUITS: Final = states(
    "Circuits",
    q("max by (dependency) (dpj_circuit_state)", "dependency"),
    {0: "closed", 1: "half open", 2: "open"},
    about="The worst of all processes. Half open: it is being asked whether it is there again.",
)

OVERVIEW: Final = Dashboard(
    name="overview",
    title="DPJ / Overview",
    about="How late the pipeline is, what burns, and whether anybody sees it.",
    rows=(
        Row(
            title="Now",
            panels=(
                PAGES_FIRING,
                OLDEST_DOCUMENT,
                now("Worst lag", "max(dpj:lag_seconds:max)", unit=Unit.SECONDS, red=300),
                now(
                    "Oldest row of the outbox",
                    age("dpj_outbox_oldest_timestamp_seconds"),
                    unit=Unit.SECONDS,
                    red=60,
                    absent=NONE,
                ),
                now("Dead letters", "sum(dpj_dead_letters_open)", red=1, absent=NONE),
                now("Processes that do not answer", 'sum(up{job="dpj"} == bool 0)', red=1),
            ),
        ),
        Row(
            title="How late",
            panels=(
                LAG_SECONDS,
                trend(
                    "Oldest document by state",
                    q(age("dpj_documents_oldest_timestamp_seconds"), "status"),
                    unit=Unit.SECONDS,
                    red=900,
                ),
                HELD_AGE,
            ),
        ),
        Row(
            title="Error budgets that are spent",
            panels=(
                trend(
                    "Requests with a 5xx",
                    q("dpj:http_errors:ratio_rate5m", name="5 min"),
                    q("dpj:http_errors:ratio_rate30m", name="30 min"),
                    q("dpj:http_errors:ratio_rate1h", name="1 h"),
                    q("dpj:http_errors:ratio_rate6h", name="6 h"),
                    unit=Unit.SHARE,
                    red=14.4 * 0.001,
                    about="Objective: 99.9 % without.",
                ),
                trend(
                    "Uploads that fail for a reason of ours",
                    q("dpj:failed_uploads:ratio_rate5m", name="5 min"),
                    q("dpj:failed_uploads:ratio_rate1h", name="1 h"),
                    unit=Unit.SHARE,
                    red=14.4 * 0.01,
                    about="Objective: 99 % do not.",
                ),
                trend(
                    "Reads that take longer than 500 ms",
                    q("dpj:slow_reads:ratio_rate5m", name="5 min"),
                    q("dpj:slow_reads:ratio_rate1h", name="1 h"),
                    unit=Unit.SHARE,
                    red=6 * 0.05,
                    about="Objective: 95 % do not.",
                ),
                trend(
                    "Events that take longer than 30 s",
                    q("dpj:late_events:ratio_rate5m", "consumer", name="5 min"),
                    q("dpj:late_events:ratio_rate1h", "consumer", name="1 h"),
                    unit=Unit.SHARE,
                    red=14.4 * 0.01,
                    about="Objective: 99 % do not.",
                ),
            ),
        ),
        Row(
            title="Does anybody see it?",
            panels=(
                states("Processes that answer", q('up{job="dpj"}', "process"), _YES_NO),
                states("Parts of the overview that are known", q("dpj_overview_known", "part"), _YES_NO),
                trend(
                    "Last look",
                    q(age("dpj_overview_last_look_timestamp_seconds"), name="at the pipeline"),
                    q(age("dpj_watchdog_last_look_timestamp_seconds"), name="at the offsets"),
                    unit=Unit.SECONDS,
                    red=120,
                    absent="nobody looks",
                ),
            ),
        ),
    ),
)

PIPELINE: Final = Dashboard(
    name="pipeline",
    title="DPJ / Pipeline",
    about="Consumers, outbox and documents: what moves, and what does not.",
    rows=(
        Row(
            title="Consumers",
            panels=(
                LAG_SECONDS,
                trend("Lag in records", q("sum by (consumer) (dpj_lag_records)", "consumer")),
                states("Lag is known", q("dpj_lag_known", "consumer"), _YES_NO),
                trend(
                    "Until Kafka deletes a record that is not consumed",
                    q("min by (consumer, topic) (dpj_retention_margin_seconds)", "consumer", "topic"),
                    unit=Unit.SECONDS,
                    about="Below three days somebody is woken.",
                ),
                trend(
                    "Events finished",
                    q(
                        "sum by (consumer, outcome) (rate(dpj_events_finished_total[$__rate_interval]))",
                        "consumer",
                        "outcome",
                    ),
                    unit=Unit.PER_SECOND,
                ),
                trend(
                    "Time from take to end, waiting included",
                    *quantiles("dpj_event_seconds", "consumer"),
                    unit=Unit.SECONDS,
                    red=30,
                ),
                states("Stalls", q("max by (consumer, topic) (dpj_stalled)", "consumer", "topic"), _YES_NO),
                states("Paused", q("max by (consumer) (dpj_consumer_paused)", "consumer"), _YES_NO),
                states("Crashes again and again", q("max by (consumer) (dpj_consumer_crashing)", "consumer"), _YES_NO),
                trend(
                    "Crashes and restarts",
                    q("sum by (consumer) (increase(dpj_consumer_crashes_total[1h]))", "consumer", name="crashes"),
                    q("sum by (consumer) (increase(dpj_watchdog_restarts_total[1h]))", "consumer", name="restarts"),
                    about="Within an hour.",
                ),
            ),
        ),
        Row(
            title="Outbox",
            panels=(
                OUTBOX_AGE,
                trend("Rows that wait", q("dpj_outbox_waiting_rows", name="rows"), about="Counting ends at 10,000."),
                trend(
                    "Rows published",
                    q("sum(rate(dpj_outbox_published_total[$__rate_interval]))", name="rows"),
                    unit=Unit.PER_SECOND,
                ),
                now("Relays that lead", "sum(dpj_outbox_leader)", about="One, and never two."),
                now("Rows that Kafka refuses", "max(dpj_outbox_refused)", red=1),
            ),
        ),
        Row(
            title="Documents",
            panels=(
                trend("Documents that wait", q("dpj_documents_waiting", "status"), about="Counting ends at 10,000."),
                trend(
                    "Oldest by state",
                    q(age("dpj_documents_oldest_timestamp_seconds"), "status"),
                    unit=Unit.SECONDS,
                    red=900,
                ),
                trend(
                    "Deposit of the document that has waited longest",
                    q(age("dpj_oldest_deposit_timestamp_seconds"), name="since its deposit"),
                    q(age("dpj_oldest_document_timestamp_seconds"), name="since it waits for us"),
                    unit=Unit.SECONDS,
                    about="Between the two a person decided.",
                ),
            ),
        ),
        Row(
            title="Files of strangers",
            panels=(
                trend(
                    "Verdicts of the antivirus",
                    q("sum by (finding) (increase(dpj_antivirus_verdicts_total[$__rate_interval]))", "finding"),
                ),
                trend(
                    "Parsers that were killed or died",
                    q("sum by (reason) (increase(dpj_parsers_lost_total[1h]))", "reason"),
                    about="Within an hour. FORBIDDEN_CALL: treat the document as an attack.",
                ),
                states("Layers around the parsers", q("min by (layer) (dpj_parsers_confined)", "layer"), _YES_NO),
                now("Documents are scanned", "min(dpj_antivirus_enabled)", about="1: yes."),
            ),
        ),
    ),
)

API: Final = Dashboard(
    name="api",
    title="DPJ / API",
    about="Requests, answers and their time, by route.",
    rows=(
        Row(
            title="Requests",
            panels=(
                trend(
                    "Answers by status",
                    q("sum by (status) (rate(dpj_http_requests_total[$__rate_interval]))", "status"),
                    unit=Unit.PER_SECOND,
                ),
                trend(
                    "Requests by route",
                    q("sum by (method, route) (rate(dpj_http_requests_total[$__rate_interval]))", "method", "route"),
                    unit=Unit.PER_SECOND,
                ),
                trend(
                    "5xx by route",
                    q(
                        'sum by (method, route) (rate(dpj_http_requests_total{status=~"5.."}[$__rate_interval]))',
                        "method",
                        "route",
                    ),
                    unit=Unit.PER_SECOND,
                ),
                trend(
                    "Problems by code",
                    q("sum by (code) (rate(dpj_http_problems_total[$__rate_interval]))", "code"),
                    unit=Unit.PER_SECOND,
                ),
            ),
        ),
        Row(
            title="Time",
            panels=(
                trend(
                    "Reads, contents apart",
                    *quantiles("dpj_http_request_seconds", "route", '{method="GET", route!~".*/content"}'),
                    unit=Unit.SECONDS,
                    red=0.5,
                ),
                trend(
                    "Uploads",
                    *quantiles("dpj_http_request_seconds", "route", '{method="POST", route="/api/v1/documents"}'),
                    unit=Unit.SECONDS,
                ),
                trend("Requests under way", q("sum(dpj_http_in_flight)", name="requests")),
                trend(
                    "Documents taken in",
                    q("sum(rate(dpj_upload_bytes_total[$__rate_interval]))", name="clear bytes"),
                    unit=Unit.BYTES_PER_SECOND,
                ),
            ),
        ),
        Row(
            title="The console",
            panels=(
                trend(
                    "Pages by status",
                    q("sum by (status) (rate(dpj_console_requests_total[$__rate_interval]))", "status"),
                    unit=Unit.PER_SECOND,
                ),
                trend(
                    "Time to a page's end",
                    *quantiles("dpj_console_request_seconds", "route"),
                    unit=Unit.SECONDS,
                ),
            ),
        ),
    ),
)

DELIVERY: Final = Dashboard(
    name="delivery",
    title="DPJ / Delivery",
    about="What is held for a dependency, tried again, given up or lost.",
    rows=(
        Row(
            title="Held",
            panels=(
                CIRCUITS,
                trend("Events that are held", q("dpj_events_held", "consumer", "dependency"), absent=NONE),
                HELD_AGE,
                trend(
                    "Events held now, as workers say",
                    q("sum by (consumer, dependency) (dpj_events_waiting)", "consumer", "dependency"),
                ),
                trend(
                    "Circuits opened",
                    q("sum by (dependency) (increase(dpj_circuit_opened_total[1h]))", "dependency"),
                    about="Within an hour.",
                ),
            ),
        ),
        Row(
            title="Tried again, and given up",
            panels=(
                trend(
                    "Tries that were repeated",
                    q(
                        "sum by (consumer, code) (rate(dpj_event_retries_total[$__rate_interval]))",
                        "consumer",
                        "code",
                    ),
                    unit=Unit.PER_SECOND,
                ),
                DEAD_LETTERS,
                trend(
                    "Events given up",
                    q(
                        "sum by (consumer, code)"
                        ' (increase(dpj_events_finished_total{outcome="dead_letter"}[$__rate_interval]))',
                        "consumer",
                        "code",
                    ),
                ),
                trend(
                    "Share of events that take longer than 30 s",
                    q("dpj:late_events:ratio_rate5m", "consumer"),
                    unit=Unit.SHARE,
                    red=14.4 * 0.01,
                ),
            ),
        ),
        Row(
            title="Lost by Kafka",
            panels=(
                trend("Events that are owed", q("max by (consumer) (dpj_events_owed)", "consumer"), red=1),
                trend(
                    "Since when",
                    q("max by (consumer) (time() - dpj_events_owed_oldest_timestamp_seconds)", "consumer"),
                    unit=Unit.SECONDS,
                ),
                now(
                    "Last look for them",
                    "min(time() - dpj_events_owed_looked_timestamp_seconds)",
                    unit=Unit.SECONDS,
                ),
                trend(
                    "Events published again",
                    q("sum(increase(dpj_events_re_emitted_total[1h]))", name="events"),
                    about="Within an hour.",
                ),
            ),
        ),
    ),
)

PROOF: Final = Dashboard(
    name="proof",
    title="DPJ / Proof",
    about="The audit log and its checkpoints, reconciling, erasure, restores.",
    rows=(
        Row(
            title="Audit log",
            panels=(
                now(
                    "Newest signed checkpoint",
                    age("dpj_checkpoint_newest_timestamp_seconds"),
                    unit=Unit.SECONDS,
                    absent="none, or unknown",
                ),
                now("Tenants with entries that none covers", "dpj_checkpoint_uncovered_tenants"),
                trend(
                    "Longest wait for a checkpoint",
                    q(age("dpj_checkpoint_due_timestamp_seconds"), name="wait"),
                    unit=Unit.SECONDS,
                    red=3600,
                ),
                trend(
                    "Lag of the audit log",
                    q('max(dpj_lag_seconds{consumer="audit"})', name="audit"),
                    unit=Unit.SECONDS,
                    red=300,
                    about="No recording rule has one consumer: this is its own figure.",
                ),
                states("Steps that stand", q("max by (step) (dpj_audit_stopped)", "step"), _YES_NO),
            ),
        ),
        Row(
            title="Do the stores agree?",
            panels=(
                trend("Faults that were left", q("max by (fault) (dpj_reconcile_findings)", "fault"), red=1),
                trend(
                    "Faults repaired",
                    q("sum by (fault) (increase(dpj_reconcile_repaired_total[1d]))", "fault"),
                    about="Within a day.",
                ),
                now(
                    "Last run that looked at everything",
                    "time() - max(dpj_reconcile_finished_timestamp_seconds > 0)",
                    unit=Unit.SECONDS,
                    red=86_400,
                    absent="none yet, or unknown",
                ),
                states("Restores that are looked at", q("max by (store) (dpj_restores_open)", "store"), _YES_NO),
                now("Schemas that the registry does not know", "max(dpj_schemas_missing)", red=1),
            ),
        ),
        Row(
            title="Erasure and retention",
            panels=(
                trend("Erasures that wait", q("max(dpj_erasures_waiting)", name="erasures")),
                trend(
                    "Oldest erasure",
                    q("max(dpj_erasure_oldest_seconds)", name="wait"),
                    unit=Unit.SECONDS,
                    red=86_400,
                ),
                trend(
                    "Documents whose retention is over",
                    q("max(dpj_documents_due)", name="due"),
                    q("max(dpj_documents_due_held)", name="kept by a legal hold"),
                ),
            ),
        ),
    ),
)

_LINES: Final = '{stack=~".+"}'
DOCUMENT: Final = Dashboard(
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

ALL: Final = (OVERVIEW, PIPELINE, API, DELIVERY, PROOF, DOCUMENT)

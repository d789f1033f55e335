"""How late the pipeline is, what burns, and whether anybody sees it."""

from __future__ import annotations

from typing import Final

from deploy.observability.dashboards.description import (
    HELD_AGE,
    LAG_SECONDS,
    NONE,
    YES_NO,
    Dashboard,
    Row,
    Unit,
    age,
    now,
    q,
    states,
    trend,
)

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
DASHBOARD: Final = Dashboard(
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
                states("Processes that answer", q('up{job="dpj"}', "process"), YES_NO),
                states("Parts of the overview that are known", q("dpj_overview_known", "part"), YES_NO),
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

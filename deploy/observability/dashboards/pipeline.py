"""Consumers, outbox and documents: what moves, and what does not."""

from __future__ import annotations

from typing import Final

from deploy.observability.dashboards.description import (
    LAG_SECONDS,
    YES_NO,
    Dashboard,
    Row,
    Unit,
    age,
    now,
    q,
    quantiles,
    states,
    trend,
)

OUTBOX_AGE: Final = trend(
    "Oldest row of the outbox",
    q(age("dpj_outbox_oldest_timestamp_seconds"), name="age"),
    unit=Unit.SECONDS,
    red=60,
)
DASHBOARD: Final = Dashboard(
    name="pipeline",
    title="DPJ / Pipeline",
    about="Consumers, outbox and documents: what moves, and what does not.",
    rows=(
        Row(
            title="Consumers",
            panels=(
                LAG_SECONDS,
                trend("Lag in records", q("sum by (consumer) (dpj_lag_records)", "consumer")),
                states("Lag is known", q("dpj_lag_known", "consumer"), YES_NO),
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
                states("Stalls", q("max by (consumer, topic) (dpj_stalled)", "consumer", "topic"), YES_NO),
                states("Paused", q("max by (consumer) (dpj_consumer_paused)", "consumer"), YES_NO),
                states("Crashes again and again", q("max by (consumer) (dpj_consumer_crashing)", "consumer"), YES_NO),
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
                states("Layers around the parsers", q("min by (layer) (dpj_parsers_confined)", "layer"), YES_NO),
                now("Documents are scanned", "min(dpj_antivirus_enabled)", about="1: yes."),
            ),
        ),
    ),
)

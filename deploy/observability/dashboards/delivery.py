"""What is held for a dependency, tried again, given up or lost."""

from __future__ import annotations

from typing import Final

from deploy.observability.dashboards.description import HELD_AGE, NONE, Dashboard, Row, Unit, now, q, states, trend

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
DASHBOARD: Final = Dashboard(
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

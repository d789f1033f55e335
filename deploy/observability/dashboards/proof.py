"""The audit log and its checkpoints, reconciling, erasure, restores."""

from __future__ import annotations

from typing import Final

from deploy.observability.dashboards.description import YES_NO, Dashboard, Row, Unit, age, now, q, states, trend

DASHBOARD: Final = Dashboard(
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
                    q('dpj:lag_seconds:max{consumer="audit"}', name="audit"),
                    unit=Unit.SECONDS,
                    red=300,
                ),
                states("Steps that stand", q("max by (step) (dpj_audit_stopped)", "step"), YES_NO),
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
                states("Restores that are looked at", q("max by (store) (dpj_restores_open)", "store"), YES_NO),
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

"""Requests, answers and their time, by route."""

from __future__ import annotations

from typing import Final

from deploy.observability.dashboards.description import Dashboard, Row, Unit, q, quantiles, trend

DASHBOARD: Final = Dashboard(
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

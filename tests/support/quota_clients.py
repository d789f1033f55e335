"""Clients that keep to the API's quotas."""

from __future__ import annotations

import time

import httpx


class QuotaKeepingTransport(httpx.HTTPTransport):
    """Waits where the API says that it is called too often, as a portal would."""

    def handle_request(self, request: httpx.Request) -> httpx.Response:
        while True:
            answer = super().handle_request(request)
            if answer.status_code != httpx.codes.TOO_MANY_REQUESTS:
                return answer
            answer.read()
            answer.close()
            time.sleep(int(answer.headers["Retry-After"]))

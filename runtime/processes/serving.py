"""The API's HTTP server: its bounds on connections, heads and what waits of a body."""

from __future__ import annotations

import math
import ssl
from typing import Final

import uvicorn
from starlette.types import ASGIApp
from uvicorn.protocols.http import httptools_impl

from ingest_api.client_addresses import proxy_networks
from ingest_api.protocol import Bounds, bounded_protocol
from runtime.observability.health import EmbeddedServer

#: Bytes of a request's body that may wait for us before its socket is left unread.
BODY_BUFFER: Final = 256 * 1024


def api_server(
    app: ASGIApp,
    *,
    host: str,
    port: int,
    head_seconds: float,
    connections: int,
    send_seconds: float = 60.0,
    per_address: int = 0,
    trusted_proxies: str = "",
    drain_seconds: float = 15.0,
    tls: ssl.SSLContext | None = None,
) -> EmbeddedServer:
    """``connections``: open ones; beyond, requests are answered 503. ``per_address``: open ones of one address, 0 for any
    number. ``send_seconds``: how long a client may leave an answer unread. ``trusted_proxies``: addresses or networks, with
    commas, whose X-Forwarded-For and X-Forwarded-Proto are believed, and whose connections are not counted by address.
    Raises ValueError for proxies that are neither."""
    proxies = proxy_networks(trusted_proxies)
    bounds = Bounds(head_seconds, send_seconds, per_address, proxies)
    # Its 64 KB stop and start the socket for nearly every read of an upload; there is no setting for it.
    vars(httptools_impl)["HIGH_WATER_LIMIT"] = BODY_BUFFER
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        http=bounded_protocol(bounds),
        ws="none",
        log_config=None,
        lifespan="off",  # what is open is the site's; cancelled at a failed start, it would log a traceback
        access_log=False,
        server_header=False,
        proxy_headers=bool(proxies),
        forwarded_allow_ips=[str(network) for network in proxies],
        limit_concurrency=connections,
        timeout_graceful_shutdown=math.ceil(drain_seconds),
    )
    if tls is not None:
        # Its own settings for TLS know files, and neither a lowest version nor a certificate that changes.
        config.load()
        config.ssl = tls
    return EmbeddedServer(config)

"""A collector of spans: the receiving end of OTLP over HTTP. Nothing of the product is imported here."""

from __future__ import annotations

import ssl
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.support.sent_spans import SentSpan


class OtlpReceiver:
    """The end of OTLP/HTTP that takes spans (https://opentelemetry.io/docs/specs/otlp/#otlphttp), with the protocol's own messages."""

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                given = (self.path, self.headers["Content-Type"])
                self.send_response(200 if given == ("/v1/traces", "application/x-protobuf") else 400)
                self.send_header("Content-Type", "application/x-protobuf")
                self.send_header("Content-Length", "0")
                self.end_headers()
                receiver.bodies.append(body)

            def log_message(self, *_: object) -> None: ...

        #: All that was sent, in the protocol's own form: its strings stand there as they are.
        self.bodies: list[bytes] = []
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"{'https' if tls else 'http'}://127.0.0.1:{self._server.server_address[1]}"
        if tls is not None:
            self._server.socket = tls.wrap_socket(self._server.socket, server_side=True)
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def spans(self, trace: str) -> list[SentSpan]:
        """Those of one trace, whose id is given in hex."""
        wanted = bytes.fromhex(trace)
        return [span for body in list(self.bodies) if wanted in body for span in _read(body) if span.trace == trace]

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


def _read(body: bytes) -> Iterator[SentSpan]:
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
        about = {one.key: _value(one.value) for one in resource.resource.attributes}
        for scope in resource.scope_spans:
            for span in scope.spans:
                yield _sent(str(about["service.name"]), span)


def _value(value: Any) -> Any:
    return getattr(value, value.WhichOneof("value"))


def _sent(process: str, span: Any) -> SentSpan:
    return SentSpan(
        process=process,
        name=span.name,
        kind=type(span).SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
        trace=span.trace_id.hex(),
        id=span.span_id.hex(),
        parent=span.parent_span_id.hex(),
        links=tuple(link.span_id.hex() for link in span.links),
        attributes={one.key: _value(one.value) for one in span.attributes},
        began=span.start_time_unix_nano / 1e9,
        ended=span.end_time_unix_nano / 1e9,
        failed=span.status.code == 2,  # STATUS_CODE_ERROR
    )

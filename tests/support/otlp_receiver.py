"""A receiver of spans: Python's own HTTP server, which reads OTLP with the protobuf that OpenTelemetry publishes."""

from __future__ import annotations

import contextlib
import gzip
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest


class Got(NamedTuple):
    """One span that came."""

    name: str
    kind: int
    trace_id: str
    span_id: str
    parent_id: str
    start: float
    end: float
    attributes: dict[str, Any]
    error: str
    """The description of a status that is an error; empty: it is none."""
    resource: dict[str, Any]


def _plain(attributes: Any) -> dict[str, Any]:
    return {each.key: getattr(each.value, each.value.WhichOneof("value")) for each in attributes}


def read_spans(body: bytes) -> list[Got]:
    request = ExportTraceServiceRequest.FromString(body)
    return [
        Got(
            span.name,
            span.kind,
            span.trace_id.hex(),
            span.span_id.hex(),
            span.parent_span_id.hex(),
            span.start_time_unix_nano / 1e9,
            span.end_time_unix_nano / 1e9,
            _plain(span.attributes),
            span.status.message if span.status.code == 2 else "",
            _plain(of_resource.resource.attributes),
        )
        for of_resource in request.resource_spans
        for scope in of_resource.scope_spans
        for span in scope.spans
    ]


class OtlpReceiver:
    def __init__(self, answer: Callable[[int], int], port: int, location: str) -> None:
        self.spans: list[Got] = []
        self.bodies: list[bytes] = []
        self.fields: list[Mapping[str, str]] = []
        self.requests = 0
        self._ended = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                if self.headers["Content-Encoding"] == "gzip":
                    body = gzip.decompress(body)
                status = answer(receiver.requests)
                receiver.requests += 1
                receiver.fields.append(dict(self.headers.items()))
                if not status:
                    receiver._ended.wait()
                    self.close_connection = True
                    return
                if status == 200:
                    receiver.bodies.append(body)
                    receiver.spans += read_spans(body)
                self.send_response(status)
                self.send_header("Content-Length", "0")
                if location:
                    self.send_header("Location", location)
                self.end_headers()

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # the engine has gone

        self._server = Server(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        self.url = f"http://127.0.0.1:{self.port}/v1/traces"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def wait(self, condition: Callable[[], bool], within: float = 30.0) -> None:
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, [(one.name, one.attributes) for one in self.spans[-9:]]
            time.sleep(0.02)

    def close(self) -> None:
        self._ended.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def otlp_receiver(
    answer: Callable[[int], int] = lambda _: 200, port: int = 0, location: str = ""
) -> Iterator[OtlpReceiver]:
    """*answer*: of the number of a request, from 0: its status; 0: nothing is said until the receiver ends.
    *location*: said with each answer."""
    it = OtlpReceiver(answer, port, location)
    try:
        yield it
    finally:
        it.close()

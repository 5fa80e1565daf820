"""A receiver of webhooks: Python's own HTTP server, scripted, which verifies as receivers do."""

from __future__ import annotations

import contextlib
import json
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, NamedTuple

from standardwebhooks import Webhook

from tests.support.tls import Certificates

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="


class Request(NamedTuple):
    """One that came, verified."""

    id: str
    body: bytes
    status: int
    """What it was answered; 0: nothing."""
    fields: Mapping[str, str]

    @property
    def events(self) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = json.loads(self.body)["data"]
        return found


class Reply(NamedTuple):
    status: int = 204
    fields: Mapping[str, str] = {}
    body: bytes = b""


Script = Callable[[int], Reply | None]
"""Of the number of a request, from 0: what it is answered; None: nothing, until the receiver ends."""


class Receiver:
    def __init__(self, script: Script, certificates: Certificates | None, secret: str, port: int) -> None:
        self.requests: list[Request] = []
        self.connections = 0
        self.last_body = b""
        """Of the request that the script is asked about."""
        self.script = script
        self._verify = Webhook(secret).verify
        self._ended = threading.Event()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def setup(self) -> None:
                receiver.connections += 1
                super().setup()

            def do_POST(self) -> None:
                receiver.take(self)

            def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - http.server's
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, request: Any, client_address: Any) -> None:
                pass  # the engine was killed

        self._server = Server(("127.0.0.1", port), Handler)
        self.port: int = self._server.server_address[1]
        self.url = f"{'https' if certificates else 'http'}://localhost:{self.port}/hook?of=mcmt"
        if certificates is not None:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            context.load_cert_chain(certificates.server, certificates.server_key)
            self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.05,), daemon=True)
        self._thread.start()

    def take(self, handler: BaseHTTPRequestHandler) -> None:
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        fields = dict(handler.headers.items())
        self._verify(body, fields)  # raises where it is not right: then the request is not among them
        self.last_body = body
        reply = self.script(len(self.requests))
        status = 0 if reply is None else reply.status
        self.requests.append(Request(fields["webhook-id"], body, status, fields))
        if reply is None:
            self._ended.wait()
            handler.close_connection = True
            return
        handler.send_response(reply.status)
        for name, value in reply.fields.items():
            handler.send_header(name, value)
        if reply.status != 204:
            handler.send_header("Content-Length", str(len(reply.body)))
        handler.end_headers()
        handler.wfile.write(reply.body)

    @property
    def taken(self) -> list[dict[str, Any]]:
        """The events of the requests that were answered 2xx, in order."""
        return [event for one in self.requests if 200 <= one.status < 300 for event in one.events]

    def wait(self, condition: Callable[[], bool], within: float = 30.0) -> None:
        deadline = time.monotonic() + within
        while not condition():
            assert time.monotonic() < deadline, [(one.id, one.status) for one in self.requests[-9:]]
            time.sleep(0.02)

    def release(self) -> None:
        """Hang up on those that are answered nothing."""
        self._ended.set()

    def end(self) -> None:
        self.release()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


@contextlib.contextmanager
def receiver(
    script: Script = lambda _: Reply(),
    certificates: Certificates | None = None,
    secret: str = SECRET,
    port: int = 0,
) -> Iterator[Receiver]:
    """One that runs, on a *port* of the system's choice or on one that is given."""
    it = Receiver(script, certificates, secret, port)
    try:
        yield it
    finally:
        it.end()

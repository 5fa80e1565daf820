"""A gateway that gets no further than TLS: it judges the client's certificate and says so by an alert.

Threads and blocking sockets, because asyncio's servers close without sending the alert.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import threading
import time


class Refusal:
    """Listens on loopback; ``accepted`` has the time of each connection."""

    def __init__(self, context: ssl.SSLContext) -> None:
        self._context = context
        self.accepted: list[float] = []
        self.port = 0

    async def __aenter__(self) -> Refusal:
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(10)
        self.port = self._listener.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._listener.close()

    def _serve(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            self.accepted.append(time.monotonic())
            client.settimeout(2)
            with client, contextlib.suppress(OSError):
                # A socket of its own, so that TLS's end is not TCP's: what the client still says has to be read, or the
                # kernel sends RST and takes the alert with it.
                judge = self._context.wrap_socket(client.dup(), server_side=True, do_handshake_on_connect=False)
                with judge, contextlib.suppress(ssl.SSLError):
                    judge.do_handshake()
                client.shutdown(socket.SHUT_WR)
                while client.recv(4096):
                    pass

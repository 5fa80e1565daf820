"""A feedback service in a thread of its own: sends what a test says, as split as it says, and sees how the reader ends.

Nothing of mcmt is in it, so that what it counts is a peer's count.
"""

from __future__ import annotations

import contextlib
import os
import socket
import ssl
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Literal, NamedTuple

from tests.support.tls import Certificates


def tuples(*told: tuple[int, str]) -> bytes:
    """Time and token of each, as they go over the wire."""
    return b"".join(struct.pack(">IH", time, len(token) // 2) + bytes.fromhex(token) for time, token in told)


class Visit(NamedTuple):
    """What a reader is sent, a write each, and how that ends."""

    chunks: tuple[bytes, ...] = ()
    ends: Literal["goodbye", "close", "reset", "silence"] = "goodbye"
    """``goodbye``: TLS close_notify. ``close``: TCP alone. ``silence``: waits until the reader ends."""


class FeedbackService:
    """Listens on a port of its own; ``visit`` says what the nth reader (from 1) is sent."""

    def __init__(
        self, certificates: Certificates, visit: Callable[[int], Visit], *, demands_certificate: bool = False
    ) -> None:
        self._visit = visit
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.server, certificates.server_key)
        if demands_certificate:
            self._context.load_verify_locations(certificates.server)  # which the client's is not signed by
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self.port = int(self._listener.getsockname()[1])
        self.sent = 0
        """Visits whose chunks were all sent."""
        self.visits: list[str] = []
        """How each reader ended, in the order of the ends: ``closed`` in good order, or ``reset``."""
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    @property
    def route(self) -> str:
        """To be read."""
        return f"apn-feedback://localhost:{self.port}"

    def wait(self, condition: Callable[[], bool], within: float = 20.0) -> None:
        """Return when *condition* holds."""
        with self._changed:
            assert self._changed.wait_for(condition, within), self.visits

    def close(self) -> None:
        """Hear nobody any more."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        for connection in list(self._open):
            with contextlib.suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        self._accepting.join(5)
        for thread in self._threads:
            thread.join(5)

    def _accept(self) -> None:
        number = 0
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                return
            number += 1
            thread = threading.Thread(target=self._serve, args=(connection, number), daemon=True)
            self._threads.append(thread)
            thread.start()

    def _serve(self, connection: socket.socket, number: int) -> None:
        ended = "reset"
        tls = self._context.wrap_socket(
            connection, server_side=True, suppress_ragged_eofs=False, do_handshake_on_connect=False
        )
        self._open.add(tls)
        try:
            tls.do_handshake()
            visit = self._visit(number)
            for chunk in visit.chunks:
                tls.sendall(chunk)
            with self._changed:
                self.sent += 1
                self._changed.notify_all()
            ended = self._end(tls, visit.ends)
        except (OSError, ValueError):  # ssl.SSLError is an OSError
            pass
        finally:
            tls.close()
            with self._changed:
                self.visits.append(ended)
                self._changed.notify_all()

    def _end(self, tls: ssl.SSLSocket, how: str) -> str:
        if how == "reset":
            tls.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            tls.close()
            return "was reset"
        if how == "goodbye":
            tls.unwrap().close()  # waits for the reader's goodbye; a reset is an OSError
            return "closed"
        if how == "close":
            tls.shutdown(socket.SHUT_WR)
        # Below TLS, which would take a reset for an end.
        with socket.socket(fileno=os.dup(tls.fileno())) as raw:
            while raw.recv(1024):
                pass
        return "closed"


@contextlib.contextmanager
def feedback_service(
    certificates: Certificates, visit: Callable[[int], Visit], *, demands_certificate: bool = False
) -> Iterator[FeedbackService]:
    """A running service, ended afterwards."""
    service = FeedbackService(certificates, visit, demands_certificate=demands_certificate)
    try:
        yield service
    finally:
        service.close()

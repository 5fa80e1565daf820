"""A gateway of the binary protocol in threads of its own: reads frames by hand, counts them, and does what a test says.

Nothing of mcmt is in it, so that what it counts is a peer's count.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import NamedTuple

from tests.support.tls import Certificates

LINGER = 5.0
"""Seconds that a faithful gateway reads on after its error packet, so that the packet is not lost."""


class Frame(NamedTuple):
    """A notification as it came."""

    connection: int
    """From 1, in the order in which they were accepted."""
    number: int
    """From 1, on its connection."""
    identifier: int
    token: str
    payload: bytes
    expiration: int
    priority: int


class Error(NamedTuple):
    """What the gateway does instead of taking a frame."""

    packet: bytes = b""
    """Sent before it closes."""
    takes: bool = False
    """Takes this frame all the same, and none behind it, as with status 10."""
    linger: bool = True
    """Reads to the end before closing; otherwise it closes at once, in the face of whoever still writes."""


def error(frame: Frame, status: int, **how: bool) -> Error:
    """The packet that names *frame*."""
    return Error(struct.pack(">BBI", 8, status, frame.identifier), **how)


class BinaryGateway:
    """Listens on a port of its own; ``judge`` says what becomes of a frame: None takes it."""

    def __init__(
        self,
        certificates: Certificates,
        judge: Callable[[Frame], Error | None],
        *,
        demands_certificate: bool = False,
        receive_buffer: int = 0,
    ) -> None:
        self._judge = judge
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._context.load_cert_chain(certificates.server, certificates.server_key)
        if demands_certificate:
            self._context.load_verify_locations(certificates.server)  # which the client's is not signed by
            self._context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", 0))
        if receive_buffer:  # inherited by what it accepts
            self._listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        self._ending = False
        self._lock = threading.Lock()
        self._threads: list[threading.Thread] = []
        self._open: set[socket.socket] = set()
        self.port = int(self._listener.getsockname()[1])
        self.taken: list[Frame] = []
        """What it took, over all connections, in order."""
        self.read = 0
        """Frames that it read, taken or not."""
        self.connections = 0
        self.reading = threading.Event()
        """Cleared: it reads nothing."""
        self.reading.set()

    def tokens(self) -> list[str]:
        """The tokens of what it took."""
        return [frame.token for frame in self.taken]

    def start(self) -> None:
        self._spawn(self._accept)

    def stop(self) -> None:
        self._ending = True
        self.reading.set()
        for each in (self._listener, *self._open):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(10)
            assert not thread.is_alive()
        self._listener.close()

    def _spawn(self, target: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=target, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self._ending:
            try:
                raw, _ = self._listener.accept()
            except OSError:
                return
            self.connections += 1
            # Else Nagle keeps the packet back, and a close at once throws it away before it was sent.
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._spawn(self._serve, raw, self.connections)

    def _serve(self, raw: socket.socket, connection: int) -> None:
        self._open.add(raw)
        try:
            with self._context.wrap_socket(raw, server_side=True) as secure:
                self._open.add(secure)
                try:
                    self._converse(secure, connection)
                finally:
                    self._open.discard(secure)
        except OSError:  # ssl.SSLError is one: the client hung up
            pass
        finally:
            self._open.discard(raw)
            raw.close()

    def _converse(self, secure: ssl.SSLSocket, connection: int) -> None:
        number = 0
        buffer = b""
        while not self._ending:
            self.reading.wait()
            data = secure.recv(65536)
            if not data:
                return
            buffer += data
            at = 0
            while (end := _end(buffer, at)) is not None:
                number += 1
                frame = _frame(buffer[at:end], connection, number)
                at = end
                verdict = self._judge(frame)
                with self._lock:
                    self.read += 1
                    if verdict is None or verdict.takes:
                        self.taken.append(frame)
                if verdict is not None:
                    self._refuse(secure, verdict)
                    return
            buffer = buffer[at:]

    def _refuse(self, secure: ssl.SSLSocket, verdict: Error) -> None:
        if verdict.packet:
            secure.sendall(verdict.packet)
        if verdict.linger:
            raw = secure.detach()
            with socket.socket(fileno=raw) as plain:
                self._open.add(plain)
                with contextlib.suppress(OSError):
                    plain.shutdown(socket.SHUT_WR)
                    plain.settimeout(0.1)
                    deadline = time.monotonic() + LINGER
                    while time.monotonic() < deadline and not self._ending:
                        with contextlib.suppress(TimeoutError):
                            if not plain.recv(65536):
                                break
                self._open.discard(plain)


def _end(buffer: bytes, at: int) -> int | None:
    if len(buffer) - at < 5:
        return None
    assert buffer[at] == 2, "frames are sent as command 2"
    end = at + 5 + int.from_bytes(buffer[at + 1 : at + 5], "big")
    return end if end <= len(buffer) else None


def _frame(data: bytes, connection: int, number: int) -> Frame:
    items: dict[int, bytes] = {}
    at = 5
    while at < len(data):
        kind, size = struct.unpack_from(">BH", data, at)
        items[kind] = data[at + 3 : at + 3 + size]
        at += 3 + size
    assert sorted(items) == [1, 2, 3, 4, 5]
    numbers = [int.from_bytes(items[kind], "big") for kind in (3, 4, 5)]
    return Frame(connection, number, numbers[0], items[1].hex(), items[2], numbers[1], numbers[2])


@contextlib.contextmanager
def binary_gateway(
    certificates: Certificates, judge: Callable[[Frame], Error | None] = lambda _: None, **options: int
) -> Iterator[BinaryGateway]:
    """A running one."""
    gateway = BinaryGateway(certificates, judge, **options)  # type: ignore[arg-type]  # its own keywords
    gateway.start()
    try:
        yield gateway
    finally:
        gateway.stop()

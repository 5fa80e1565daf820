"""TLS over a transport that is read to its last byte, against the standard library's TLS in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
import threading
from collections.abc import Callable, Iterator

import pytest

from channels.apn.binary.stream import TlsStream, open_stream
from channels.apn.options import Options
from mcmt.errors import ConnectError
from tests.support.tls import Certificates

PACKET = b"\x08\x08\x00\x00\x00\x07"


class Owner:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.stream: TlsStream | None = None
        self.said = b""
        self.drains = 0
        self.ends: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def opened(self, stream: TlsStream) -> None:
        self.stream = stream

    def received(self, data: bytes) -> None:
        assert not self.ends.done(), "nothing comes after the end"
        self.said += data

    def drained(self) -> None:
        self.drains += 1

    def lost(self, error: Exception | None) -> None:
        self.ends.set_result(error)


@contextlib.contextmanager
def peer(certificates: Certificates, act: Callable[[ssl.SSLSocket], None]) -> Iterator[tuple[int, threading.Event]]:
    """A port on which one connection is served by *act*, and an event that says when it is closed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)
    done = threading.Event()

    def serve() -> None:
        with contextlib.suppress(OSError):
            raw, _ = listener.accept()
            # Else Nagle keeps a short answer back, and the close that follows throws it away on the peer's side.
            raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with raw, context.wrap_socket(raw, server_side=True) as secure:
                act(secure)
        done.set()

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        try:
            yield listener.getsockname()[1], done
        finally:
            with contextlib.suppress(OSError):
                listener.shutdown(socket.SHUT_RDWR)
            thread.join(10)
            assert not thread.is_alive()


async def connected(port: int, certificates: Certificates) -> tuple[Owner, TlsStream]:
    owner = Owner()
    await open_stream("localhost", port, Options.model_validate({"tls_ca": str(certificates.ca)}), owner)
    assert owner.stream is not None
    return owner, owner.stream


async def test_what_the_peer_said_before_it_closed_is_heard_when_our_writing_has_failed(
    certificates: Certificates,
) -> None:
    """It closes with bytes of ours unread, so the kernel resets the connection: our next write fails."""

    go = threading.Event()

    def complain(secure: ssl.SSLSocket) -> None:
        go.wait(10)
        secure.sendall(PACKET)

    with peer(certificates, complain) as (port, done):
        owner, stream = await connected(port, certificates)
        stream.write(bytes(50_000))
        async with asyncio.timeout(10):
            while stream.unsent():
                await asyncio.sleep(0.005)
        go.set()
        # On the loop on purpose: nothing is read before the peer has gone and we have written to nobody.
        assert done.wait(10)
        stream.write(bytes(50_000))
        await asyncio.wait_for(owner.ends, 10)
    assert owner.said == PACKET


async def test_both_sides_hear_each_other_and_a_goodbye_is_no_error(certificates: Certificates) -> None:
    heard = []

    def echo(secure: ssl.SSLSocket) -> None:
        heard.append(secure.recv(100))
        secure.sendall(heard[0][::-1])
        secure.settimeout(10)
        heard.append(secure.recv(100))

    with peer(certificates, echo) as (port, done):
        owner, stream = await connected(port, certificates)
        stream.write(b"abc")
        async with asyncio.timeout(10):
            while not owner.said:
                await asyncio.sleep(0.005)
            assert owner.said == b"cba"
            assert stream.remote_address == "127.0.0.1"
            stream.close()
            assert await owner.ends is None
            await asyncio.to_thread(done.wait, 10)
    assert heard == [b"abc", b""], "a goodbye, and not an end in the middle"


async def test_what_is_not_acknowledged_is_told(certificates: Certificates) -> None:
    release = threading.Event()

    def read_late(secure: ssl.SSLSocket) -> None:
        release.wait(10)
        while secure.recv(65536):
            pass

    size = 20_000_000  # more than kernels keep for a connection
    with peer(certificates, read_late) as (port, _):
        owner, stream = await connected(port, certificates)
        stream.write(bytes(size))
        await asyncio.sleep(0.05)
        assert 0 < stream.unsent() <= size * 1.01
        assert not stream.writable
        release.set()
        async with asyncio.timeout(20):
            while stream.unsent():
                await asyncio.sleep(0.01)
        assert stream.writable
        assert owner.drains == 1
        stream.abort()
        await asyncio.wait_for(owner.ends, 10)


async def test_a_peer_that_speaks_no_tls_or_hangs_up_is_a_connect_error(certificates: Certificates) -> None:
    for greeting in (b"220 mail.example.com ESMTP\r\n", b""):
        with socket.create_server(("127.0.0.1", 0)) as listener:

            def serve(listener: socket.socket = listener, greeting: bytes = greeting) -> None:
                raw, _ = listener.accept()
                with raw:
                    raw.sendall(greeting)

            thread = threading.Thread(target=serve, daemon=True)
            thread.start()
            with pytest.raises(ConnectError, match="localhost"):
                await connected(listener.getsockname()[1], certificates)
            thread.join(10)


async def test_a_handshake_that_is_not_waited_for_any_more_leaves_nothing_open(certificates: Certificates) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.1):
                await connected(listener.getsockname()[1], certificates)
        raw, _ = listener.accept()
        with raw:
            raw.settimeout(10)
            while await asyncio.to_thread(raw.recv, 65536):
                pass  # the greeting, and then the end: an open descriptor would keep it from coming

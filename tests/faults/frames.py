"""A gateway that speaks HTTP/2 frame by frame, from a script: it can say what no well-made server would.

Frames are packed here, header blocks by ``hpack``; nothing of ``mcmt.wire`` is used, so that it can be wrong about
what is right. It counts by itself: requests that came whole, answers that it gave, what the client said against it.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import struct
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import NamedTuple

from hpack import Decoder, Encoder

DATA, HEADERS, PRIORITY, RST_STREAM, SETTINGS, PUSH_PROMISE, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS, PADDED = 0x1, 0x1, 0x4, 0x8
MAX_STREAMS, INITIAL_WINDOW, MAX_FRAME = 3, 4, 5
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR = 0, 1, 2
FLOW_CONTROL_ERROR, STREAM_CLOSED, FRAME_SIZE_ERROR, REFUSED_STREAM, CANCEL = 3, 5, 6, 7, 8
COMPRESSION_ERROR, ENHANCE_YOUR_CALM = 9, 11
MAX_31 = 2**31 - 1
OK = b"\x88"
"""The header block of a 200."""


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    return struct.pack(">IBI", len(payload) << 8 | kind, flags, stream) + payload


def u32(number: int) -> bytes:
    return struct.pack(">I", number)


def settings(**values: int) -> bytes:
    names = {"streams": MAX_STREAMS, "window": INITIAL_WINDOW, "frame": MAX_FRAME}
    return frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", names[name], value) for name, value in values.items()))


def goaway(last: int, code: int = NO_ERROR, debug: bytes = b"") -> bytes:
    return frame(GOAWAY, 0, 0, u32(last) + u32(code) + debug)


def block(*fields: tuple[str, str]) -> bytes:
    """A header block that needs no table."""
    encoder = Encoder()
    encoder.header_table_size = 0
    return bytes(encoder.encode(fields))


class Request(NamedTuple):
    """One that came whole."""

    stream: int
    apns_id: str
    authorization: str


class Peer:
    """One connection, from the gateway's side."""

    def __init__(
        self, gateway: Gateway, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, number: int
    ) -> None:
        self._gateway = gateway
        self._reader = reader
        self._writer = writer
        self._decoder = Decoder()
        self._moved = asyncio.Event()
        self.number = number
        """The first connection is 0."""
        self.requests: list[Request] = []
        self.keeps_requests = True
        self.begun: dict[int, Request] = {}
        """Streams whose body has not come whole."""
        self.count = 0
        """Streams that were opened."""
        self.open: dict[int, Request] = {}
        """Came whole, and neither answered nor reset."""
        self.limit = MAX_31
        """Streams that the client may have open: what it has acknowledged last."""
        self._limits: list[int] = []
        self.window = 65_535
        """Octets of DATA that the client takes on the connection."""
        self.resets: dict[int, int] = {}
        self.said_goodbye: int | None = None
        self.gone = False
        self.on_request: Callable[[Request], object] = lambda request: None

    # -- what a script does ---------------------------------------------------------------------------------------

    def send(self, *frames: bytes) -> None:
        if not self._writer.is_closing():
            self._writer.write(b"".join(frames))

    async def pour(self, piece: bytes, octets: int) -> None:
        """Say *piece* again and again, as fast as it is taken, until *octets* are said or the client has gone."""
        burst = piece * max(1, 65_536 // len(piece))
        while octets > 0 and not self.gone and not self._writer.is_closing():
            self._writer.write(burst)
            octets -= len(burst)
            self._gateway.poured += len(burst)
            await self._writer.drain()
            await asyncio.sleep(0)

    def greet(self, *, streams: int = 1000, window: int = 65_535, connection: bool = True) -> None:
        """The server's preface; *connection*: and a window for the connection that no test uses up."""
        self._limits.append(streams)
        self.send(settings(streams=streams, window=window))
        if connection:
            self.send(frame(WINDOW_UPDATE, 0, 0, u32(MAX_31 - 65_535)))

    def change_limit(self, streams: int) -> None:
        self._limits.append(streams)
        self.send(settings(streams=streams))

    def close_stream(self, request: Request, *frames: bytes, answered: bool) -> None:
        """Say these and count the request as done, or as *answered* with a 200."""
        self.open.pop(request.stream, None)
        if answered:
            self._gateway.answered[request.apns_id] += 1
        self.send(*frames)

    def accept(self, request: Request, *after: bytes) -> None:
        """200."""
        self.close_stream(request, frame(HEADERS, END_HEADERS | END_STREAM, request.stream, OK), *after, answered=True)

    def refuse(self, request: Request, status: int, reason: str, *fields: tuple[str, str]) -> None:
        """An error with Apple's body."""
        body = json.dumps({"reason": reason, "timestamp": 1_700_000_000_000}).encode()
        self.window -= len(body)
        self.close_stream(
            request,
            frame(HEADERS, END_HEADERS, request.stream, block((":status", str(status)), *fields)),
            frame(DATA, END_STREAM, request.stream, body),
            answered=False,
        )

    def reset(self, request: Request, code: int) -> None:
        self.close_stream(request, frame(RST_STREAM, 0, request.stream, u32(code)), answered=False)

    async def until(self, condition: Callable[[], bool]) -> None:
        """Return when *condition* holds, or raise ConnectionError when the client went before."""
        while not condition():
            if self.gone:
                raise ConnectionError("the client has gone")
            self._moved.clear()
            await self._moved.wait()

    async def several(self, count: int) -> list[Request]:
        """The requests, when there are *count* of them."""
        await self.until(lambda: len(self.requests) >= count)
        return list(self.requests)

    async def serve(self, *, greeted: bool = False) -> None:
        """Answer everything with 200, what is open already too, until the client goes."""
        self.on_request = self.accept
        if not greeted:
            self.greet()
        for request in list(self.open.values()):
            self.accept(request)
        await self.end()

    async def end(self) -> None:
        """Return when the client has gone."""
        while not self.gone:
            self._moved.clear()
            await self._moved.wait()

    # -- what the client says -------------------------------------------------------------------------------------

    async def read(self) -> None:
        try:
            await self._reader.readexactly(24)
            while True:
                word, flags, stream = struct.unpack(">IBI", await self._reader.readexactly(9))
                payload = await self._reader.readexactly(word >> 8)
                self._take(word & 0xFF, flags, stream, payload)
                self._moved.set()
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.gone = True
            self._moved.set()

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == HEADERS:
            fields = {str(name): str(value) for name, value in self._decoder.decode(payload)}
            self.count += 1
            self.begun[stream] = Request(stream, fields["apns-id"], fields.get("authorization", ""))
            if len(self.begun) + len(self.open) > self.limit:
                self._gateway.violations += 1
        elif kind == DATA and flags & END_STREAM and (request := self.begun.pop(stream, None)):
            if self.keeps_requests:
                self.requests.append(request)
            self.open[stream] = request
            self._gateway.received[request.apns_id] += 1
            self.on_request(request)
        elif kind == RST_STREAM:
            self.resets[stream] = struct.unpack(">I", payload)[0]
            self.open.pop(stream, None)
            self.begun.pop(stream, None)
        elif kind == SETTINGS and flags & ACK and self._limits:
            self.limit = self._limits.pop(0)
        elif kind == SETTINGS and not flags & ACK:
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == WINDOW_UPDATE and stream == 0:
            self.window += struct.unpack(">I", payload)[0]
        elif kind == PING and not flags & ACK:
            self._gateway.pings += 1
            if self._gateway.answers_pings:
                self.send(frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.said_goodbye = struct.unpack(">I", payload[4:8])[0]
            self._gateway.goodbyes.append(self.said_goodbye)


Script = Callable[[Peer], Awaitable[None]]
"""What the gateway does on a connection; when it returns, the connection is closed."""


class Gateway:
    """Listens on loopback with TLS and h2; every connection follows the script."""

    def __init__(self, script: Script, context: ssl.SSLContext) -> None:
        self._script = script
        self._context = context
        self._tasks: set[asyncio.Task[None]] = set()
        self.peers: list[Peer] = []
        self.accepted: list[float] = []
        self.received: Counter[str] = Counter()
        self.answered: Counter[str] = Counter()
        self.goodbyes: list[int] = []
        """Codes of the client's GOAWAYs, in order."""
        self.violations = 0
        """Streams above the limit that the client had acknowledged."""
        self.pings = 0
        self.answers_pings = True
        self.poured = 0
        self.broken: list[str] = []
        """Scripts that failed: the test's own fault."""
        self.port = 0

    async def __aenter__(self) -> Gateway:
        self._server = await asyncio.start_server(self._connected, "127.0.0.1", 0, ssl=self._context)
        self.port = self._server.sockets[0].getsockname()[1]
        return self

    async def __aexit__(self, *exception: object) -> None:
        self._server.close()
        for task in tuple(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        peer = Peer(self, reader, writer, len(self.peers))
        self.peers.append(peer)
        self.accepted.append(time.monotonic())
        reading = asyncio.get_running_loop().create_task(peer.read())
        try:
            await self._script(peer)
        except OSError:
            pass
        except Exception as error:
            self.broken.append(repr(error))
        finally:
            writer.close()
            await asyncio.sleep(0)
            reading.cancel()
            self._tasks.discard(task)


def server_context(certificate: str, key: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    context.set_alpn_protocols(["h2"])
    return context

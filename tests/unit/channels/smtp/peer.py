"""A server that follows a script, a report that remembers, and deliveries to send."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import ssl
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

from channels.smtp import Options, connect
from channels.smtp.connection import SmtpConnection
from mcmt.clock import Clock, SystemClock
from mcmt.message.model import Delivery, Part, Sender
from mcmt.message.route import Route
from mcmt.message.status import Disposition, Outcome
from mcmt.wire.trace import Trace

BATCH = "0193b1c2d3e47abc81234567"
MAIL = b"From: app@example.com\r\nSubject: hello\r\n\r\n.dot\r\nbody\r\n"


class Peer:
    """One connection, seen from the server."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def say(self, *lines: str) -> None:
        self.writer.write("".join(f"{line}\r\n" for line in lines).encode())
        await self.writer.drain()

    async def line(self) -> str:
        return (await self.reader.readuntil(b"\r\n"))[:-2].decode()

    async def lines(self, count: int) -> list[str]:
        return [await self.line() for _ in range(count)]

    async def greet(self, *extensions: str) -> str:
        """Greet and answer EHLO; what the client said."""
        await self.say("220 mx.example.org ESMTP")
        return await self.hello(*extensions)

    async def hello(self, *extensions: str) -> str:
        said = await self.line()
        names = ["mx.example.org", *extensions]
        await self.say(*(f"250-{name}" for name in names[:-1]), f"250 {names[-1]}")
        return said

    async def content(self) -> bytes:
        """What comes after 354, dots undone."""
        lines = []
        while (line := await self.reader.readuntil(b"\r\n")) != b".\r\n":
            lines.append(line.removeprefix(b"."))
        return b"".join(lines)

    async def message(self, reply: str = "250 2.0.0 ok") -> bytes:
        """354, the content, and a reply to it."""
        await self.say("354 go on")
        content = await self.content()
        await self.say(reply)
        return content

    async def start_tls(self, context: ssl.SSLContext) -> None:
        await self.writer.start_tls(context)

    async def gone(self) -> bytes:
        """What else the client says until it closes."""
        with contextlib.suppress(ConnectionError):
            return await self.reader.read()
        return b""

    def close(self) -> None:
        self.writer.close()

    def abort(self) -> None:
        self.writer.transport.abort()


Script = Callable[[Peer], Awaitable[None]]


class Reporter:
    """See mcmt.channel.port.Report."""

    trace: Trace | None = None

    def __init__(self) -> None:
        self.batches: list[Sequence[tuple[Delivery, Outcome]]] = []
        self.woken = asyncio.Event()
        self.reason: asyncio.Future[str] = asyncio.get_running_loop().create_future()

    def outcomes(self, batch: Sequence[tuple[Delivery, Outcome]]) -> None:
        assert not self.reason.done(), "an outcome after closed"
        self.batches.append(batch)

    def wake(self) -> None:
        assert not self.reason.done(), "wake after closed"
        self.woken.set()

    def leaving(self) -> None:
        pass

    def closed(self, reason: str) -> None:
        self.reason.set_result(reason)

    async def free(self) -> None:
        """Return when the connection asked for more."""
        await asyncio.wait_for(self.woken.wait(), 5)
        self.woken.clear()

    async def end(self) -> str:
        return await asyncio.wait_for(asyncio.shield(self.reason), 5)

    @property
    def all(self) -> list[Outcome]:
        """By delivery, in the order in which they were made."""
        found = [pair for batch in self.batches for pair in batch]
        assert len({delivery.number for delivery, _ in found}) == len(found), "two outcomes of one delivery"
        return [outcome for _, outcome in sorted(found, key=lambda pair: pair[0].number)]

    @property
    def dispositions(self) -> list[Disposition]:
        return [outcome.disposition for outcome in self.all]


def deliveries(
    *recipients: str,
    content: bytes = MAIL,
    sender: str = "app@example.com",
    first: int = 1,
    batch_id: str = BATCH,
    peer: str = "192.0.2.1",
    media_type: str = "message/rfc822",
) -> list[Delivery]:
    """One message to *recipients*."""
    source = Sender(batch_id, 1_700_000_000.0, sender, {}, peer)
    part = Part(media_type, (), content)
    return [
        Delivery(number, number, "example.org", recipient, recipient, 0, 2e9, source, part)
        for number, recipient in enumerate(recipients, first)
    ]


@contextlib.asynccontextmanager
async def serving(*scripts: Script, host: str = "127.0.0.1", port: int = 0) -> AsyncIterator[Route]:
    """A server whose first connection follows the first script, and so on; all must have come to their end."""
    left = list(scripts)
    done: list[asyncio.Task[None]] = []

    async def accept(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        script = left.pop(0)

        async def follow() -> None:
            try:
                await script(Peer(reader, writer))
            finally:
                writer.close()

        done.append(asyncio.get_running_loop().create_task(follow()))

    server = await asyncio.start_server(accept, host, port)
    for listening in server.sockets:
        # Of a fixed size: loopback's grow to tens of megabytes, and then nobody feels a peer that does not read.
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 64 * 1024)
    try:
        yield Route("smtp", host, server.sockets[0].getsockname()[1])
        if done:
            await asyncio.wait_for(asyncio.gather(*done), 5)
        assert not left, "a connection that was expected did not come"
    finally:
        for task in done:
            task.cancel()
        server.close()


class NoState:
    """See mcmt.channel.port.State."""

    def get(self, key: str) -> bytes | None:
        return None

    def put(self, key: str, value: bytes) -> None:
        raise AssertionError("the channel keeps nothing")

    def swap(self, key: str, before: bytes | None, value: bytes) -> bool:
        raise AssertionError("the channel keeps nothing")


async def open_to(
    route: Route, options: Options | None = None, clock: Clock | None = None
) -> tuple[SmtpConnection, Reporter]:
    report = Reporter()
    options = options or Options(helo_name="mx.example.com")
    async with asyncio.timeout(5):
        return await connect(route, options, report, clock or SystemClock(), NoState()), report


ALL = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 1000000")


async def envelope(peer: Peer, recipients: int = 1) -> list[str]:
    """Take MAIL, the recipients and DATA, as a pipelining client sends them, and accept the envelope."""
    said = await peer.lines(recipients + 2)
    await peer.say(*["250 ok"] * (recipients + 1))
    return said

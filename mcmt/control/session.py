"""One client of the control socket: reads its requests, writes the answers, lets it follow the logs.

Whoever does not read its answers is waited for up to WRITE_TIMEOUT; a follower that leaves FOLLOWER_BUFFER unread is
dropped, so that the logs never wait for anyone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import aclosing
from typing import Protocol, cast

import msgspec

from mcmt.control.answers import Answers
from mcmt.control.protocol import (
    MAX_LINE,
    Begun,
    End,
    Failed,
    FailureCode,
    Follow,
    ForgetTokens,
    Hello,
    Ids,
    Item,
    LogLine,
    Question,
    Request,
    Rotate,
    Show,
    Trace,
)
from mcmt.errors import ControlError, EventLogError, SpoolError
from mcmt.eventlog.escape import escape_json
from mcmt.message.event import Event

REQUEST_TIMEOUT = 60.0
"""Seconds that a client may take for its next request."""
WRITE_TIMEOUT = 60.0
"""Seconds that a client may leave its answers unread."""
FOLLOWER_BUFFER = 4 * 1024**2
"""Bytes that a follower may leave unread."""
FLUSH_TIMEOUT = 20.0
"""Seconds that the logs may take for what is owed to them; less than a client's patience."""
AT_ONCE = 64 * 1024
"""Bytes of answers in one write, or a little more.

With a write and a wait for each, 1,000 answers of a listing took 7 ms of CPU; they take 1.
"""
AT_LEAST = 0.2
"""Seconds between two writes while answers are still being found: who watches sees them come, and one that has hung up
is noticed."""
LINGER = 1.0
"""Seconds for the last words to a client that is let go."""

_to_json = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Request).decode


class EventLog(Protocol):
    """What is asked of the event log."""

    def follow(self, listener: Callable[[str, str, Event], None]) -> Callable[[], object]:
        """Call *listener* with logger's name, line and event once a line is on disk; returns what ends it."""

    def rotate(self, logger: str | None) -> Awaitable[Sequence[msgspec.Struct]]:
        """Begin new files, and say what became of each. Raises EventLogError: no such logger, or it stops."""

    def flushed(self) -> Awaitable[None]:
        """Return when all that is in the outbox has its line on disk. Raises EventLogError: it stops."""


class Refused(Exception):  # noqa: N818 - an answer, raised where it is found out and sent where the client is known
    """The client is told why, and let go."""

    def __init__(self, code: FailureCode, text: str) -> None:
        super().__init__(text)
        self.failed = Failed(code, text)


class Session:
    """A client that has connected."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        answers: Answers,
        eventlog: EventLog,
        ledger: str,
    ) -> None:
        """*ledger*: the name of the main log's logger."""
        self._reader = reader
        self._writer = writer
        self._answers = answers
        self._eventlog = eventlog
        self._ledger = ledger

    async def converse(self) -> None:
        """Answer requests until the client hangs up. Raises Refused, TimeoutError, ConnectionError."""
        while True:
            async with asyncio.timeout(REQUEST_TIMEOUT):
                request = await self._next_request()
            if request is None:
                return
            if isinstance(request, Follow):
                await self._follow(request)
                return
            if isinstance(request, Trace):
                await self._trace(request)
                return
            self.send(await (self._rotate(request) if isinstance(request, Rotate) else self._answer(request)))
            await self._drain()

    def send(self, answer: Hello | Begun | End | Failed) -> None:
        """Write one line."""
        self._write(_encode(answer))

    async def hang_up(self) -> None:
        """Close; what the client does not read soon is thrown away. The last thing that a client's task does."""
        self._writer.close()
        try:
            async with asyncio.timeout(LINGER):
                await self._writer.wait_closed()
        except (TimeoutError, OSError, asyncio.CancelledError):
            # A cancellation ends here: asyncio's streams would report a cancelled task as a bug.
            self._writer.transport.abort()

    async def _answer(self, request: Question) -> End | Failed:
        crew = self._answers.crew
        if isinstance(request, ForgetTokens) and isinstance(failed := await self._flush(crew), Failed):
            # What has no line yet is not in the table yet, and would come back.
            return failed
        try:
            sent = await self._send_all(self._answers.items(request))
        except SpoolError as error:
            return Failed("spool", str(error))
        except ControlError as error:
            return Failed("refused", str(error))
        if isinstance(request, Ids):
            return await self._flush(crew)
        if isinstance(request, Show) and not sent:
            return Failed(
                "not_found", f"the spool has no delivery {request.id}: it has ended, or was never accepted here"
            )
        return End()

    async def _send_all(self, items: AsyncIterator[msgspec.Struct]) -> int:
        """Send what there is to tell, many lines a write; how many they were."""
        sent = size = 0
        lines: list[bytes] = []
        clock = asyncio.get_running_loop().time
        told = clock()
        try:
            async for item in items:
                line = _line(item)
                lines.append(line)
                sent += 1
                size += len(line)
                if size >= AT_ONCE or clock() - told >= AT_LEAST:
                    told = clock()
                    self._write(b"\n".join(lines))
                    lines.clear()
                    size = 0
                    await self._drain()
        finally:
            if lines:
                self._write(b"\n".join(lines))
        return sent

    async def _flush(self, crew: object) -> End | Failed:
        try:
            async with asyncio.timeout(FLUSH_TIMEOUT):
                await self._eventlog.flushed()
        except TimeoutError:
            text = f"the logs lack lines and could not write them within {FLUSH_TIMEOUT:g} s"
            return Failed("busy", f"{text}: the engine's standard error says why")
        except EventLogError as error:
            return Failed("stopping", str(error))
        if self._answers.crew != crew:
            # The event log does not wait for lines of a worker that is away.
            return Failed("busy", "a worker ended or began while the lines were written: ask again")
        return End()

    async def _rotate(self, request: Rotate) -> End | Failed:
        try:
            for rotation in await self._eventlog.rotate(request.logger):
                self._send_item(rotation)
        except EventLogError as error:
            return Failed("not_found", str(error))
        return End()

    async def _follow(self, follow: Follow) -> None:
        wanted = follow
        task = cast("asyncio.Task[None]", asyncio.current_task())
        dropped = False

        def tell(logger: str, line: str, event: Event) -> None:
            nonlocal dropped
            if dropped or not _wants(wanted, event):
                return
            if self._writer.transport.get_write_buffer_size() > FOLLOWER_BUFFER:
                dropped = True
                task.cancel()
                return
            self._send_item(_log_line(logger, line, event, ledger=logger == self._ledger))

        end = self._eventlog.follow(tell)
        try:
            request: Request | None = follow
            while isinstance(request, Follow):
                wanted = request
                self.send(Begun())
                request = await self._next_request()
        except asyncio.CancelledError:
            if not dropped:
                raise
            raise Refused("too_slow", "log lines came faster than they were read; follow fewer of them") from None
        finally:
            end()
        if request is not None:
            raise Refused("bad_request", "a connection that follows can only be asked to follow something else")

    async def _trace(self, request: Trace) -> None:
        """Tell what is said, until the client hangs up. While it does not read, nothing is fetched for it."""
        hung_up = asyncio.ensure_future(self._next_request())
        try:
            async with aclosing(self._answers.trace(request)) as parts:
                begun = False
                async for lines in parts:
                    if not begun:
                        begun = True
                        self.send(Begun())
                    if lines:
                        self._write(b"\n".join(map(_line, lines)))
                    await self._drain()
                    if hung_up.done():
                        break
        finally:
            hung_up.cancel()
        if not hung_up.cancelled() and await hung_up is not None:
            raise Refused("bad_request", "a connection that traces can be asked nothing else")

    async def _next_request(self) -> Request | None:
        """The next request; None when the client has hung up. Raises Refused for a line that is none."""
        try:
            line = await self._reader.readline()
        except ValueError:
            raise Refused("bad_request", f"a request is one line of at most {MAX_LINE} bytes") from None
        if not line.endswith(b"\n"):
            return None
        try:
            request: Request = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
            raise Refused("bad_request", f"not a request that this version knows: {error}") from None
        return request

    def _send_item(self, item: msgspec.Struct) -> None:
        self._write(_line(item))

    def _write(self, line: bytes) -> None:
        # uvloop raises where asyncio is silent; that the client is gone is found out by reading and draining.
        if not self._writer.is_closing():
            self._writer.write(line + b"\n")

    async def _drain(self) -> None:
        async with asyncio.timeout(WRITE_TIMEOUT):
            await self._writer.drain()


def _encode(value: msgspec.Struct) -> bytes:
    # What others sent may be in it, and is shown in terminals: JSON leaves DEL, C1 and U+2028 as they are.
    data = _to_json(value)
    return data if data.isascii() and b"\x7f" not in data else escape_json(data.decode()).encode()


def _wants(follow: Follow, event: Event) -> bool:
    return (
        (not follow.batch_id or event.batch_id == follow.batch_id)
        and (not follow.domain or event.domain == follow.domain)
        and (not follow.kinds or event.kind.value in follow.kinds)
        and (not follow.token or event.token.lower() == follow.token.lower())
    )


def _line(item: msgspec.Struct) -> bytes:
    return _encode(Item(msgspec.Raw(_encode(item))))


def _log_line(logger: str, line: str, event: Event, *, ledger: bool) -> LogLine:
    return LogLine(
        logger=logger,
        ledger=ledger,
        kind=event.kind.value,
        id=event.id,
        batch_id=event.batch_id,
        attempt=event.attempt,
        deliveries=event.deliveries,
        line=line,
    )

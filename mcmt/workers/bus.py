"""The connection between the supervisor and one worker: calls that are answered, and notices that are not.

A frame is its length in four bytes and a msgpack array ``[kind, number, body]``. Both ends may call. A call that its
handler refuses with one of ``ERRORS`` raises that error at the caller, with its text; any other failure of a handler
is a bug there, told there, and a BusError here. When the connection is lost, every call under way raises BusLost:
whether it was carried out, nobody knows.

Rules: frames are bounded by what their senders hold in memory (a page of a listing, a burst of events, one message);
nothing is sent again; the order of frames is kept, the order of answers is not.
"""

from __future__ import annotations

import asyncio
import logging
import socket
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import Any, TypeVar, cast

import msgspec

from mcmt.errors import (
    BusError,
    BusLost,
    ConfigError,
    ControlError,
    ListenError,
    McmtError,
    NotKept,
    OutboxAway,
    SpoolError,
    SpoolFull,
    SpoolLocked,
    SpoolUnusable,
)

log = logging.getLogger(__name__)

T = TypeVar("T")

_CALL, _ANSWER, _REFUSAL, _NOTICE = range(4)
_LENGTH = 4
_encode = msgspec.msgpack.Encoder().encode
_frame = msgspec.msgpack.Decoder(tuple[int, int, msgspec.Raw]).decode

ERRORS: Mapping[str, type[McmtError]] = MappingProxyType(
    {
        error.__name__: error
        for error in (
            *(SpoolError, SpoolFull, SpoolLocked, SpoolUnusable, NotKept, OutboxAway),
            *(ControlError, ListenError, BusError, BusLost),
        )
    }
)
"""What a refusal may be raised as at the caller. Others arrive as BusError with their text."""

Answer = Callable[[Any], Awaitable[object]]
"""Answers a call: its body, decoded, to what is sent back. May raise McmtError."""
Notice = Callable[[Any], None]
"""Takes a notice."""


class Bus(asyncio.Protocol):
    """One end of the connection."""

    def __init__(self, words: type | Any, answer: Answer, notice: Notice, lost: Callable[[], None]) -> None:
        """*words*: the union of all structs that the other end may say. *lost*: called once, at the end."""
        self._decode = msgspec.msgpack.Decoder(words).decode
        self._answer = answer
        self._notice = notice
        self._lost = lost
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self._number = 0
        self._waiting: dict[int, asyncio.Future[msgspec.Raw]] = {}
        self._answering: set[asyncio.Task[None]] = set()

    async def open(self, connected: socket.socket) -> Bus:
        """Speak on a connected socket."""
        await asyncio.get_running_loop().create_unix_connection(lambda: self, sock=connected)
        return self

    @property
    def is_lost(self) -> bool:
        """The other end is gone, or this one was closed."""
        return self._transport is None

    async def call(self, body: msgspec.Struct | msgspec.Raw, answer: type[T]) -> T:
        """Have *body* answered. Raises what the other end refuses with, BusLost when it is gone."""
        self._number += 1
        number = self._number
        future = self._waiting[number] = asyncio.get_running_loop().create_future()
        try:
            self._send(_CALL, number, body)
            return msgspec.msgpack.decode(await future, type=answer)
        finally:
            del self._waiting[number]

    def tell(self, body: msgspec.Struct) -> None:
        """Say *body* and expect nothing. To nobody, when the other end is gone."""
        if self._transport is not None:
            self._send(_NOTICE, 0, body)

    def close(self) -> None:
        """Hang up."""
        if self._transport is not None:
            self._transport.close()

    def _send(self, kind: int, number: int, body: object) -> None:
        if self._transport is None:
            raise BusLost("the other process is gone")
        self._write(_encode((kind, number, body)))

    def _write(self, data: bytes) -> None:
        assert self._transport is not None  # noqa: S101 - whoever calls has looked
        self._transport.writelines((len(data).to_bytes(_LENGTH, "big"), data))

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ready to speak."""
        self._transport = cast(asyncio.Transport, transport)
        # Notices are small and calls wait for their answers: what is under way is bounded by those who call.
        self._transport.set_write_buffer_limits(high=64 * 1024**2)

    def data_received(self, data: bytes) -> None:
        """Cut frames off what has come."""
        buffer = self._buffer
        buffer += data
        start = 0
        while len(buffer) - start >= _LENGTH:
            end = start + _LENGTH + int.from_bytes(buffer[start : start + _LENGTH], "big")
            if end > len(buffer):
                break
            # A copy: what is decoded may point into it.
            self._take(bytes(buffer[start + _LENGTH : end]))
            start = end
        del buffer[:start]

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """Nobody is there any more."""
        self._transport = None
        for future in self._waiting.values():
            if not future.done():
                future.set_exception(BusLost("the other process ended before it answered"))
        self._lost()

    def _take(self, data: bytes) -> None:
        kind, number, body = _frame(data)
        if kind == _NOTICE:
            self._notice(self._decode(body))
        elif kind == _CALL:
            task = asyncio.get_running_loop().create_task(self._carry_out(number, self._decode(body)), name="bus call")
            self._answering.add(task)
            task.add_done_callback(self._answering.discard)
        elif (future := self._waiting.get(number)) is not None and not future.done():
            if kind == _ANSWER:
                future.set_result(body)
            else:
                name, text = msgspec.msgpack.decode(body, type=tuple[str, str])
                future.set_exception(ERRORS.get(name, BusError)(text))

    async def _carry_out(self, number: int, body: object) -> None:
        try:
            data = _encode((_ANSWER, number, await self._answer(body)))
        except ConfigError as error:
            data = _refusal(number, BusError, str(error))
        except McmtError as error:
            data = _refusal(number, type(error), str(error))
        except Exception as error:
            log.exception("a call of another process could not be answered")
            data = _refusal(number, BusError, f"internal error: {error!r}")
        if self._transport is not None:
            self._write(data)


def _refusal(number: int, error: type[McmtError], text: str) -> bytes:
    # It may name a file whose name is no UTF-8; whoever has called waits for an answer all the same.
    return _encode((_REFUSAL, number, (error.__name__, text.encode(errors="backslashreplace").decode())))

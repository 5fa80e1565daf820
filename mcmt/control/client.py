"""A command's end of the control socket. Blocking: a command does one thing at a time, and starts sooner so.

Rules: one request at a time; answers are handed on as they come, never gathered; every failure is a ControlError.
"""

from __future__ import annotations

import socket
import time
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import TracebackType
from typing import TypeVar

import msgspec

from mcmt.control.protocol import PROTOCOL, Answer, Begun, End, Failed, Follow, Hello, Item, LogLine, Request, Trace
from mcmt.control.unix_socket import connect_unix
from mcmt.errors import ControlError

T = TypeVar("T")

PATIENCE = 30.0
"""Seconds without a line of an answer after which the engine is taken for stuck."""
_READ = 64 * 1024

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(Answer).decode
_decode_line = msgspec.json.Decoder(LogLine).decode


class ControlClient:
    """A connection to the engine that listens at *path*. Raises ControlError when there is none."""

    def __init__(self, path: Path, patience: float = PATIENCE) -> None:
        self._path = path
        self._patience = patience
        self._buffer = b""
        self._lines: list[bytes] = []  # whole ones, the next one last
        self._held: deque[Item] = deque()
        self._socket: socket.socket = connect_unix(path, patience)
        try:
            self.hello = self._greeted()
        except BaseException:
            self._socket.close()
            raise

    def __enter__(self) -> ControlClient:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._socket.close()

    def ask(self, request: Request, item: type[T]) -> Iterator[T]:
        """The items of the answer, as they come. Raises ControlError with the engine's refusal."""
        decode = msgspec.json.Decoder(item).decode
        return (decode(raw) for raw in self.ask_raw(request))

    def ask_raw(self, request: Request) -> Iterator[bytes]:
        """The items of the answer, each still one JSON object."""
        self._write(request)
        while True:
            match self._answer(self._patience):
                case Item(item=raw):
                    yield bytes(raw)
                case End():
                    return
                case answer:
                    raise self._unexpected(answer)

    def follow(self, request: Follow | Trace) -> None:
        """Begin to follow, or follow something else; then ``next_line``, or of a Trace ``next_raw``.

        From the return on no line is missed. Lines of what was followed before and are on their way still come first.
        """
        self._write(request)
        while not isinstance(answer := self._answer(self._patience), Begun):
            if not isinstance(answer, Item):
                raise self._unexpected(answer)
            self._held.append(answer)

    def next_line(self, timeout: float) -> LogLine | None:
        """The next log line, or None when none came in *timeout* seconds."""
        item = self.next_raw(timeout)
        return None if item is None else _decode_line(item)

    def next_raw(self, timeout: float) -> bytes | None:
        """The next item of what is followed, still JSON, or None when none came in *timeout* seconds."""
        answer = self._held.popleft() if self._held else self._answer(timeout)
        if isinstance(answer, Item):
            return bytes(answer.item)
        if answer is None:
            return None
        raise self._unexpected(answer)

    def _greeted(self) -> Hello:
        hello = self._answer(self._patience)
        if not isinstance(hello, Hello):
            raise self._unexpected(hello)
        if hello.protocol != PROTOCOL:
            raise ControlError(
                f"{self._path}: the engine is mcmt {hello.version} and speaks protocol {hello.protocol}, "
                f"this command speaks {PROTOCOL}: use the mcmt that the engine was started from"
            )
        return hello

    def _write(self, request: Request) -> None:
        try:
            self._socket.settimeout(self._patience)
            self._socket.sendall(_encode(request) + b"\n")
        except (BrokenPipeError, ConnectionResetError):
            pass  # what it said before it hung up is still to be read, and says why
        except OSError as error:
            raise ControlError(f"{self._path}: the engine has hung up: {error}") from error

    def _answer(self, timeout: float) -> Answer | None:
        """The next answer; None when there was none in *timeout* seconds."""
        deadline = time.monotonic() + timeout
        while not self._lines:
            try:
                self._socket.settimeout(max(0.001, deadline - time.monotonic()))
                data = self._socket.recv(_READ)
            except TimeoutError:
                return None
            except OSError as error:
                raise ControlError(f"{self._path}: the engine has hung up: {error}") from error
            if not data:
                raise ControlError(f"{self._path}: the engine has hung up in the middle of its answer")
            *whole, self._buffer = (self._buffer + data).split(b"\n")
            self._lines = whole[::-1]
        line = self._lines.pop()
        try:
            answer: Answer = _decode(line)
        except msgspec.DecodeError as error:
            raise ControlError(f"{self._path}: what answers there is not an engine of this version: {error}") from error
        return answer

    def _unexpected(self, answer: Answer | None) -> ControlError:
        if isinstance(answer, Failed):
            return ControlError(answer.text)
        if answer is None:
            return ControlError(f"{self._path}: the engine did not answer within {self._patience:g} s")
        return ControlError(f"{self._path}: the engine gave an answer that does not fit: {type(answer).__name__}")

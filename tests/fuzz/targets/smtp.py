"""An SMTP session: octets in, replies and messages out.

Whatever a client says and however its octets are split: no fault of ours, replies that are replies, one message for
each ``queued``, and none but those that stand between a DATA and its end, or in the chunks of BDAT, in what was sent;
and a client is another than its peer only where it may say so.
"""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Sequence
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import msgspec

from mcmt.clock import SystemClock
from mcmt.intake.door import Door
from mcmt.intake.listener import SmtpListener
from mcmt.intake.session import FAULT
from mcmt.intake.smtp import SmtpSession
from mcmt.message.event import Event
from mcmt.message.failure import Failure
from mcmt.message.model import Message, NewDelivery
from tests.fuzz.octets import Octets, cut
from tests.unit.intake.server import make_channels, make_listen, make_settings

LONGEST = 4096

_REPLY = re.compile(rb"(?:[2-5]\d\d[ -][\x20-\x7e]{0,508}\r\n)*")
_QUEUED = re.compile(rb"^250 2\.0\.0 [0-9a-f]{24} queued\r\n", re.MULTILINE)
_UNTIL = re.compile(rb"(?<=FUTURERELEASE )\d+ [0-9TZ:-]+")
"""EHLO tells the time."""
_AT_FAULT = re.compile(rb"(?m)^55[0-9] [^\r\n]*(?:line \d+ of the message|the message is larger than)[^\r\n]*")
_WRONG = re.compile(rb"(?<!\r)\n|\r(?!\n)|\0")
_MAX_SIZE = 2000
_PROXY, _XCLIENT = "127.0.0.9", "127.0.0.8"
_PEERS = {1: _PROXY, 2: _XCLIENT}
"""By two bits of an input's first number: who is connected. Otherwise it is one who may submit."""


class _Kept:
    """A spool that keeps at once."""

    def __init__(self) -> None:
        self.contents: list[tuple[Message, int]] = []
        self.rejections = 0

    async def accept(
        self,
        message: Message,
        deliveries: Sequence[NewDelivery],
        events: Sequence[Event],
        failures: Sequence[Failure] = (),
    ) -> None:
        assert deliveries or failures
        self.contents.append((message, len(deliveries)))

    async def record(self, events: Sequence[Event]) -> None:
        self.rejections += len(events)


class _Client(asyncio.Transport):
    """The other end of one session."""

    def __init__(self, peer: str) -> None:
        super().__init__()
        self.peer = peer
        self.said = b""
        self.closing = False

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return (self.peer, 40000) if name == "peername" else default

    def write(self, data: bytes | bytearray | memoryview[Any]) -> None:
        assert not self.closing
        self.said += bytes(data)

    def is_closing(self) -> bool:
        return self.closing

    def close(self) -> None:
        self.closing = True

    abort = close

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None: ...

    def pause_reading(self) -> None: ...

    def resume_reading(self) -> None: ...

    def get_write_buffer_size(self) -> int:
        return 0


class _Alarm(logging.Handler):
    def emit(self, record: logging.LogRecord) -> None:
        raise AssertionError(self.format(record))


class _House:
    """A listener that listens nowhere, on a loop of its own."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.kept = _Kept()
        listen = make_listen(
            max_message_size=_MAX_SIZE,
            max_recipients_per_message=100,
            max_errors=100,
            relay_hosts=(ip_network("127.0.0.1"), ip_network("192.0.2.0/24")),
            proxy_protocol=(ip_network(_PROXY),),
            authorized_xclient_hosts=(ip_network(_XCLIENT),),
        )
        settings = msgspec.structs.replace(make_settings(file=Path("mcmt.yaml")), listen=(listen,))
        channels: Any = make_channels()
        self.listener = SmtpListener(
            settings, channels, self.kept, SystemClock(), lambda bits: (1 << bits) // 3, listens=False
        )
        self.loop.run_until_complete(self.listener.start())
        self.door: Door = self.listener._doors[0]

    def talk(self, peer: str, pieces: Sequence[bytes]) -> tuple[bytes, list[tuple[Message, int]]]:
        """What the client is told, and what was kept of what it said."""
        log, alarm = logging.getLogger("mcmt"), _Alarm(logging.ERROR)
        log.addHandler(alarm)
        try:
            return self.loop.run_until_complete(self._talk(peer, pieces))
        finally:
            log.removeHandler(alarm)

    async def _talk(self, peer: str, pieces: Sequence[bytes]) -> tuple[bytes, list[tuple[Message, int]]]:
        self.kept.contents = []
        client = _Client(peer)
        session = SmtpSession(self.door, self.loop)
        session.connection_made(client)
        for piece in pieces:
            if client.closing:
                break
            session.data_received(piece)
            await self._settle(session)
        if not client.closing:
            session.eof_received()
            await self._settle(session)
        session.connection_lost(None)
        await self._settle(session)
        assert self.listener.sessions == 0
        assert self.door.memory.held == 0
        return client.said, self.kept.contents

    async def _settle(self, session: SmtpSession) -> None:
        """Let the session come to where only the client can do something."""
        reception: Any = self.door.reception
        for _ in range(1000):
            await asyncio.sleep(0)
            if (not session._busy or session._wakes_on_input) and not reception._rejections._writer:
                return
        raise AssertionError("the session does not come to rest")


_house: list[_House] = []


def run(data: bytes) -> None:
    if not _house:
        _house.append(_House())
    octets = Octets(data)
    seed = octets.number(2)
    stream = octets.rest()
    if seed % 2:
        begun = b"BDAT " if seed & 0x8000 else b"DATA\r\n"
        stream = b"EHLO x\r\nMAIL FROM:<a@b.c>\r\nRCPT TO:<t@sink.example.com>\r\n" + begun + stream
    peer = _PEERS.get(seed >> 12 & 3, "127.0.0.1")
    whole, kept = _house[0].talk(peer, [stream])
    _hold(stream, whole, kept)
    split, kept_split = _house[0].talk(peer, cut(stream, seed or 1))
    _hold(stream, split, kept_split)
    assert _without_ids(split) == _without_ids(whole), (split, whole)
    assert list(map(_essence, kept)) == list(map(_essence, kept_split))
    for message, _ in kept:
        if peer == _PROXY:
            # Of the proxy itself nothing is taken: whom its header told of may submit.
            told = ip_address(message.envelope.peer)
            assert told in ip_network("192.0.2.0/24") or told == ip_address("127.0.0.1")
            assert whole.startswith(b"220 ")
        elif peer == "127.0.0.1":
            assert (message.envelope.peer, message.envelope.user) == (peer, "")


def _essence(kept: tuple[Message, int]) -> object:
    message, count = kept
    return message.parts, message.envelope.forward_paths, message.envelope.peer, message.envelope.user, count


def _without_ids(said: bytes) -> bytes:
    # Of several faults of one content the one that is found first is told: which one that is, the reads decide.
    return _AT_FAULT.sub(b"content at fault", _UNTIL.sub(b"", _QUEUED.sub(b"250 2.0.0 queued\r\n", said)))


def _hold(stream: bytes, said: bytes, kept: list[tuple[Message, int]]) -> None:
    assert _REPLY.fullmatch(said), said
    assert FAULT.encode() not in said, said
    assert len(kept) == len(_QUEUED.findall(said))
    assert len(said) <= 1000 + 520 * (stream.count(b"\n") + 2)
    at = 0
    for message, count in kept:
        assert count or message.envelope.forward_paths
        assert message.size <= _MAX_SIZE
        # It stands there, behind the last one, whole.
        ends = [
            end for end in (_behind_data(stream, at, message.size), _behind_chunks(stream, at, message.size)) if end
        ]
        assert ends, (stream, message)
        at = min(ends)


def _behind_data(stream: bytes, at: int, size: int) -> int | None:
    """Where a message of *size* octets that comes behind a DATA ends, as RFC 5321 4.1.1.4 says."""
    for command in re.compile(rb"DATA[ ]*\r\n", re.IGNORECASE).finditer(stream, at):
        end = (b"\r\n" + stream[command.end() :]).find(b"\r\n.\r\n")
        if end >= 0:
            content = stream[command.end() : command.end() + end]
            plain = (b"\r\n" + content).replace(b"\r\n.", b"\r\n")[2:]
            if len(plain) == size and not _WRONG.search(content):
                return command.end() + end + 3
    return None


def _behind_chunks(stream: bytes, at: int, size: int) -> int | None:
    """Where a message of *size* octets ends that comes in chunks, whatever other commands stand between them."""
    chunk = re.compile(rb"BDAT +(\d+)( +LAST)? *\r\n", re.IGNORECASE)
    line = re.compile(rb"(?<=\n)" + chunk.pattern, re.IGNORECASE)
    for first in chunk.finditer(stream, at):
        content, command = b"", chunk.match(stream, first.start())
        while command:
            end = min(command.end() + int(command[1]), len(stream) + 1)
            content += stream[command.end() : end]
            if command[2]:
                if len(content) == size and end <= len(stream) and not _WRONG.search(content):
                    return end
                break
            # A command begins where the chunk ends, or with a line.
            command = chunk.match(stream, end) or line.search(stream, end)
    return None

"""The HTTP API on loopback, with a spool that is a list and keys in a dictionary, that ends with the test."""

from __future__ import annotations

import asyncio
import json
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from typing import Any, NamedTuple

import msgspec
import pytest

from mcmt.clock import SystemClock
from mcmt.config.settings import HttpAddressSettings, HttpSettings, HttpTokenSettings, IntakeSettings
from mcmt.intake.doors import Doors
from mcmt.intake.http.tokens import hash_of
from mcmt.message.event import Event
from mcmt.message.failure import Failure
from mcmt.message.model import Message, NewDelivery
from mcmt.spool.standing import Known, Once, Standing
from tests.unit.intake.server import ListSpool, make_channels, make_settings

KEY = "mcmt_" + "k" * 43
SHOP = HttpTokenSettings(name="shop", scopes=frozenset({"send", "status"}))
NARROW_KEY = "mcmt_" + "n" * 43
NARROW = HttpTokenSettings(name="narrow", scopes=frozenset({"send"}), domains=frozenset({"other.example.com"}))
MAIL = {"media_type": "message/rfc822", "text": "Subject: hello\r\n\r\ntext\r\n"}
MESSAGE: dict[str, Any] = {"to": ["user@sink.example.com"], "parts": [MAIL]}
LINE = json.dumps(MESSAGE).encode() + b"\n"
NDJSON = "application/x-ndjson"


class DictTracker:
    """``Tracker`` over a list: keys and what is told of messages are set by the test or by what was accepted."""

    def __init__(self, spool: ListSpool) -> None:
        self.known: dict[str, Known] = {}
        self.standings: dict[str, Standing] = {}
        self._spool = spool

    async def accept_once(
        self,
        once: Once,
        message: Message,
        deliveries: Sequence[NewDelivery],
        events: Sequence[Event],
        failures: Sequence[Failure] = (),
    ) -> Known:
        if once.key not in self.known:
            kept = Known(message.batch_id, once.fingerprint, message.envelope.user, len(deliveries), message.received)
            # At once, as the spool's transaction does it: two that come together are one.
            self.known[once.key] = kept
            await self._spool.accept(message, deliveries, events, failures)
        return self.known[once.key]

    async def standing(self, batch_id: str, after: int, limit: int) -> Standing | None:
        found = self.standings.get(batch_id)
        if found is None:
            return None
        ended = [one for one in found.ended if one.number > after][:limit]
        pending = [one for one in found.pending if int(one.id.rpartition("-")[2]) > after][:limit]
        return msgspec.structs.replace(found, ended=ended, pending=pending)


class Answer(NamedTuple):
    status: int
    headers: dict[str, str]
    """By name in lower case."""
    body: Any


class Server:
    """The door and what stands behind it."""

    def __init__(self, doors: Doors, spool: ListSpool, tracker: DictTracker) -> None:
        self.doors = doors
        self.spool = spool
        self.tracker = tracker
        ((_, _, self.port),) = doors.http.listening if doors.http else ()

    @property
    def held(self) -> int:
        """Bytes of the intake's memory."""
        return self.doors.smtp.memory.held

    @property
    def sent(self) -> list[str]:
        """The recipients of all that is kept, in order."""
        return [one.recipient for _, deliveries, _ in self.spool.accepted for one in deliveries]

    async def connect(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        return await asyncio.open_connection("127.0.0.1", self.port)

    async def say(self, octets: bytes) -> Answer:
        """The one answer to *octets*, on a connection of its own."""
        reader, writer = await self.connect()
        try:
            writer.write(octets)
            return await read_answer(reader)
        finally:
            writer.close()

    async def request(
        self,
        body: object = None,
        method: str = "POST",
        path: str = "/v1/messages",
        key: str | None = KEY,
        **headers: str,
    ) -> Answer:
        """*body*: bytes, or what is sent as JSON."""
        content = b"" if body is None else body if isinstance(body, bytes) else json.dumps(body).encode()
        given = {"Content-Type": "application/json", "Content-Length": str(len(content))}
        if key is not None:
            given["Authorization"] = f"Bearer {key}"
        given |= {name.replace("_", "-"): value for name, value in headers.items()}
        fields = "".join([f"{name}: {value}\r\n" for name, value in given.items()])
        head = f"{method} {path} HTTP/1.1\r\nHost: x\r\n{fields}\r\n"
        return await self.say(head.encode("latin-1") + content)

    async def bulk(self, *lines: bytes, **headers: str) -> list[dict[str, Any]]:
        """The answers to one bulk request."""
        answer = await self.request(b"".join(lines), Content_Type=NDJSON, **headers)
        assert answer.status == 200, answer
        return [json.loads(line) for line in answer.body.splitlines()]

    async def settled(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(20):
            while not condition():
                await asyncio.sleep(0.005)  # a list has no event to wait for


async def read_answer(reader: asyncio.StreamReader) -> Answer:
    async with asyncio.timeout(20):
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").splitlines()
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:] if line)}
        if headers.get("transfer-encoding") == "chunked":
            content = b""
            while size := int(await reader.readline(), 16):
                content += await reader.readexactly(size)
                await reader.readline()
            await reader.readline()
        else:
            content = await reader.readexactly(int(headers.get("content-length", 0)))
    is_json = headers.get("content-type", "").startswith(("application/json", "application/problem+json"))
    return Answer(int(head[0].split()[1]), headers, json.loads(content) if is_json and content else content)


Start = Callable[..., Awaitable[Server]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start the door; every one is drained at the end, and no octet may be held then."""
    started: list[Server] = []

    async def begin(intake: IntakeSettings | None = None, **listen: Any) -> Server:
        address = HttpAddressSettings(host="127.0.0.1", port=0, **listen)
        tokens = {hash_of(KEY): SHOP, hash_of(NARROW_KEY): NARROW}
        spool = ListSpool()
        tracker = DictTracker(spool)
        doors = Doors(
            make_settings(http=HttpSettings(listen=(address,), tokens=tokens), intake=intake or IntakeSettings()),
            make_channels(),
            spool,
            SystemClock(),
            secrets.randbits,
            tracker=tracker,
        )
        await doors.start()
        started.append(Server(doors, spool, tracker))
        return started[-1]

    yield begin
    for server in started:
        server.spool.gate.set()
        await server.doors.drain(0.5)
        assert server.held == 0

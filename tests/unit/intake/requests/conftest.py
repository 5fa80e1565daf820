"""The doors for clients of older push servers on loopback, that end with the test."""

from __future__ import annotations

import asyncio
import secrets
import xmlrpc.client
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest

from mcmt.channel import plugins
from mcmt.clock import SystemClock
from mcmt.config.settings import IntakeSettings, PropellerSettings, PyapnsSettings
from mcmt.intake.doors import Doors
from mcmt.intake.pyapns import Make
from mcmt.spool.port import GoneToken
from tests.unit.intake.apns_gateway.conftest import ListOfTokens
from tests.unit.intake.server import ListSpool, make_settings

APP = "sandbox:com.example.app"
SECRET = "00000000-0000-0000-0000-000000000000"
TOPIC = "com.example.app"


class Memory:
    """``State`` in a dictionary; can be shared by two servers."""

    def __init__(self) -> None:
        self.kept: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.kept.get(key)

    def put(self, key: str, value: bytes) -> None:
        self.kept[key] = value

    def swap(self, key: str, before: bytes | None, value: bytes) -> bool:
        if self.kept.get(key) != before:
            return False
        self.kept[key] = value
        return True


class Server:
    """Both doors, and what stands behind them."""

    def __init__(self, doors: Doors, spool: ListSpool, tokens: ListOfTokens) -> None:
        self.doors = doors
        self.spool = spool
        self.gone = tokens
        self.pyapns, self.propeller = [port for _, _, port in doors.requests.listening]

    async def say(self, port: int, octets: bytes) -> bytes:
        """What is answered until the server closes, to a client that says *octets* and no more."""
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        try:
            writer.write(octets)
            return await asyncio.wait_for(reader.read(), 5)
        finally:
            writer.close()

    async def post(self, port: int, body: bytes, content_type: str = "text/xml", path: str = "/") -> tuple[str, bytes]:
        """The head and the body of an answer."""
        head = f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Type: {content_type}\r\nContent-Length: {len(body)}\r\n"
        answer = await self.say(port, f"{head}Connection: close\r\n\r\n".encode() + body)
        told, _, rest = answer.partition(b"\r\n\r\n")
        return told.decode(), rest

    async def call(self, method: str, *values: Any, path: str = "/") -> Any:
        """As Python's own client calls it."""

        def work() -> Any:
            with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{self.pyapns}{path}", allow_none=True) as proxy:
                return getattr(proxy, method)(*values)

        return await asyncio.to_thread(work)

    @property
    def sent(self) -> list[tuple[str, bytes]]:
        """Token and payload of all that is kept, in order."""
        return [
            (delivery.token, message.parts[delivery.part].content)
            for message, deliveries, _ in self.spool.accepted
            for delivery in deliveries
        ]

    def learn(self, *tokens: str) -> None:
        for number, token in enumerate(tokens, 1):
            self.gone.tokens.append(GoneToken("apn.example.com", token, 1263550830.0 + number, number=number))

    async def told(self, left: int) -> None:
        """Return when so many gone tokens are left that nobody was told of."""
        async with asyncio.timeout(5):
            while len(self.gone.tokens) != left:
                await asyncio.sleep(0.005)  # a list has no event to wait for


Start = Callable[..., Awaitable[Server]]


@pytest.fixture
async def start() -> AsyncIterator[Start]:
    """Start both doors; every one is drained at the end."""
    started: list[Server] = []

    async def begin(
        state: Memory | None = None,
        intake: IntakeSettings | None = None,
        make: Make | None = None,
        **options: Any,
    ) -> Server:
        pyapns = PyapnsSettings(
            **{
                "host": "127.0.0.1",
                "port": 0,
                "sandbox": {APP: "apn.example.com"},
                "production": {APP: "other.example.com"},
                "return_path": "push@example.com",
                **options,
            }
        )
        propeller = PropellerSettings(host="127.0.0.1", port=0, auth_token=SECRET, topics={TOPIC: "apn.example.com"})
        spool, tokens = ListSpool(), ListOfTokens()
        doors = Doors(
            make_settings(pyapns=(pyapns,), propeller=(propeller,), intake=intake or IntakeSettings()),
            {"apn": plugins.load("apn"), "discard": plugins.load("discard")},
            spool,
            SystemClock(),
            secrets.randbits,
            gone_tokens=tokens,
            provisioned=state or Memory(),
            make=make,
        )
        await doors.start()
        started.append(Server(doors, spool, tokens))
        return started[-1]

    yield begin
    for server in started:
        server.spool.gate.set()
        await server.doors.drain(0.0)

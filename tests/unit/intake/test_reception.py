"""The way from a door to the spool: what a large message costs, and ids."""

from __future__ import annotations

import asyncio
import random
import threading
from typing import Any

import pytest

from mcmt.channel.port import Reading
from mcmt.clock import SystemClock
from mcmt.intake.reception import LARGE, MANY, Reception
from mcmt.message.model import Envelope, Part
from tests.unit.intake.conftest import Serve
from tests.unit.intake.server import MCMT, ListSpool, TokenChannel, make_channels, make_settings


class HeldChannel(TokenChannel):
    """Reads a part of the recipient ``held...`` only when it is let go on."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.go_on = threading.Event()

    def read(self, part: Part, recipient: str, context: Any, options: Any) -> Reading:
        if recipient.startswith("held"):
            self.began.set()
            assert self.go_on.wait(5)
        return super().read(part, recipient, context, options)


LINES = b"x" * 998 + b"\r\n"
LARGE_MCMT = MCMT.replace(b'{"aps"', LINES * (LARGE // len(LINES) + 1) + b'{"aps"')


@pytest.mark.parametrize(
    ("message", "recipients"), [(LARGE_MCMT, 1), (MCMT, MANY + 1)], ids=["many octets", "many recipients"]
)
async def test_what_a_large_message_costs_is_not_waited_for_by_the_others(
    serve: Serve, message: bytes, recipients: int
) -> None:
    channel = HeldChannel()
    server = await serve(channels={**make_channels(), "apn": channel})
    large, small = await server.hello(), await server.ready()
    large.send(b"MAIL FROM:<a@example.com>\r\n")
    large.send(b"".join([b"RCPT TO:<held%d@apn.example.com>\r\n" % n for n in range(recipients)]))
    large.send(b"DATA\r\n" + message + b".\r\n")
    try:
        assert await asyncio.to_thread(channel.began.wait, 5)
        small.send(MCMT + b".\r\n")
        assert (await small.reply()).startswith("250 ")
        assert len(server.spool.accepted) == 1
    finally:
        channel.go_on.set()
    said = [await large.reply() for _ in range(recipients + 3)]
    assert said[-1].endswith("queued\r\n")
    assert len(server.spool.accepted[1][1]) == recipients


async def test_a_refusal_found_on_the_thread_is_told(serve: Serve) -> None:
    client = await (await serve()).ready()
    client.send(MCMT.replace(b'{"aps":{"alert":"hello"}}', b"\r\n" * LARGE + b"broken") + b".\r\n")
    assert (await client.reply()).startswith("554 5.6.0 the payload is not JSON")
    assert (await client.ask("NOOP")).startswith("250")


async def test_the_systems_randomness_is_asked_once_and_every_id_is_another() -> None:
    asked: list[int] = []

    def system(bits: int) -> int:
        asked.append(bits)
        return random.getrandbits(bits)

    class StandingClock(SystemClock):
        def time(self) -> float:
            return 1_000_000.0

    spool: Any = ListSpool()
    reception = Reception(make_settings(), make_channels(), spool, StandingClock(), system)
    envelope = Envelope("a@example.com", ("t@apn.example.com",))
    ids = {await reception.receive(envelope, MCMT, "allow") for _ in range(1000)}
    assert len(ids) == 1000
    assert asked == [256]
    await reception.aclose()

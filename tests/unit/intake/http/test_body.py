"""What a body weighs while it comes."""

from __future__ import annotations

import tracemalloc
from types import SimpleNamespace
from typing import Any

from mcmt.clock import SystemClock
from mcmt.config.settings import HttpAddressSettings
from mcmt.intake.http.api import Api
from mcmt.intake.memory import IntakeMemory
from mcmt.wire.trace import Tracing

PIECE, PIECES = b"ab", 50_000


class Trickle:
    """A body that comes two octets at a time."""

    def __init__(self) -> None:
        self.left = PIECES
        self.kept = 0

    async def readany(self) -> bytes:
        self.left -= 1
        if self.left == 0:
            self.kept = tracemalloc.get_traced_memory()[0]
        return bytes(bytearray(PIECE)) if self.left >= 0 else b""


async def test_a_body_that_comes_by_the_octet_is_kept_in_not_much_more_memory_than_it_counts() -> None:
    memory = IntakeMemory(10_000_000)
    nothing: Any = None
    clock = SystemClock()
    acceptance: Any = SimpleNamespace(reception=SimpleNamespace(tracing=Tracing(clock)))
    api = Api(HttpAddressSettings(host="127.0.0.1", port=0), nothing, acceptance, memory, clock, {})
    trickle = Trickle()
    tracemalloc.start()
    try:
        body = await api._read(SimpleNamespace(content_length=None, content=trickle))
    finally:
        tracemalloc.stop()
    assert body == PIECE * PIECES
    assert trickle.kept < 2 * len(body)
    memory.give_back(len(body))
    assert memory.held == 0

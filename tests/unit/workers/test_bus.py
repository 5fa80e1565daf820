"""What two processes of one engine say to each other."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator
from typing import Any

import msgspec
import pytest

from mcmt.errors import BusError, BusLost, SpoolFull
from mcmt.workers.bus import Bus


class Ask(msgspec.Struct, frozen=True, tag="ask"):
    text: bytes


class Say(msgspec.Struct, frozen=True, tag="say"):
    text: str


class Said(msgspec.Struct, frozen=True):
    text: bytes


class Ends:
    """Both ends, and what the second one does."""

    def __init__(self) -> None:
        self.heard: list[Any] = []
        self.held = asyncio.Event()
        self.held.set()
        self.lost: list[str] = []

    async def open(self) -> Ends:
        first, second = socket.socketpair()
        words = Ask | Say
        self.first = await Bus(words, self._never, self.heard.append, lambda: self.lost.append("first")).open(first)
        self.second = await Bus(words, self._answer, self.heard.append, lambda: self.lost.append("second")).open(second)
        return self

    async def _never(self, request: object) -> object:
        raise AssertionError(request)

    async def _answer(self, request: Ask) -> object:
        match request.text:
            case b"full":
                raise SpoolFull("no room on the disk")
            case b"bug":
                raise ZeroDivisionError("a bug")
            case b"strange":
                raise SpoolFull("no room for /mnt/\udcff")
            case b"unsayable":
                return Say("\udcff")
            case b"wait":
                await self.held.wait()
        return Said(request.text)


@pytest.fixture
async def ends() -> AsyncIterator[Ends]:
    ends = await Ends().open()
    yield ends
    ends.first.close()
    ends.second.close()
    await asyncio.sleep(0)


async def test_a_call_is_answered_with_every_byte_of_it(ends: Ends) -> None:
    for size in (0, 1, 3, 70_000, 12 * 1024**2):
        assert (await ends.first.call(Ask(b"x" * size), Said)).text == b"x" * size


async def test_answers_come_in_any_order_and_each_to_its_call(ends: Ends) -> None:
    ends.held.clear()
    slow = asyncio.ensure_future(ends.first.call(Ask(b"wait"), Said))
    assert (await ends.first.call(Ask(b"quick"), Said)).text == b"quick"
    ends.held.set()
    assert (await slow).text == b"wait"


async def test_notices_keep_their_order(ends: Ends) -> None:
    for number in range(1000):
        ends.first.tell(Say(str(number)))
    await ends.first.call(Ask(b""), Said)
    assert [notice.text for notice in ends.heard] == [str(number) for number in range(1000)]


async def test_a_refusal_is_raised_as_what_it_is(ends: Ends) -> None:
    with pytest.raises(SpoolFull, match="no room on the disk"):
        await ends.first.call(Ask(b"full"), Said)


async def test_a_bug_at_the_other_end_is_told_there_and_fails_this_call_alone(
    ends: Ends, caplog: pytest.LogCaptureFixture
) -> None:
    with pytest.raises(BusError, match="internal error: ZeroDivisionError"):
        await ends.first.call(Ask(b"bug"), Said)
    assert "ZeroDivisionError: a bug" in caplog.text
    assert (await ends.first.call(Ask(b"on"), Said)).text == b"on"


async def test_what_cannot_be_encoded_is_answered_too(ends: Ends) -> None:
    """A file's name may be no UTF-8."""
    async with asyncio.timeout(20):
        with pytest.raises(SpoolFull, match=r"no room for /mnt/\\udcff"):
            await ends.first.call(Ask(b"strange"), Said)
        with pytest.raises(BusError, match="internal error: UnicodeEncodeError"):
            await ends.first.call(Ask(b"unsayable"), Said)
    assert (await ends.first.call(Ask(b"on"), Said)).text == b"on"


async def test_when_the_other_end_is_gone_calls_under_way_are_lost_and_new_ones_refused(ends: Ends) -> None:
    ends.held.clear()
    call = asyncio.ensure_future(ends.first.call(Ask(b"wait"), Said))
    await asyncio.sleep(0.01)
    ends.second.close()
    with pytest.raises(BusLost, match="ended before it answered"):
        await call
    assert ends.first.is_lost
    with pytest.raises(BusLost):
        await ends.first.call(Ask(b""), Said)
    ends.first.tell(Say("to nobody"))
    assert ends.lost[0] in ("first", "second")

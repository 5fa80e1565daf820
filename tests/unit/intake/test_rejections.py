"""Refusals reach the ledger in batches, never wait for it, and never grow without bound."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest

from mcmt.clock import SystemClock
from mcmt.errors import SpoolError
from mcmt.intake import limits
from mcmt.intake.rejections import Rejections
from mcmt.message.event import Event, Kind


def rejection(number: int) -> Event:
    return Event(kind=Kind.REJECTION, time=1.0, text=f"{number}")


class Ledger:
    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.gate = asyncio.Event()
        self.failures: list[Exception] = []

    async def record(self, events: Sequence[Event]) -> None:
        await self.gate.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.batches.append([event.text for event in events])


async def test_what_comes_while_a_batch_is_written_makes_the_next_one() -> None:
    ledger = Ledger()
    rejections = Rejections(ledger.record, SystemClock())
    rejections.add(rejection(1))
    await asyncio.sleep(0)
    rejections.add(rejection(2))
    rejections.add(rejection(3))
    ledger.gate.set()
    await rejections.aclose()
    assert ledger.batches == [["1"], ["2", "3"]]


async def test_past_the_limit_they_are_counted_and_the_count_is_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(limits, "REJECTIONS", 2)
    ledger = Ledger()
    rejections = Rejections(ledger.record, SystemClock())
    rejections.add(rejection(1))
    await asyncio.sleep(0)
    for number in range(2, 7):
        rejections.add(rejection(number))
    ledger.gate.set()
    await rejections.aclose()
    assert ledger.batches == [["1"], ["2", "3", "[internal] 3 more rejections were not written: the spool was behind"]]


@pytest.mark.parametrize("failure", [SpoolError("full"), RuntimeError("bug")])
async def test_what_the_spool_did_not_take_is_counted_too(failure: Exception, caplog: pytest.LogCaptureFixture) -> None:
    ledger = Ledger()
    ledger.gate.set()
    ledger.failures = [failure]
    rejections = Rejections(ledger.record, SystemClock())
    rejections.add(rejection(1))
    rejections.add(rejection(2))
    await rejections.aclose()
    assert rejections.dropped == 2
    assert "2 rejections are in no log yet" in caplog.text
    rejections.add(rejection(3))
    await rejections.aclose()
    assert ledger.batches == [["3", "[internal] 2 more rejections were not written: the spool was behind"]]

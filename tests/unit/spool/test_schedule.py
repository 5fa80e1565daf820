"""A delivery that is due at a time of its own is kept until then, told of, and found whatever pulls have come past."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from pathlib import Path

import msgspec
import pytest

from mcmt.spool.port import Arrived
from mcmt.spool.sqlite import SqliteSpool, open_spool
from tests.unit.spool.samples import DOMAIN, NOW, PLENTY, accept, deliveries, message, pull

LATER = NOW + 3600


async def schedule(spool: SqliteSpool, due: float = LATER, count: int = 1) -> None:
    await spool.accept(message(), [msgspec.structs.replace(one, due=due) for one in deliveries(count)], [])


@pytest.mark.parametrize("count", [1, 600])
async def test_it_is_pulled_when_it_is_due_and_never_before(spool: SqliteSpool, count: int) -> None:
    await schedule(spool, count=count)

    early = await spool.pull(DOMAIN, LATER - 1, 1000, PLENTY)
    assert (early.deliveries, early.next_due) == ((), LATER)
    assert [one.attempts for one in await pull(spool, now=LATER, limit=1000)] == [0] * count


async def test_it_is_still_waited_for_after_a_restart(tmp_path: Path) -> None:
    spool = await open_spool(tmp_path / "again")
    await schedule(spool)
    await spool.close()
    spool = await open_spool(tmp_path / "again")
    try:
        assert await pull(spool, now=LATER - 1) == []
        assert len(await pull(spool, now=LATER)) == 1
    finally:
        await spool.close()


async def test_the_listener_is_told_when_and_cannot_take_it_now(spool: SqliteSpool) -> None:
    await pull(spool)
    told: list[tuple[int, float | None]] = []

    def listen(arrived: Mapping[str, Arrived]) -> None:
        one = arrived[DOMAIN]
        told.append((len(one.take(100, PLENTY)) + one.rest, one.next_due))

    spool.on_due(listen)
    await asyncio.gather(schedule(spool, LATER + 5), schedule(spool, LATER), accept(spool))
    await schedule(spool, LATER + 9)

    assert told == [(1, LATER), (0, LATER + 9)]


async def test_it_is_found_where_pulls_have_come_past_its_time(spool: SqliteSpool) -> None:
    """An operator's retry pulls what is due in an hour; what is scheduled before that comes later."""
    await schedule(spool, LATER)
    assert len(await pull(spool, now=LATER)) == 1

    await schedule(spool, LATER - 60)

    assert len(await pull(spool, now=LATER)) == 1


async def test_what_is_due_at_once_does_not_wait_for_what_is_due_later(spool: SqliteSpool) -> None:
    first, second = deliveries(2)
    await spool.accept(message(), [msgspec.structs.replace(first, due=LATER), second], [])

    assert [one.number for one in await pull(spool)] == [2]

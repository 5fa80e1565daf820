"""A backlog far beyond memory stays on disk, and no domain feels another's."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mcmt.spool.sqlite import SqliteSpool
from tests.unit.spool.samples import DOMAIN, NOW, PLENTY, accept, batch_id, deliveries, finish, message, pull

BACKLOG = 200_000


def resident() -> int:
    """Bytes of memory that this process has now."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096


@pytest.mark.timeout(60)
async def test_a_dead_domain_costs_the_others_nothing(spool: SqliteSpool) -> None:
    new = deliveries(1000, "dead.example")
    for _ in range(BACKLOG // len(new)):
        await spool.accept(message(b"x" * 4000), new, [])
    before = resident()
    held = await spool.pull("dead.example", NOW, 3000, PLENTY)
    assert len(held.deliveries) == 3000

    slowest = []
    for _ in range(200):
        await accept(spool)
        # A dead domain is tried, refused, released and asked again all the time.
        spool.release([one.row for one in held.deliveries[:50]])
        started = time.perf_counter()
        found = await pull(spool)
        slowest.append(time.perf_counter() - started)
        assert len(found) == 1
        await finish(spool, found)
        assert len(await pull(spool, "dead.example", limit=50)) == 50
    slowest.sort()
    assert slowest[180] < 0.01, f"a pull took {slowest[180]:.4f} s"
    assert resident() - before < 40 * 1024**2

    started = time.perf_counter()
    (backlog,) = await spool.backlog()
    assert backlog.deliveries == BACKLOG
    assert time.perf_counter() - started < 0.5
    started = time.perf_counter()
    assert await spool.domains() == ["dead.example"]
    assert time.perf_counter() - started < 0.05


async def test_every_delivery_of_a_large_backlog_comes_once(spool: SqliteSpool) -> None:
    seen = 0
    for _ in range(5):
        await spool.accept(message(batch=batch_id()), deliveries(4000), [])
    while found := await pull(spool, limit=700):
        seen += len(found)
        await finish(spool, found)
    assert seen == 20_000
    assert await spool.backlog(DOMAIN) == []

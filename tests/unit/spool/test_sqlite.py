"""What is accepted is kept with its events until it is settled, and can be counted, listed and found."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Collection, Iterator
from pathlib import Path

import apsw
import msgspec
import pytest

from mcmt.errors import SpoolError
from mcmt.message.event import Kind
from mcmt.message.model import Delivery
from mcmt.spool import commits
from mcmt.spool.port import Backlog, Selection, Settlement
from mcmt.spool.sqlite import SHARD, SqliteSpool, open_spool
from tests.support.manual_clock import ManualClock
from tests.unit.spool.samples import (
    DOMAIN,
    EXPIRES,
    NOW,
    PLENTY,
    accept,
    batch_id,
    defer,
    deliveries,
    event,
    events,
    finish,
    message,
    pull,
)


class GatedSync(apsw.VFS):
    """A disk whose WAL fsync is held back until the test opens the gate."""

    def __init__(self) -> None:
        super().__init__("gated", base="unix", makedefault=True)
        self.armed = False
        self.reached = threading.Event()
        self.gate = threading.Event()

    def xOpen(self, name: apsw.URIFilename | str | None, flags: list[int]) -> apsw.VFSFile:  # noqa: N802 - SQLite's
        return GatedFile(self, name, flags)


class GatedFile(apsw.VFSFile):
    def __init__(self, disk: GatedSync, name: apsw.URIFilename | str | None, flags: list[int]) -> None:
        super().__init__("unix", name, flags)
        self._disk = disk
        self._wal = bool(flags[0] & apsw.SQLITE_OPEN_WAL)

    def xSync(self, flags: int) -> None:  # noqa: N802 - SQLite's
        if self._wal and self._disk.armed:
            self._disk.reached.set()
            assert self._disk.gate.wait(10)
        super().xSync(flags)


@pytest.fixture
def disk() -> Iterator[GatedSync]:
    gated = GatedSync()
    try:
        yield gated
    finally:
        gated.unregister()


async def test_accept_returns_only_after_the_disk_has_synced(disk: GatedSync, tmp_path: Path) -> None:
    spool = await open_spool(tmp_path / "spool")
    disk.armed = True
    accepting = asyncio.create_task(accept(spool))
    assert await asyncio.to_thread(disk.reached.wait, 10)
    assert not accepting.done()
    assert await pull(spool) == []
    disk.armed = False
    disk.gate.set()
    await accepting
    assert len(await pull(spool)) == 1
    await spool.close()


async def test_what_goes_in_comes_out(spool: SqliteSpool) -> None:
    kept = message(bytes(range(256)), received=1763832984.2840123)
    new = deliveries(expires=1763919384.2840126)
    await spool.accept(kept, new, [])
    (found,) = await pull(spool, now=NOW - 1e9)
    assert found.part == kept.parts[0]
    assert found.id == f"{kept.batch_id}-1"
    assert (found.sender.received, found.sender.reverse_path) == (kept.received, kept.envelope.reverse_path)
    assert found.sender.context == kept.context
    assert (found.number, found.domain, found.recipient, found.token, found.expires, found.attempts) == (
        1,
        new[0].domain,
        new[0].recipient,
        new[0].token,
        new[0].expires,
        0,
    )


async def test_deliveries_of_one_message_share_its_body(spool: SqliteSpool, tmp_path: Path) -> None:
    content = b"x" * 4000
    await accept(spool, 3000, content=content)
    pulled = [await pull(spool, limit=1000) for _ in range(3)]
    assert [len(found) for found in pulled] == [1000, 1000, 1000]
    bodies = {id(one.part) for found in pulled for one in found}
    senders = {id(one.sender) for found in pulled for one in found}
    assert len(bodies) == len(senders) == 1
    assert (await pull(spool)) == []
    assert (tmp_path / "spool" / f"{SHARD}-wal").read_bytes().count(content[:2000]) <= 2


async def test_a_message_goes_with_the_last_of_its_deliveries(spool: SqliteSpool, tmp_path: Path) -> None:
    batch = await accept(spool, 3, parts=2)
    first, second, third = await pull(spool)
    await finish(spool, [second])
    assert [entry.id for entry in await spool.find(batch)] == [f"{batch}-1", f"{batch}-3"]
    await asyncio.gather(finish(spool, [first]), finish(spool, [third]))
    assert await spool.find(batch) == []
    await spool.close()
    with_rows = apsw.Connection(str(tmp_path / "spool" / SHARD))
    for table in ("message", "part", "delivery"):
        assert with_rows.execute(f"SELECT count(*) FROM {table}").get == 0
    with_rows.close()


async def test_events_are_read_in_order_and_go_when_acknowledged(spool: SqliteSpool) -> None:
    batch = await accept(spool)
    (one,) = await pull(spool)
    await defer(spool, [one], NOW)
    await spool.record([event(Kind.ROUTE, "")])
    assert [found.kind for found in await events(spool)] == [Kind.RECEPTION, Kind.TRANSIENT, Kind.ROUTE]
    assert (await events(spool))[0].id == f"{batch}-1"
    rows = await spool.read_outbox(0, 2)
    await spool.acknowledge(rows[-1].sequence)
    await spool.record([event(Kind.QUARANTINE, "")])  # they go with whatever comes next
    assert [found.kind for found in await events(spool)] == [Kind.ROUTE, Kind.QUARANTINE]
    await spool.acknowledge(2**62)
    async with asyncio.timeout(10):
        while await events(spool):  # and when nothing comes, after a moment
            await asyncio.sleep(0.02)


async def test_a_sequence_is_never_used_twice(spool: SqliteSpool, tmp_path: Path) -> None:
    await spool.record([event(Kind.ROUTE, "")])
    (row,) = await spool.read_outbox(0, 10)
    await spool.acknowledge(row.sequence)
    await spool.close()
    again = await open_spool(tmp_path / "spool")
    await again.record([event(Kind.ROUTE, "")])
    assert (await again.read_outbox(0, 10))[0].sequence > row.sequence
    await again.close()


async def test_a_shard_made_anew_goes_on_past_every_sequence_of_the_one_before(tmp_path: Path) -> None:
    """Whoever remembers how far the old one was read misses nothing of the new one."""
    clock = ManualClock()
    last = 0
    for _ in range(2):
        clock.advance(0.001)
        spool = await open_spool(tmp_path, clock)
        for _ in range(5):
            await spool.record([event(Kind.ROUTE, "")])
        rows = await spool.read_outbox(0, 10)
        assert rows[0].sequence > last
        last = rows[-1].sequence
        await spool.close()
        (tmp_path / SHARD).unlink()


async def test_an_opened_spool_has_everything_that_was_not_settled(spool: SqliteSpool, tmp_path: Path) -> None:
    kept = [await accept(spool) for _ in range(3)]
    first, second, _ = await pull(spool)
    await finish(spool, [first])
    await defer(spool, [second], NOW + 60)
    await spool.close()
    again = await open_spool(tmp_path / "spool")
    assert [one.sender.batch_id for one in await pull(again)] == [kept[2]]
    (deferred,) = await pull(again, now=NOW + 60)
    assert (deferred.sender.batch_id, deferred.attempts) == (kept[1], 1)
    await accept(again)
    assert len(await pull(again)) == 1
    await again.close()


async def test_keys_are_not_given_again_while_their_message_is_there(spool: SqliteSpool, tmp_path: Path) -> None:
    batch = await accept(spool, 6, parts=3)
    await finish(spool, (await pull(spool))[3:])
    await spool.close()
    again = await open_spool(tmp_path / "spool")
    other = await accept(again, 2)
    assert [entry.id for entry in await again.find(batch)] == [f"{batch}-{n}" for n in (1, 2, 3)]
    assert [entry.id for entry in await again.find(other)] == [f"{other}-{n}" for n in (1, 2)]
    await again.close()


async def test_listeners_hear_once_of_a_commit(spool: SqliteSpool) -> None:
    due: list[Collection[str]] = []
    told: list[int] = []
    spool.on_due(due.append)
    spool.on_events(lambda: told.append(1))
    # The first is on its way to the disk while the others gather behind it.
    await asyncio.gather(*[accept(spool, domain=f"d{n % 3}.example") for n in range(200)])
    assert set().union(*due) == {"d0.example", "d1.example", "d2.example"}
    assert len(due) == len(told) < 20
    told.clear()
    await spool.settle([Settlement((await pull(spool, "d0.example"))[0].row)], [])
    assert told == []


async def test_settlements_ride_on_what_others_write(spool: SqliteSpool) -> None:
    """They wait a moment for it, and no longer."""
    await accept(spool, 2)
    one, other = await pull(spool)
    told: list[int] = []
    spool.on_events(lambda: told.append(1))
    settling = asyncio.create_task(finish(spool, [one]))
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    await asyncio.gather(accept(spool), settling)
    assert len(told) == 1
    await finish(spool, [other])
    assert len(told) == 2


async def test_a_message_that_cannot_be_kept_fails_alone(spool: SqliteSpool) -> None:
    batch = await accept(spool)
    results = await asyncio.gather(
        accept(spool),
        accept(spool, batch=batch),
        accept(spool, domain="\udcff.example"),
        spool.accept(message(), deliveries(part=1), []),
        accept(spool),
        return_exceptions=True,
    )
    assert [isinstance(result, SpoolError) for result in results] == [False, True, True, True, False]
    assert len(await pull(spool)) == 3


async def test_a_delivery_is_not_settled_twice(spool: SqliteSpool) -> None:
    await accept(spool, 2)
    one, other = await pull(spool)
    results = await asyncio.gather(
        finish(spool, [one]), finish(spool, [one]), finish(spool, [other]), return_exceptions=True
    )
    assert [isinstance(result, SpoolError) for result in results] == [False, True, False]
    with pytest.raises(SpoolError, match="not out"):
        await finish(spool, [one])
    assert sum(found.kind == Kind.DELIVERY for found in await events(spool)) == 2


async def test_a_cancelled_pull_leaves_nothing_out(spool: SqliteSpool) -> None:
    await accept(spool, 50)
    for steps in range(8):
        pulling = asyncio.create_task(pull(spool))
        for _ in range(steps):
            await asyncio.sleep(0)
        pulling.cancel()
        await asyncio.wait([pulling])
        if not pulling.cancelled():
            spool.release([one.row for one in pulling.result()])
    assert len(await pull(spool)) == 50


async def test_a_cancelled_accept_is_kept_all_the_same(spool: SqliteSpool) -> None:
    accepting = asyncio.create_task(accept(spool))
    await asyncio.sleep(0)
    accepting.cancel()
    await asyncio.wait([accepting])
    await accept(spool)
    assert len(await pull(spool)) == 2


async def test_callers_wait_when_the_writer_has_too_much(spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(commits, "MAX_QUEUED_JOBS", 5)
    highest = 0

    async def one() -> None:
        nonlocal highest
        task = asyncio.ensure_future(accept(spool))
        await asyncio.sleep(0)
        highest = max(highest, spool.queued_jobs)
        await task

    await asyncio.gather(*[one() for _ in range(50)])
    assert 0 < highest <= 5
    assert len(await pull(spool)) == 50


async def test_domains_and_backlog_tell_what_is_there(spool: SqliteSpool) -> None:
    await accept(spool, 3, "a.example", received=NOW - 50)
    await accept(spool, 1, "b.example")
    pulled = await pull(spool, "a.example")
    assert await spool.domains() == ["a.example", "b.example"]
    await defer(spool, pulled, NOW + 30)
    assert await spool.backlog() == [
        Backlog("a.example", 3, NOW - 50, NOW + 30),
        Backlog("b.example", 1, NOW, 0),
    ]
    assert await spool.backlog("b.example") == [Backlog("b.example", 1, NOW, 0)]
    assert await spool.backlog("c.example") == []


async def test_entries_are_listed_in_pages(spool: SqliteSpool) -> None:
    await accept(spool, 3)
    await accept(spool, 1, "b.example")
    first, *rest = await pull(spool)
    await defer(spool, [first], NOW + 30)
    spool.release([rest[0].row])
    page = await spool.browse(Selection(), 0, 2)
    assert [(row, entry.domain, entry.active) for row, entry in page] == [
        (first.row, DOMAIN, False),
        (rest[0].row, DOMAIN, False),
    ]
    entry = page[0][1]
    assert (entry.id, entry.recipient, entry.token) == (first.id, first.recipient, first.token)
    assert (entry.due, entry.expires, entry.attempts, entry.last) == (NOW + 30, EXPIRES, 1, "503 busy")
    assert (entry.received, entry.sender, entry.size) == (NOW, "sender@example.com", len(first.part.content))
    assert [found.active for _, found in await spool.browse(Selection(), page[-1][0], 10)] == [True, False]
    assert [found.domain for _, found in await spool.browse(Selection(domain="b.example"), 0, 10)] == ["b.example"]
    assert await spool.find(rest[1].id) == [msgspec.structs.replace(entry, **_changes(rest[1]))]
    assert await spool.find(batch_id()) == []


def _changes(other: Delivery) -> dict[str, object]:
    return {
        "id": other.id,
        "recipient": other.recipient,
        "token": other.token,
        "due": 0.0,
        "attempts": 0,
        "last": "",
        "active": True,
    }


async def test_a_closed_spool_says_so(spool: SqliteSpool) -> None:
    await spool.close()
    await spool.close()
    for asked in (accept(spool), pull(spool), spool.backlog(), spool.read_outbox(0, 1), spool.pull_expired(NOW, 1)):
        with pytest.raises(SpoolError, match="closed"):
            await asked


async def test_closing_finishes_what_was_begun(spool: SqliteSpool, tmp_path: Path) -> None:
    accepting = [asyncio.create_task(accept(spool)) for _ in range(20)]
    await asyncio.sleep(0)
    await spool.close()
    await asyncio.gather(*accepting)
    assert not (tmp_path / "spool" / f"{SHARD}-wal").exists()
    again = await open_spool(tmp_path / "spool")
    assert len((await again.pull(DOMAIN, NOW, 100, PLENTY)).deliveries) == 20
    await again.close()


async def test_the_wal_does_not_grow_with_what_goes_through_it(spool: SqliteSpool, tmp_path: Path) -> None:
    wal = tmp_path / "spool" / f"{SHARD}-wal"
    for _ in range(40):
        await asyncio.gather(*[accept(spool, content=b"x" * 5000) for _ in range(100)], pull(spool))
        await finish(spool, await pull(spool, limit=1000))
    assert wal.stat().st_size < 12 * 1024**2


async def test_a_reader_that_stays_holds_up_nobody(spool: SqliteSpool, tmp_path: Path) -> None:
    await accept(spool)
    reader = apsw.Connection(str(tmp_path / "spool" / SHARD), flags=apsw.SQLITE_OPEN_READONLY)
    reader.execute("BEGIN")
    assert reader.execute("SELECT count(*) FROM delivery").get == 1
    started = asyncio.get_running_loop().time()
    for _ in range(20):
        await asyncio.gather(*[accept(spool, content=b"x" * 50_000) for _ in range(100)])
    assert asyncio.get_running_loop().time() - started < 20
    grown = (tmp_path / "spool" / f"{SHARD}-wal").stat().st_size
    reader.close()
    for _ in range(20):
        await accept(spool, content=b"x" * 500_000)
    assert (tmp_path / "spool" / f"{SHARD}-wal").stat().st_size <= grown + 8 * 1024**2
    assert len(await pull(spool, limit=3000)) == 2021

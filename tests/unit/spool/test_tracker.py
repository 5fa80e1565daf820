"""What became of a message is known to whoever may ask, and a message that is sent again is the same one."""

from __future__ import annotations

import asyncio
from pathlib import Path

import msgspec
import pytest

from mcmt.errors import NotKept
from mcmt.message.event import Event, Kind
from mcmt.message.model import Message
from mcmt.spool.port import Settlement
from mcmt.spool.sqlite import SqliteSpool, open_spool
from mcmt.spool.standing import Keyed, Once
from tests.unit.spool.samples import DOMAIN, NOW, accept, deliveries, message, pull

ONCE = Once("key", b"fingerprint")


def tracked(received: float = NOW) -> Message:
    kept = message(received=received)
    return msgspec.structs.replace(kept, envelope=msgspec.structs.replace(kept.envelope, protocol="http", user="shop"))


async def end(spool: SqliteSpool, kind: Kind, time: float = NOW + 1, count: int = 100) -> None:
    """Settle what is due, as the engine would."""
    found = await pull(spool, now=time, limit=count)
    events = [
        Event(
            kind=kind,
            time=time,
            id=one.id,
            batch_id=one.sender.batch_id,
            recipient=one.recipient,
            code="200",
            protocol=one.sender.protocol,
        )
        for one in found
    ]
    await spool.settle([Settlement(one.row) for one in found], events)


async def test_every_delivery_is_pending_until_it_has_ended(spool: SqliteSpool) -> None:
    kept = tracked()
    await spool.accept(kept, deliveries(3), [])
    await end(spool, Kind.DELIVERY, count=1)
    await end(spool, Kind.PERMANENT, count=1)

    standing = await spool.tracker.standing(kept.batch_id, 0, 100)

    assert standing is not None
    assert (standing.known.sender, standing.known.deliveries, standing.known.received) == ("shop", 3, NOW)
    assert [(one.number, one.delivered, one.code) for one in standing.ended] == [(1, True, "200"), (2, False, "200")]
    assert [one.id for one in standing.pending] == [f"{kept.batch_id}-3"]


async def test_it_is_known_after_a_restart_and_told_in_pages(tmp_path: Path) -> None:
    spool = await open_spool(tmp_path / "again")
    kept = tracked()
    await spool.accept(kept, deliveries(4), [])
    await end(spool, Kind.DELIVERY, count=2)
    await spool.close()
    spool = await open_spool(tmp_path / "again")
    try:
        page = await spool.tracker.standing(kept.batch_id, 1, 1)
        assert page is not None
        assert [one.number for one in page.ended] == [2]
        assert [one.id for one in page.pending] == [f"{kept.batch_id}-3"]
    finally:
        await spool.close()


async def test_of_messages_by_other_doors_nothing_is_kept(spool: SqliteSpool) -> None:
    batch_id = await accept(spool)
    await end(spool, Kind.DELIVERY)
    assert await spool.tracker.standing(batch_id, 0, 100) is None


async def test_what_failed_as_it_came_is_known_where_nothing_is_left_to_deliver(spool: SqliteSpool) -> None:
    kept = tracked()
    failed = Event(
        kind=Kind.PERMANENT, time=NOW, id=f"{kept.batch_id}-1", batch_id=kept.batch_id, code="550", protocol="http"
    )
    await spool.accept(kept, [], [failed])
    standing = await spool.tracker.standing(kept.batch_id, 0, 100)
    assert standing is not None
    assert (standing.known.deliveries, [one.code for one in standing.ended]) == (1, ["550"])


async def test_one_key_is_one_message_however_many_bring_it_at_once(spool: SqliteSpool) -> None:
    known = await asyncio.gather(*[spool.tracker.accept_once(ONCE, tracked(), deliveries(), []) for _ in range(20)])
    assert len({one.batch_id for one in known}) == 1
    assert len(await pull(spool)) == 1


async def test_a_key_is_known_after_a_restart_also_when_its_message_is_delivered(tmp_path: Path) -> None:
    spool = await open_spool(tmp_path / "again")
    first = await spool.tracker.accept_once(ONCE, tracked(), deliveries(), [])
    await end(spool, Kind.DELIVERY)
    await spool.close()
    spool = await open_spool(tmp_path / "again")
    try:
        again = await spool.tracker.accept_once(Once("key", b"another"), tracked(), deliveries(), [])
        assert (again.batch_id, again.fingerprint) == (first.batch_id, b"fingerprint")
        assert await pull(spool) == []
    finally:
        await spool.close()


async def test_a_message_that_is_not_kept_gives_its_key_back(
    spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    kept = tracked()
    await spool.accept(kept, deliveries(), [])
    with pytest.raises(Exception, match="not kept"):  # its batch id is taken
        await spool.tracker.accept_once(ONCE, kept, deliveries(), [])
    assert (await spool.tracker.accept_once(ONCE, tracked(), deliveries(), [])).batch_id != kept.batch_id


async def test_what_is_old_goes_and_what_is_pending_stays(spool: SqliteSpool) -> None:
    done, waiting = tracked(), tracked()
    await spool.accept(done, deliveries(), [])
    await end(spool, Kind.DELIVERY)
    await spool.accept(waiting, [msgspec.structs.replace(one, due=NOW + 1e6) for one in deliveries()], [])

    await spool.accept(tracked(NOW + 86400 - 5), deliveries(domain="other.example"), [])
    assert await spool.tracker.standing(done.batch_id, 0, 1) is not None
    await spool.accept(tracked(NOW + 86400 + 5), deliveries(domain="other.example"), [])

    assert await spool.tracker.standing(done.batch_id, 0, 1) is None
    assert await spool.tracker.standing(waiting.batch_id, 0, 1) is not None
    assert DOMAIN in await spool.domains()


def keyed(key: str) -> Keyed:
    return Keyed(Once(key, b"fingerprint"), message(), deliveries(1), [], ())


async def test_of_each_message_of_many_the_key_is_known_until_it_is_forgotten_also_after_a_restart(
    tmp_path: Path,
) -> None:
    spool = await open_spool(tmp_path / "again")
    given = [keyed(f"q tube {number}") for number in range(3)]
    assert await spool.tracker.accept_each([*given, keyed("q tuba 1")]) == [None] * 4
    assert await spool.tracker.keys("q tube ") == {one.once: NOW for one in given}
    spool.tracker.forget(["q tube 0", "q tube 1"])
    await spool.close()
    spool = await open_spool(tmp_path / "again")
    try:
        assert await spool.tracker.keys("q tube ") == {given[2].once: NOW}
        assert len(await pull(spool)) == 4
        # A key that was let go may be given anew, at once.
        spool.tracker.forget(["q tube 2"])
        assert await spool.tracker.accept_each([keyed("q tube 2")]) == [None]
    finally:
        await spool.close()


async def test_of_many_messages_each_is_kept_or_not_by_itself(spool: SqliteSpool) -> None:
    first, second, third = await spool.tracker.accept_each([keyed("a"), keyed("a"), keyed("b")])
    assert (first, third) == (None, None)
    assert isinstance(second, NotKept)
    assert len(await pull(spool)) == 2


async def test_what_is_forgotten_costs_its_key_and_not_its_message(spool: SqliteSpool) -> None:
    await spool.tracker.accept_each([keyed("a")])
    spool.tracker.forget(["a"])
    await end(spool, Kind.DELIVERY)
    assert await spool.tracker.keys("") == {}

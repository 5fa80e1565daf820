"""Following the logs over the control socket."""

from __future__ import annotations

import asyncio

import pytest

from mcmt.control import session
from mcmt.control.client import ControlClient
from mcmt.control.protocol import Follow
from mcmt.message.event import Event, Kind
from tests.unit.control.stand_ins import CHANNEL_LOG, DOMAIN, LEDGER, Peer, Running


def event(kind: Kind = Kind.DELIVERY, batch_id: str = "b1", domain: str = DOMAIN) -> Event:
    return Event(kind=kind, time=0.0, id=f"{batch_id}-1", batch_id=batch_id, domain=domain, attempt=2, deliveries=1)


async def follower(control: Running, **wanted: str) -> Peer:
    client = await control.client()
    assert (await client.answer())["type"] == "hello"
    await client.ask({"do": "follow", **wanted})
    assert await client.answer() == {"type": "begun"}
    return client


async def test_every_line_comes_with_what_it_tells_and_whether_it_is_the_ledgers(control: Running) -> None:
    client = await follower(control)
    control.eventlog.tell(CHANNEL_LOG, "short", event())
    control.eventlog.tell(LEDGER, "full", event())
    first, second = await client.answer(), await client.answer()
    told = {"kind": "D", "id": "b1-1", "batch_id": "b1", "attempt": 2, "deliveries": 1}
    assert first["item"] == {"logger": CHANNEL_LOG, "ledger": False, "line": "short", **told}
    assert second["item"] == {"logger": LEDGER, "ledger": True, "line": "full", **told}


async def test_only_lines_of_the_domain_or_message_asked_for_come(control: Running) -> None:
    by_domain = await follower(control, domain=DOMAIN)
    by_batch = await follower(control, batch_id="b2")
    for number, (batch_id, domain) in enumerate([("b1", DOMAIN), ("b2", "other.example.com"), ("b3", DOMAIN)]):
        control.eventlog.tell(LEDGER, str(number), event(batch_id=batch_id, domain=domain))
    control.eventlog.tell(LEDGER, "last", event(batch_id="b2"))
    assert [(await by_domain.answer())["item"]["line"] for _ in range(3)] == ["0", "2", "last"]
    assert [(await by_batch.answer())["item"]["line"] for _ in range(2)] == ["1", "last"]


async def test_a_follower_that_hangs_up_is_forgotten(control: Running) -> None:
    client = await follower(control)
    assert len(control.eventlog.listeners) == 1
    await client.close()
    serving = [task for task in asyncio.all_tasks() if "ControlServer._serve" in repr(task.get_coro())]
    await asyncio.wait(serving, timeout=5)
    assert not control.eventlog.listeners


async def test_a_follower_that_does_not_read_is_dropped_and_the_others_go_on(
    control: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "FOLLOWER_BUFFER", 100_000)
    monkeypatch.setattr(session, "LINGER", 0.05)
    slow, quick = await follower(control), await follower(control)
    read = 0
    async with asyncio.timeout(10):
        while len(control.eventlog.listeners) == 2:
            control.eventlog.tell(LEDGER, "x" * 10_000, event())
            assert (await quick.answer())["type"] == "item"
            read += 1
    control.eventlog.tell(LEDGER, "after", event())
    assert (await quick.answer())["item"]["line"] == "after"
    # What the slow one was owed at most: its buffer, and those of the sockets.
    assert read < 1000
    await slow.close()


async def test_a_dropped_follower_is_told_why_if_it_reads_at_last(
    control: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(session, "FOLLOWER_BUFFER", 100_000)
    slow = await follower(control)
    while control.eventlog.listeners:
        control.eventlog.tell(LEDGER, "x" * 10_000, event())
        await asyncio.sleep(0)
    while (answer := await slow.answer()).get("type") == "item":
        pass
    assert answer["code"] == "too_slow"


async def test_another_request_on_a_connection_that_follows_is_refused(control: Running) -> None:
    client = await follower(control)
    await client.ask({"do": "status"})
    assert (await client.answer())["code"] == "bad_request"
    assert not control.eventlog.listeners


async def test_narrowing_what_is_followed_loses_no_line(control: Running) -> None:
    """As ``mcmt send --wait`` does: first the domain, then, when the reply is there, the batch id."""
    loop = asyncio.get_running_loop()

    def command() -> list[str]:
        with ControlClient(control.path, 5.0) as client:
            client.follow(Follow(domain=DOMAIN))
            asyncio.run_coroutine_threadsafe(tell_before(), loop).result()
            client.follow(Follow(batch_id="b1"))
            loop.call_soon_threadsafe(tell_after)
            lines = [client.next_line(5.0) for _ in range(3)]
            return [line.line for line in lines if line is not None]

    async def tell_before() -> None:
        control.eventlog.tell(LEDGER, "reception", event(Kind.RECEPTION))
        control.eventlog.tell(LEDGER, "another's", event(batch_id="b2"))

    def tell_after() -> None:
        control.eventlog.tell(LEDGER, "another's, later", event(batch_id="b2"))
        control.eventlog.tell(LEDGER, "last", event())

    assert await asyncio.to_thread(command) == ["reception", "another's", "last"]

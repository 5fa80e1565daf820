"""Counting what is selected, having something done to it, and what there is to say of domains."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

import pytest

from mcmt.control import station
from mcmt.engine.hands import Handled, Work
from mcmt.engine.suspensions import Suspension
from mcmt.spool.sqlite import SqliteSpool
from tests.unit.control.stand_ins import DOMAIN, Peer, Running, message


async def asked(control: Running, request: Mapping[str, Any]) -> list[dict[str, Any]]:
    client = await control.client()
    await client.answer()
    await client.ask(request)
    return await client.answers()


@pytest.fixture(autouse=True)
async def filled(control: Running, spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three messages of three deliveries, looked at four by four and worked on two by two."""
    monkeypatch.setattr("mcmt.spool.listing.WINDOW", 4)
    monkeypatch.setattr(station, "WORK", 2)
    for number in range(1, 4):
        await spool.accept(*message(number, control.clock.time(), 3), ())


def order(**more: Any) -> dict[str, Any]:
    return {"do": "order", "verb": "hold", "selection": {"domain": DOMAIN}, "through": {"0": 9}, **more}


async def test_a_count_adds_up_over_its_pages_with_each_message_once(control: Running) -> None:
    *items, end = await asked(control, {"do": "count", "selection": {"domain": DOMAIN}})
    counts = [item["item"] for item in items]
    assert end == {"type": "end"}
    assert len(counts) == 3
    assert sum(one["deliveries"] for one in counts) == 9
    assert sum(one["messages"] for one in counts) == 3
    assert {(one["shard"], one["through"]) for one in counts} == {(0, 9)}


async def test_an_order_is_carried_out_by_the_page_up_to_what_was_counted(control: Running, spool: SqliteSpool) -> None:
    await spool.accept(*message(4, control.clock.time(), 3), ())
    *items, end = await asked(control, order(reason="why"))
    assert end == {"type": "end"}
    assert sum(item["item"]["done"] for item in items) == 9
    assert [len(chosen) for _, chosen in control.engine.handled].count(2) >= 4
    works = [work for work, _ in control.engine.handled]
    assert works[0] == Work("hold", "why")
    assert {work.first for work in works[1:]} == {False}
    assert {row for _, chosen in control.engine.handled for row in chosen} == set(range(1, 10))


@pytest.mark.parametrize(
    "more", [{"selection": {}}, {"selection": {"held": True}}, {"selection": {"recipient": ""}}], ids=str
)
async def test_what_selects_nothing_must_say_that_it_means_everything(control: Running, more: Any) -> None:
    (refused,) = await asked(control, order(**more))
    assert (refused["code"], "nothing is selected" in refused["text"]) == ("refused", True)
    *items, _ = await asked(control, order(everything=True, selection={}))
    assert sum(item["item"]["done"] for item in items) == 9


async def test_a_shard_that_was_not_counted_is_not_touched(control: Running) -> None:
    assert await asked(control, order(through={"1": 9})) == [{"type": "end"}]
    assert control.engine.handled == []


async def test_an_order_ends_when_whoever_gave_it_hangs_up(
    control: Running, spool: SqliteSpool, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = asyncio.Event(), asyncio.Event()

    async def by_hand(work: Work, chosen: Mapping[int, str]) -> Handled:
        control.engine.handled.append((work, chosen))
        begun.set()
        await go_on.wait()
        return Handled(done=len(chosen))

    monkeypatch.setattr(control.engine, "by_hand", by_hand)
    monkeypatch.setattr("mcmt.control.session.AT_LEAST", 0.0)
    client: Peer = await control.client()
    await client.answer()
    await client.ask(order())
    await begun.wait()
    client.writer.transport.abort()
    await asyncio.sleep(0.05)  # the engine's loop, which is this one, is told of the end
    go_on.set()
    async with asyncio.timeout(5):
        while control.server._clients:
            await asyncio.sleep(0.01)
    assert len(control.engine.handled) < 4


async def test_domains_are_the_stanzas_and_what_has_something_to_do(control: Running, spool: SqliteSpool) -> None:
    control.engine.stopped["idle.example.com"] = Suspension("later", 0.0, control.clock.time() + 60)
    *items, _ = await asked(control, {"do": "domains"})
    found = {item["item"]["domain"]: item["item"] for item in items}
    assert list(found) == sorted(found)
    assert found[DOMAIN]["queued"] == 9
    assert found["idle.example.com"]["until"] == 60


async def test_a_domain_is_told_with_its_last_answers_and_settings(control: Running) -> None:
    (item, _) = await asked(control, {"do": "domain", "domain": DOMAIN})
    told = item["item"]
    assert told["status"]["queued"] == 9
    assert told["answers"] == {"": 9}
    assert told["settings"]["max_outbound_connections"] == 32
    (refused,) = await asked(control, {"do": "domain", "domain": "nowhere.example.com"})
    assert "no stanza for nowhere.example.com" in refused["text"]

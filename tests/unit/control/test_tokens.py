"""The gone tokens over the control socket: listed by the page, forgotten, imported."""

from __future__ import annotations

import asyncio
import json

import pytest

from mcmt.control import tables
from mcmt.spool.port import GoneToken
from tests.unit.control.stand_ins import DOMAIN, Peer, Running

SINCE = 1_600_000_000.0


def learn(control: Running, count: int, domain: str = DOMAIN) -> list[str]:
    tokens = [f"{number:064x}" for number in range(count)]
    control.front.tokens.learn([GoneToken(domain, token, SINCE, reason="410 Unregistered") for token in tokens])
    return tokens


async def asked(control: Running, request: object) -> list[dict[str, object]]:
    client: Peer = await control.client()
    await client.answer()
    await client.ask(request)
    found = await client.answers()
    assert found.pop() == {"type": "end"}
    return [answer["item"] for answer in found]


async def test_tokens_are_listed_in_the_order_in_which_they_were_learned_over_many_pages(
    control: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "TOKENS", 3)
    tokens = learn(control, 10)
    learn(control, 2, "other.example.com")
    found = await asked(control, {"do": "tokens"})
    assert [item["token"] for item in found] == [*tokens, *tokens[:2]]
    assert len(await asked(control, {"do": "tokens", "domain": DOMAIN})) == 10
    assert [item["token"] for item in await asked(control, {"do": "tokens", "limit": 4})] == tokens[:4]
    seen = found[7]["number"]
    rest = await asked(control, {"do": "tokens", "domain": DOMAIN, "after": seen})
    assert [item["token"] for item in rest] == tokens[8:]


async def test_forgetting_counts_what_was_there_and_waits_for_what_the_logs_are_owed(control: Running) -> None:
    tokens = learn(control, 10)
    control.eventlog.may_flush.clear()
    asking = asyncio.ensure_future(
        asked(control, {"do": "forget_tokens", "domain": DOMAIN, "tokens": [*tokens[:3], "ff"]})
    )
    await control.eventlog.flushing.wait()
    assert len(control.front.tokens.page(None, 0, 100)) == 10
    control.eventlog.may_flush.set()
    assert await asking == [{"count": 3}]


async def test_a_whole_domain_is_forgotten_and_others_are_not(
    control: Running, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tables, "TOKENS", 3)
    learn(control, 10)
    learn(control, 2, "other.example.com")
    before = control.clock.time() + 1
    request = {"do": "forget_tokens", "domain": DOMAIN, "learned_before": before}
    assert await asked(control, request) == [{"count": 10}]
    assert {item["domain"] for item in await asked(control, {"do": "tokens"})} == {"other.example.com"}


async def test_what_is_imported_is_what_was_listed(control: Running) -> None:
    learn(control, 3)
    found = await asked(control, {"do": "tokens"})
    await asked(control, {"do": "forget_tokens", "domain": DOMAIN, "learned_before": control.clock.time() + 1})
    request = {"do": "learn_tokens", "tokens": json.loads(json.dumps(found))}
    assert await asked(control, request) == [{"count": 3}]
    assert await asked(control, request) == [{"count": 0}]
    again = await asked(control, {"do": "tokens"})
    assert [item["token"] for item in again] == [item["token"] for item in found]

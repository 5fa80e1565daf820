"""Rotation asked for over the control socket."""

from __future__ import annotations

import pytest

from tests.unit.control.stand_ins import CHANNEL_LOG, LEDGER, Running


@pytest.mark.parametrize(("asked", "expected"), [({}, [CHANNEL_LOG, LEDGER]), ({"logger": LEDGER}, [LEDGER])])
async def test_each_log_asked_for_is_an_item(control: Running, asked: dict[str, str], expected: list[str]) -> None:
    client = await control.client()
    await client.ask({"do": "rotate", **asked})
    _, *items, end = await client.answers()
    assert [item["item"]["logger"] for item in items] == expected
    assert items[0]["item"]["rotated"] == f"/logs/{expected[0]}-20261122T180000Z"
    assert end == {"type": "end"}


async def test_an_unknown_log_is_not_found_and_the_client_may_go_on(control: Running) -> None:
    client = await control.client()
    await client.ask({"do": "rotate", "logger": "x"})
    assert (await client.answers())[-1] == {"type": "failed", "code": "not_found", "text": "there is no logger x"}
    await client.ask({"do": "rotate"})
    assert (await client.answers())[-1] == {"type": "end"}

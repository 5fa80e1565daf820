"""Faults by rule and by reserved token, as a client on another stack sees them."""

from __future__ import annotations

import asyncio

import pytest

from mcmt.simulator.apns import ApnsSimulator
from mcmt.simulator.reserved import FAULTS
from mcmt.simulator.rules import GoawayRule, Rule, SettingsRule

from .client import Client
from .conftest import Connect, HeldClock, Simulate


async def warm(simulator: ApnsSimulator, connect: Connect, bearer: str) -> Client:
    client = await connect(simulator)
    await client.push("00" * 32, authorization=bearer)
    await client.until(lambda: client.room > 1)
    return client


async def test_500_once_and_then_200_for_each_token(simulate: Simulate, connect: Connect, bearer: str) -> None:
    rule = Rule(token="AA*", per="token", first=1, answer="500 InternalServerError", retry_after=30)
    client = await connect(await simulate(rules=[rule]))
    for token in ("aa" * 32, "aaff" * 16):
        refused = await client.push(token, authorization=bearer)
        assert (refused.status, refused.reason) == (500, "InternalServerError")
        assert refused.headers["retry-after"] == "30"
        assert (await client.push(token, authorization=bearer)).status == 200
    assert (await client.push("bb" * 32, authorization=bearer)).status == 200


async def test_rules_are_asked_in_order_and_choose_by_number_and_topic(
    simulate: Simulate, connect: Connect, bearer: str
) -> None:
    rules = [
        Rule(nth=(2, 3), answer="Unregistered", timestamp=1_700_000_000_000),
        Rule(topic="com.example.other", answer="429 TooManyRequests"),
        Rule(every=2, answer="503 Shutdown"),
    ]
    client = await connect(await simulate(rules=rules))
    got = []
    for topic in ("app", "app", "app", "other", "app", "app"):
        answer = await client.push(authorization=bearer, topic=f"com.example.{topic}")
        got.append(answer.reason or answer.status)
    # The third rule was asked about the first, fifth and sixth alone.
    assert got == [200, "Unregistered", "Unregistered", "TooManyRequests", "Shutdown", 200]


async def test_a_rule_is_not_asked_about_what_apple_refuses(simulate: Simulate, connect: Connect, bearer: str) -> None:
    client = await connect(await simulate(rules=[Rule(nth=(1,), answer="500 InternalServerError")]))
    assert (await client.push("ff", authorization=bearer)).reason == "BadDeviceToken"
    assert (await client.push(authorization=bearer)).reason == "InternalServerError"


@pytest.mark.parametrize(("kind", "code"), [("01", 7), ("02", 2), ("03", 8)])
async def test_a_stream_can_be_reset(kind: str, code: int, simulate: Simulate, connect: Connect, bearer: str) -> None:
    simulator = await simulate()
    client = await connect(simulator)
    token = f"fa11{kind}1".ljust(64, "0")
    assert (await client.push(token, authorization=bearer)).reset == code
    assert (await client.push(token, authorization=bearer)).status == 200
    assert simulator.counts == {(0, f"reset {code}"): 1, (200, ""): 1}


async def test_an_answer_can_be_followed_by_a_reset(simulate: Simulate, connect: Connect, bearer: str) -> None:
    client = await connect(await simulate())
    answer = await client.push("fa11040".ljust(64, "0"), authorization=bearer)
    assert (answer.status, answer.ended) == (200, True)
    assert (await client.push(authorization=bearer)).status == 200


async def test_no_answer_keeps_the_streams_place_until_it_is_reset(
    simulate: Simulate, connect: Connect, bearer: str
) -> None:
    """A client that gives up without RST_STREAM loses a place for good."""
    simulator = await simulate(max_streams=2)
    client = await warm(simulator, connect, bearer)
    silent = client.open("fa11000".ljust(64, "0"), authorization=bearer)
    client.write()
    await client.push(authorization=bearer)
    assert simulator.counts[0, "no answer"] == 1
    client.h2.unruly = True
    both = client.open(authorization=bearer), client.open(authorization=bearer)
    client.write()
    assert [(await client.answer(stream)).reset for stream in both] == [None, 7]
    client.h2.reset_stream(silent, 8)
    both = client.open(authorization=bearer), client.open(authorization=bearer)
    client.write()
    assert [(await client.answer(stream)).reset for stream in both] == [None, None]


@pytest.mark.parametrize(("last", "answered"), [("all", 500), ("none", 0), ("middle", 250), (501, 250)])
async def test_goaway_in_mid_flight_keeps_its_word(
    last: str | int, answered: int, simulate: Simulate, connect: Connect, bearer: str
) -> None:
    """500 streams are open; those up to the last-stream-id are answered, no other is, and the connection ends."""
    rules = [
        Rule(token="ff*", goaway=GoawayRule.model_validate({"last": last, "debug": "bye", "code": "NO_ERROR"})),
        Rule(token="ee*", delay=0.3),
    ]
    held = HeldClock()
    simulator = await simulate(rules=rules, clock=held)
    client = await warm(simulator, connect, bearer)
    streams = [client.open(f"ee{number:04x}".ljust(64, "0"), authorization=bearer) for number in range(499)]
    client.write()
    await asyncio.wait_for(simulator.wait_for(500), 10)
    streams.append(client.open("ff" * 32, authorization=bearer))
    client.write()
    await client.until(lambda: client.goaway is not None)
    held.let_go()
    await client.until(lambda: sum(answer.ended for answer in client.answers.values()) == answered + 1)
    held.let_go()
    await client.until_closed()
    assert client.goaway is not None
    assert client.goaway.additional_data == b"bye"
    limit = client.goaway.last_stream_id
    assert limit is not None
    assert {stream for stream in streams if client.answers[stream].ended} == {s for s in streams if s <= limit}
    assert sum(client.answers[stream].ended for stream in streams) == answered
    assert simulator.counts[0, "goaway"] == 500 - answered
    assert simulator.counts[200, ""] == answered + 1
    assert simulator.violations == []


async def test_goaway_before_any_request(simulate: Simulate, connect: Connect) -> None:
    client = await connect(await simulate(rules=[Rule(when="connect", first=1, goaway=GoawayRule())]))
    await client.until_closed()
    assert client.goaway is not None
    assert client.goaway.last_stream_id == 0


async def test_goaway_can_carry_apples_reason(simulate: Simulate, connect: Connect, bearer: str) -> None:
    client = await connect(await simulate())
    client.open("fa11080".ljust(64, "0"), authorization=bearer)
    client.write()
    await client.until_closed()
    assert client.goaway is not None
    assert client.goaway.additional_data == b'{"reason":"Shutdown"}'


@pytest.mark.parametrize("when", ["connect", "request"])
async def test_a_connection_can_be_dropped(when: str, simulate: Simulate, connect: Connect, bearer: str) -> None:
    simulator = await simulate(rules=[Rule.model_validate({"when": when, "first": 1, "close": True})])
    client = await connect(simulator)
    if when == "request":
        client.open(authorization=bearer)
        client.write()
    await client.until_closed()
    assert client.goaway is None
    assert (await (await connect(simulator)).push(authorization=bearer)).status == 200


async def test_settings_fall_to_one_with_hundreds_in_flight_and_rise_again(
    simulate: Simulate, connect: Connect, bearer: str
) -> None:
    rules = [
        Rule(nth=(250,), settings=SettingsRule(max_concurrent_streams=1, restore_after=2.0)),
        Rule(token="ee*", delay=0.1),
    ]
    held = HeldClock()
    simulator = await simulate(rules=rules, clock=held)
    client = await warm(simulator, connect, bearer)
    streams = [client.open(f"ee{number:04x}".ljust(64, "0"), authorization=bearer) for number in range(500)]
    client.write()
    await asyncio.wait_for(simulator.wait_for(501), 10)
    await client.until(lambda: client.room == 1)
    held.let_go()
    await client.until(lambda: client.room == 1000)
    assert {(await client.answer(stream)).status for stream in streams} == {200}
    assert simulator.violations == []
    assert simulator.streams_peak >= 499


async def test_the_limit_that_fell_is_enforced_once_acknowledged(
    simulate: Simulate, connect: Connect, bearer: str
) -> None:
    simulator = await simulate(rules=[Rule(nth=(2,), settings=SettingsRule(max_concurrent_streams=1))])
    client = await warm(simulator, connect, bearer)
    await client.push(authorization=bearer)
    await client.until(lambda: client.room == 1)
    await client.push(authorization=bearer)
    client.h2.unruly = True
    streams = client.open(authorization=bearer), client.open(authorization=bearer)
    client.write()
    assert [(await client.answer(stream)).reset for stream in streams] == [None, 7]
    assert len(simulator.violations) == 1


async def test_a_slow_answer_comes_in_two_pieces(simulate: Simulate, connect: Connect, bearer: str) -> None:
    client = await connect(await simulate(rules=[Rule(slow=0.1, answer="400 BadTopic")]))
    stream = client.open(authorization=bearer)
    client.write()
    await client.until(lambda: client.answers[stream].status == 400)
    assert not client.answers[stream].ended
    assert (await client.answer(stream)).reason == "BadTopic"


async def test_an_answer_need_not_be_json(simulate: Simulate, connect: Connect, bearer: str) -> None:
    client = await connect(await simulate())
    answer = await client.push("fa11130".ljust(64, "0"), authorization=bearer)
    assert (answer.status, answer.body) == (500, b"<html>500</html>")


async def test_a_reason_nobody_knows(simulate: Simulate, connect: Connect, bearer: str) -> None:
    client = await connect(await simulate())
    assert (await client.push("fa11120".ljust(64, "0"), authorization=bearer)).reason == "FutureReason"


async def test_reserved_tokens_can_be_switched_off(simulate: Simulate, connect: Connect, bearer: str) -> None:
    client = await connect(await simulate(reserved_tokens=False))
    for token in ("dead500000", *(f"fa11{index:02}0" for index in range(len(FAULTS)))):
        assert (await client.push(token.ljust(64, "0"), authorization=bearer)).status == 200

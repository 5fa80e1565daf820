"""Every reason of Apple's table can be had: by the mistake that it names, and by a reserved token."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from mcmt.simulator.judge import Identity, Judge
from mcmt.simulator.provider_token import TokenVerifier
from mcmt.simulator.reasons import BY_STATUS, STATUS
from mcmt.simulator.request import Request

from .client import PAYLOAD, TOKEN
from .conftest import Connect, MovedClock, Simulate

ID = "123e4567-e89b-42d3-a456-426614174000"


@dataclass
class Mistake:
    """A request that earns a reason."""

    reason: str
    request: dict[str, Any] = field(default_factory=dict)
    payload: bytes = PAYLOAD
    certificate: bool = False
    token: str = TOKEN


def header(name: str, value: str) -> dict[str, Any]:
    return {"extra": [(name, value)]}


def headers(*pairs: tuple[str, str], **request: Any) -> dict[str, Any]:
    return {"extra": list(pairs)} | request


MISTAKES = [
    Mistake("MethodNotAllowed", {"method": "GET"}),
    Mistake("BadPath", {"path": "/4/device/" + TOKEN}),
    Mistake("BadPath", {"path": f"/3/device/{TOKEN}/x"}),
    Mistake("BadPath", {"path": f"/3/device/{TOKEN}?x=1"}),
    Mistake("MissingDeviceToken", {"path": "/3/device/"}),
    Mistake("MissingDeviceToken", {"path": "/3/device"}),
    Mistake("BadDeviceToken", token="xy" * 32),
    Mistake("BadDeviceToken", token="ab" * 31),
    Mistake("BadDeviceToken", token="a" * 65),
    Mistake("BadDeviceToken", token="ab" * 101),
    Mistake("DuplicateHeaders", headers(("apns-priority", "10"), ("apns-priority", "10"))),
    Mistake("BadMessageId", header("apns-id", ID.upper())),
    Mistake("BadMessageId", header("apns-id", ID.replace("-", ""))),
    Mistake("BadExpirationDate", header("apns-expiration", "tomorrow")),
    Mistake("BadExpirationDate", header("apns-expiration", "-1")),
    Mistake("BadExpirationDate", header("apns-expiration", "1700000000000")),
    Mistake("BadPriority", header("apns-priority", "7")),
    Mistake("BadPriority", headers(("apns-push-type", "background"), ("apns-priority", "10"))),
    Mistake("BadPriority", header("apns-push-type", "background")),
    Mistake("BadCollapseId", header("apns-collapse-id", "x" * 65)),
    Mistake("InvalidPushType", header("apns-push-type", "carrier-pigeon")),
    Mistake("InvalidPushType", header("apns-push-type", "mdm")),
    Mistake(
        "InvalidPushType",
        headers(("apns-push-type", "liveactivity"), topic="com.example.app.push-type.liveactivity"),
        certificate=True,
    ),
    Mistake("MissingTopic", {"topic": None}),
    Mistake("MissingTopic", {"topic": None}, certificate=True),
    Mistake("BadTopic", {"topic": "com example app"}),
    Mistake("BadTopic", header("apns-push-type", "voip")),
    Mistake("TopicDisallowed", {"topic": "com.example.stranger"}),
    Mistake("TopicDisallowed", {"topic": "com.example.stranger"}, certificate=True),
    Mistake("TopicDisallowed", {"topic": "com.example.app.push-type.widgets"}, certificate=True),
    Mistake("PayloadEmpty", payload=b""),
    Mistake("PayloadEmpty", payload=b"{}"),
    Mistake("PayloadEmpty", payload=b"[1]"),
    Mistake("PayloadEmpty", payload=b'{"aps":{},}'),
    Mistake("PayloadEmpty", payload=b'{"aps":"\xff"}'),
    Mistake("PayloadTooLarge", payload=b'{"aps":"' + b"x" * 4087 + b'"}'),
    Mistake(
        "PayloadTooLarge",
        headers(("apns-push-type", "voip"), topic="com.example.app.voip"),
        payload=b'{"aps":"' + b"x" * 5111 + b'"}',
    ),
    Mistake("PayloadTooLarge", payload=b"x" * 60_000),
    Mistake("MissingProviderToken", {"authorization": None}),
    Mistake("MissingProviderToken", headers(("authorization", "basic abc"), authorization=None)),
    Mistake("InvalidProviderToken", {"authorization": "not.a.token"}),
    Mistake("InvalidProviderToken", {"authorization": "only-one-part"}),
]


@pytest.mark.parametrize("mistake", MISTAKES, ids=lambda mistake: mistake.reason)
async def test_a_mistake_gets_the_reason_that_apple_gives_for_it(
    mistake: Mistake, simulate: Simulate, connect: Connect, bearer: str
) -> None:
    simulator = await simulate()
    client = await connect(simulator, mistake.certificate)
    request = {"authorization": None if mistake.certificate else bearer} | mistake.request
    answer = await client.push(mistake.token, mistake.payload, **request)
    assert (answer.status, answer.reason) == (STATUS[mistake.reason], mistake.reason)
    assert simulator.counts == {(STATUS[mistake.reason], mistake.reason): 1}
    assert simulator.violations == []


GOOD: list[tuple[dict[str, Any], bytes]] = [
    (header("apns-id", ID), PAYLOAD),
    (header("apns-expiration", "0"), PAYLOAD),
    (header("apns-priority", "1"), PAYLOAD),
    (header("apns-collapse-id", "x" * 64), PAYLOAD),
    (headers(("apns-push-type", "background"), ("apns-priority", "5")), PAYLOAD),
    (headers(("apns-push-type", "location"), topic="com.example.app.location-query"), PAYLOAD),
    ({"topic": "com.example.other"}, PAYLOAD),
    ({}, b'{"aps":"' + b"x" * 4086 + b'"}'),
    (headers(("apns-push-type", "voip"), topic="com.example.app.voip"), b'{"aps":"' + b"x" * 5110 + b'"}'),
]


@pytest.mark.parametrize(("request_options", "payload"), GOOD)
async def test_what_apple_takes_is_taken(
    request_options: dict[str, Any], payload: bytes, simulate: Simulate, connect: Connect, bearer: str
) -> None:
    simulator = await simulate()
    answer = await (await connect(simulator)).push(payload=payload, authorization=bearer, **request_options)
    assert (answer.status, answer.body) == (200, b"")
    (push,) = simulator.received
    assert (push.token, push.payload, push.status, push.connection, push.stream) == (TOKEN, payload, 200, 1, 1)
    assert push.apns_id == answer.headers["apns-id"]


RESERVED = [(status, index, reason) for status, reasons in BY_STATUS.items() for index, reason in enumerate(reasons)]


@pytest.mark.parametrize(("status", "index", "reason"), RESERVED, ids=[reason for *_, reason in RESERVED])
async def test_a_reserved_token_provokes_each_reason(
    status: int, index: int, reason: str, simulate: Simulate, connect: Connect, bearer: str
) -> None:
    """Also once and then never again, which is what a retry needs."""
    client = await connect(await simulate())
    always = f"dead{status}{index:02}0".ljust(64, "0")
    once = f"DEAD{status}{index:02}1".ljust(64, "0")
    got = [(await client.push(token, authorization=bearer)) for token in (always, always, once, once)]
    assert [answer.status for answer in got] == [status, status, status, 200]
    assert got[0].reason == got[2].reason == reason


async def test_410_carries_milliseconds_and_every_answer_carries_ids(
    simulate: Simulate, connect: Connect, bearer: str, clock: MovedClock
) -> None:
    client = await connect(await simulate())
    answer = await client.push("dead410000".ljust(64, "0"), authorization=bearer, **header("apns-id", ID))
    assert answer.body == b'{"reason":"Unregistered","timestamp":%d}' % int(clock.now * 1000)
    assert answer.headers["apns-id"] == ID
    assert len(answer.headers["apns-unique-id"]) == 36
    made = await client.push(authorization=bearer)
    assert len(made.headers["apns-id"]) == 36


async def test_the_manuals_sample_token_is_taken_when_lengths_do_not_matter(
    simulate: Simulate, connect: Connect, bearer: str
) -> None:
    client = await connect(await simulate(any_token_length=True))
    assert (await client.push("a" * 35, authorization=bearer)).status == 200
    assert (await client.push("g" * 35, authorization=bearer)).reason == "BadDeviceToken"


async def test_the_same_apns_id_accepted_twice_is_a_violation(
    simulate: Simulate, connect: Connect, bearer: str
) -> None:
    simulator = await simulate()
    client = await connect(simulator)
    for _ in range(2):
        assert (await client.push(authorization=bearer, **header("apns-id", ID))).status == 200
    assert len(simulator.violations) == 1
    assert ID in simulator.violations[0]


async def test_with_a_certificate_the_authorization_header_is_ignored(simulate: Simulate, connect: Connect) -> None:
    client = await connect(await simulate(), certificate=True)
    answer = await client.push(authorization="rubbish", topic="com.example.app.voip")
    assert answer.status == 200


def test_a_certificate_for_a_single_topic_stands_in_for_the_header(clock: MovedClock) -> None:
    judge = Judge(TokenVerifier("TEAM", {}), frozenset(), False, clock)
    request = Request({":method": "POST", ":path": "/3/device/" + TOKEN}, frozenset(), PAYLOAD, len(PAYLOAD))
    assert judge.judge(request, Identity(certificate_topics=("com.example.app",))) == ""
    assert judge.judge(request, Identity(certificate_topics=("com.example.app", "b"))) == "MissingTopic"

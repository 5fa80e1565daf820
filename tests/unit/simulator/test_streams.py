"""Streams: one until the first good token, then as many as SETTINGS say; windows as data is read."""

from __future__ import annotations

import asyncio

import pytest

from mcmt.simulator.rules import Rule, SettingsRule
from mcmt.simulator.streams_limit import StreamsLimit

from .client import MAX_STREAMS, PAYLOAD, WINDOW
from .conftest import Connect, HeldClock, Simulate

REFUSED = 7


async def test_a_token_connection_has_one_stream_until_a_good_token_was_answered(
    simulate: Simulate, connect: Connect, bearer: str
) -> None:
    client = await connect(await simulate(max_streams=600))
    await client.until(lambda: client.settings)
    assert client.room == 1
    assert (await client.push(authorization="bad")).status == 403
    assert client.room == 1
    assert (await client.push("ff", authorization=bearer)).status == 400
    await client.until(lambda: client.room == 600)
    assert [change[MAX_STREAMS] for change in client.settings] == [1, 600]


async def test_a_certificate_connection_has_all_streams_at_once(simulate: Simulate, connect: Connect) -> None:
    client = await connect(await simulate(), certificate=True)
    await client.until(lambda: client.settings)
    assert client.room == 1000


async def test_tls_offers_h2(simulate: Simulate, connect: Connect) -> None:
    assert (await connect(await simulate())).alpn == "h2"


async def test_a_stream_over_the_limit_is_refused_and_noted(simulate: Simulate, connect: Connect, bearer: str) -> None:
    """The one inside the limit is answered all the same; both went out in one burst."""
    simulator = await simulate()
    client = await connect(simulator)
    await client.until(lambda: client.settings)
    client.h2.unruly = True
    first, second = client.open(authorization=bearer), client.open(authorization=bearer)
    client.write()
    assert (await client.answer(first)).status == 200
    assert (await client.answer(second)).reset == REFUSED
    assert simulator.violations == ["connection 1, stream 3: over MAX_CONCURRENT_STREAMS 1, 1 open"]
    assert (await client.push(authorization=bearer)).status == 200


async def test_a_client_that_has_not_seen_the_limit_is_refused_without_blame(
    simulate: Simulate, connect: Connect, bearer: str
) -> None:
    simulator = await simulate()
    client = await connect(simulator)
    streams = [client.open(authorization=bearer) for _ in range(3)]  # before its SETTINGS were read
    client.write()
    answers = [await client.answer(stream) for stream in streams]
    assert [answer.reset for answer in answers] == [None, REFUSED, REFUSED]
    assert simulator.violations == []


async def test_a_violation_can_end_the_connection_as_apple_ends_it(
    simulate: Simulate, connect: Connect, bearer: str
) -> None:
    client = await connect(await simulate(goaway_on_violation=True))
    await client.until(lambda: client.settings)
    client.h2.unruly = True
    first, _ = client.open(authorization=bearer), client.open(authorization=bearer)
    client.write()
    await client.until_closed()
    assert client.answers[first].status == 200
    assert client.goaway is not None
    assert client.goaway.error_code == REFUSED
    assert client.goaway.additional_data == b"Maximum active streams violated for this endpoint"


async def test_nine_hundred_streams_at_once_are_all_answered(simulate: Simulate, connect: Connect, bearer: str) -> None:
    simulator = await simulate()
    client = await connect(simulator)
    await client.push(authorization=bearer)
    await client.until(lambda: client.room == 1000)
    sent = 0
    pending: list[int] = []
    while sent < 900:  # as the connection's window lets it
        while sent < 900 and client.h2.outbound_flow_control_window >= len(PAYLOAD):
            pending.append(client.open(f"{sent:04x}" * 16, authorization=bearer))
            sent += 1
        client.write()
        if sent < 900:
            await client.read()
    answers = [await client.answer(stream) for stream in pending]
    assert {answer.status for answer in answers} == {200}
    assert simulator.total == 901
    assert len({push.token for push in simulator.received}) == 901
    assert simulator.streams_peak > 100
    assert simulator.violations == []


async def test_the_windows_are_given_back_as_payload_is_read(simulate: Simulate, connect: Connect, bearer: str) -> None:
    """Some 400 KB through a connection window of 64 KB."""
    simulator = await simulate()
    client = await connect(simulator)
    payload = b'{"aps":"' + b"x" * 4086 + b'"}'
    for _ in range(100):
        stream = client.open(payload=None, authorization=bearer)
        await client.until(lambda stream=stream: client.h2.local_flow_control_window(stream) >= 4096)
        client.h2.send_data(stream, payload, end_stream=True)
        client.write()
        assert (await client.answer(stream)).status == 200
    assert simulator.counts == {(200, ""): 100}


async def test_no_data_moves_while_the_window_is_zero(simulate: Simulate, connect: Connect, bearer: str) -> None:
    rule = Rule(when="connect", settings=SettingsRule(initial_window_size=0, restore_after=2.0))
    held = HeldClock()
    simulator = await simulate(rules=[rule], clock=held)
    client = await connect(simulator)
    await client.until(lambda: any(change.get(WINDOW) == 0 for change in client.settings))
    stream = client.open(payload=None, authorization=bearer)
    client.h2.ping(b"eightoct")
    client.write()
    await client.until(lambda: client.pongs == 1)
    assert client.h2.local_flow_control_window(stream) == 0
    held.let_go()
    await client.until(lambda: client.h2.local_flow_control_window(stream) == 65_535)
    assert simulator.total == 0
    client.h2.send_data(stream, PAYLOAD, end_stream=True)
    client.write()
    assert (await client.answer(stream)).status == 200


async def test_a_small_window_is_refilled_until_the_body_is_through(
    simulate: Simulate, connect: Connect, bearer: str
) -> None:
    rule = Rule(when="connect", settings=SettingsRule(initial_window_size=100))
    client = await connect(await simulate(rules=[rule]))
    await client.until(lambda: any(change.get(WINDOW) == 100 for change in client.settings))
    stream = client.open(payload=None, authorization=bearer)
    left = b'{"aps":"' + b"x" * 1000 + b'"}'
    while left:
        await client.until(lambda: client.h2.local_flow_control_window(stream) > 0)
        room = client.h2.local_flow_control_window(stream)
        client.h2.send_data(stream, left[:room], end_stream=len(left) <= room)
        client.write()
        left = left[room:]
    assert (await client.answer(stream)).status == 200


async def test_a_body_without_end_is_cut_off(simulate: Simulate, connect: Connect, bearer: str) -> None:
    simulator = await simulate()
    client = await connect(simulator)
    stream = client.open(payload=None, authorization=bearer)
    answer = client.answers[stream]
    while not answer.ended:
        room = min(client.h2.local_flow_control_window(stream), 16_000)
        if room:
            client.h2.send_data(stream, b"x" * room)
            client.write()
        else:
            await client.read()
    assert answer.reason == "PayloadTooLarge"
    assert len(simulator.received[0].payload) < 20_000


async def test_an_answer_waits_for_the_clients_window(simulate: Simulate, connect: Connect, bearer: str) -> None:
    client = await connect(await simulate())
    client.h2.update_settings({WINDOW: 5})  # 5 octets a stream
    await client.push(authorization=bearer)
    stream = client.open("dead400000".ljust(64, "0"), authorization=bearer)
    client.acknowledge = False
    client.write()
    await client.until(lambda: client.answers[stream].status)
    assert not client.answers[stream].ended
    client.h2.increment_flow_control_window(100, stream)
    client.write()
    assert (await client.answer(stream)).reason == "BadDeviceToken"


async def test_a_late_reset_leaves_the_connection_alive(simulate: Simulate, connect: Connect, bearer: str) -> None:
    """A client whose deadline passed resets a stream that may be answered, forgotten or both."""
    simulator = await simulate()
    client = await connect(simulator)
    await client.push(authorization=bearer)
    await client.until(lambda: client.room == 1000)
    gone = client.open(authorization=bearer)
    client.h2.reset_stream(gone, 8)
    for _ in range(300):
        await client.push(authorization=bearer)
    client._writer.write(b"\x00\x00\x04\x03\x00\x00\x00\x00\x01\x00\x00\x00\x08")  # RST_STREAM on stream 1
    assert (await client.push(authorization=bearer)).status == 200
    assert simulator.violations == []


async def test_a_client_that_says_goaway_still_gets_its_answers(
    simulate: Simulate, connect: Connect, bearer: str
) -> None:
    client = await connect(await simulate(rules=[Rule(delay=0.1)]))
    stream = client.open(authorization=bearer)
    client.write()
    goaway = b"\x00\x00\x08\x07\x00\x00\x00\x00\x00" + bytes(8)
    client._writer.write(goaway)
    assert (await client.answer(stream)).status == 200


async def test_broken_frames_end_the_connection_and_are_noted(
    simulate: Simulate, connect: Connect, bearer: str
) -> None:
    simulator = await simulate()
    client = await connect(simulator)
    await client.push(authorization=bearer)
    client._writer.write(b"\x00\x00\x01\x00\x00\x00\x00\x00\x00x")  # DATA on stream 0
    await client.until_closed()
    assert client.goaway is not None
    assert client.goaway.error_code == 1
    assert len(simulator.violations) == 1


async def test_connections_beyond_the_cap_are_dropped(simulate: Simulate, connect: Connect, bearer: str) -> None:
    simulator = await simulate(max_connections=1)
    first, second = await connect(simulator), await connect(simulator)
    await second.until_closed()
    assert (await first.push(authorization=bearer)).status == 200
    assert (simulator.connections_open, simulator.connections_total) == (1, 2)


async def test_closing_says_goaway_and_frees_the_port(simulate: Simulate, connect: Connect, bearer: str) -> None:
    simulator = await simulate()
    client = await connect(simulator)
    await client.push(authorization=bearer)
    closing = asyncio.create_task(simulator.aclose())
    await client.until_closed()
    await closing
    assert client.goaway is not None
    assert client.goaway.last_stream_id == 1
    assert simulator.connections_open == 0
    with pytest.raises(RuntimeError, match="not listening"):
        _ = simulator.port


async def test_wait_for_returns_when_the_pushes_are_there(simulate: Simulate, connect: Connect, bearer: str) -> None:
    seen: list[str] = []
    simulator = await simulate(history=1, on_received=lambda push: seen.append(push.token))
    client = await connect(simulator)
    waiting = asyncio.create_task(simulator.wait_for(2))
    await client.push("11" * 32, authorization=bearer)
    assert not waiting.done()
    await client.push("22" * 32, authorization=bearer)
    await asyncio.wait_for(waiting, 10)
    assert seen == ["11" * 32, "22" * 32]
    assert [push.token for push in simulator.received] == ["22" * 32]


def test_a_raised_limit_counts_when_written_and_a_lowered_one_when_acknowledged() -> None:
    limit = StreamsLimit(1)
    limit.decide(10)
    assert not limit.allows(1)
    limit.written()
    assert limit.allows(9)
    assert not limit.allows(10)
    limit.decide(2)
    limit.written()
    for _ in range(2):
        limit.acknowledged()
        assert limit.allows(9)
    limit.acknowledged()
    assert limit.allows(1)
    assert not limit.allows(2)

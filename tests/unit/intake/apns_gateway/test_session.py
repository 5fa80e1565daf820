"""The gateway for old senders: what is taken, what is told, and what neither may lose nor double."""

from __future__ import annotations

import asyncio
import contextlib
import ssl
import struct

import pytest

from mcmt.config.settings import INTAKE_COPIES, IntakeSettings
from mcmt.errors import SpoolFull
from mcmt.intake import limits
from mcmt.message.event import Kind
from mcmt.message.model import header
from tests.support.old_sender import (
    ERLANG_PAYLOAD,
    ERLANG_TOKEN,
    PAYLOAD,
    Answer,
    enhanced,
    items,
    simple,
    token,
)
from tests.unit.intake.apns_gateway.conftest import Gate, Server


async def answer_to(server: Server, *frames: bytes) -> Answer | None:
    """What a sender of these is told."""
    client = await server.connect()
    await asyncio.to_thread(client.send, *frames)
    return await asyncio.to_thread(client.answer)


async def test_every_layout_becomes_a_delivery_with_its_payload_expiration_and_priority(gate: Gate) -> None:
    server = await gate()
    client = await server.connect()
    await asyncio.to_thread(
        client.send, simple(token(1)), enhanced(token(2), 7, expiry=4_000_000_000), items(token(3), 0, priority=5)
    )
    assert await server.kept(3) == [token(1), token(2), token(3)]
    (message, deliveries, events), *others = server.spool.accepted
    assert not others, "what came together is one message"
    parts = [message.parts[delivery.part] for delivery in deliveries]
    assert {part.content for part in parts} == {PAYLOAD}
    assert [header(part.headers, "apns-expiration") for part in parts] == [None, "4000000000", None]
    assert [header(part.headers, "apns-priority") for part in parts] == [None, None, "5"]
    assert {delivery.domain for delivery in deliveries} == {"apn.example.com"}
    assert message.envelope.reverse_path == "push@example.com", "who hears of failures"
    (reception,) = events
    assert (reception.kind, reception.protocol, reception.deliveries) == (Kind.RECEPTION, "apns", 3)
    assert (reception.recipient, reception.remote_address) == ("apns@apn.example.com", "127.0.0.1")
    assert reception.connection_id
    assert reception.size >= 3 * len(PAYLOAD)


async def test_the_erlang_snippet_which_sends_one_packet_and_closes_is_delivered(gate: Gate) -> None:
    server = await gate()
    client = await server.connect()
    await asyncio.to_thread(client.send, simple(ERLANG_TOKEN, ERLANG_PAYLOAD))
    client.close()  # without reading anything, and without a goodbye
    assert await server.kept(1) == [ERLANG_TOKEN]
    assert server.spool.accepted[0][0].parts[0].content == ERLANG_PAYLOAD


async def test_equal_payloads_are_stored_once_and_a_repeated_notification_is_delivered_twice(gate: Gate) -> None:
    server = await gate()
    client = await server.connect()
    sent = [token(1), token(2), token(1), token(3)]
    await asyncio.to_thread(client.send, *[enhanced(each, number) for number, each in enumerate(sent)])
    assert await server.kept(4) == sent
    assert [len(message.parts) for message, _, _ in server.spool.accepted] == [1, 1]


BROKEN = b'{"aps":{"alert":"a}'


@pytest.mark.parametrize(
    ("bad", "status"),
    [
        (enhanced("", 2), 2),
        (enhanced(token(2), 2, b""), 4),
        (enhanced("ab" * 31, 2), 5),
        (enhanced("ab" * 33, 2), 5),
        (enhanced(token(2), 2, b'{"aps":{"alert":"' + b"x" * 4096 + b'"}}'), 7),
        (enhanced(token(2), 2, BROKEN), 4),
        (enhanced(token(2), 2, b'{"no":"aps"}'), 4),
        (items(token(2), 2, priority=7), 128),
        (items("", 2), 2),
    ],
)
async def test_a_malformed_notification_is_named_what_stands_before_it_is_kept_and_nothing_behind_it(
    gate: Gate, bad: bytes, status: int
) -> None:
    server = await gate()
    told = await answer_to(
        server, enhanced(token(0), 0), items(token(1), 1), bad, enhanced(token(3), 3), enhanced(token(4), 4)
    )
    assert told == Answer(8, status, 2)
    assert server.tokens == [token(0), token(1)], "on disk before it is told"
    await server.until(lambda: bool(server.spool.recorded))
    (rejection,) = server.spool.recorded
    assert (rejection.kind, rejection.phase, rejection.protocol) == (Kind.REJECTION, "notification", "apns")
    assert f"told: {status} " in rejection.text
    assert "identifier 2" in rejection.text


async def test_of_many_that_came_together_only_what_stands_before_the_first_bad_one_is_kept(gate: Gate) -> None:
    server = await gate()
    frames = [items(token(number), number, f'{{"aps":{{"badge":{number}}}}}'.encode()) for number in range(700)]
    frames[333] = items(token(333), 333, BROKEN)
    frames[500] = items(token(500), 500, BROKEN)
    assert await answer_to(server, *frames) == Answer(8, 4, 333)
    assert server.tokens == [token(number) for number in range(333)]


@pytest.mark.parametrize("bad", [simple("ab" * 31), simple(token(2), BROKEN), b"\x07junk"])
async def test_without_an_identifier_nothing_is_told_but_the_end(gate: Gate, bad: bytes) -> None:
    server = await gate()
    assert await answer_to(server, simple(token(1)), bad, simple(token(3))) is None
    assert server.tokens == [token(1)]


async def test_nothing_is_told_before_what_stands_before_it_is_on_disk(gate: Gate) -> None:
    server = await gate()
    server.spool.gate.clear()
    client = await server.connect()
    await asyncio.to_thread(client.send, enhanced(token(1), 1), enhanced("ab", 2))
    answer = asyncio.ensure_future(asyncio.to_thread(client.answer))
    await server.spool.waiting.wait()
    done, _ = await asyncio.wait([answer], timeout=0.2)
    assert not done
    server.spool.gate.set()
    assert await answer == Answer(8, 5, 2)


async def test_the_packet_reaches_a_client_that_goes_on_writing(gate: Gate) -> None:
    server = await gate()
    client = await server.connect()
    behind = b"".join(enhanced(token(number), number) for number in range(2, 30_000))

    def write() -> Answer | None:
        client.send(enhanced(token(0), 0), enhanced("ab", 1))
        with contextlib.suppress(OSError):  # a client that finds itself cut off looks for the reason
            client.send(behind)
        return client.answer()

    assert await asyncio.to_thread(write) == Answer(8, 5, 1)
    assert server.tokens == [token(0)]


async def test_a_drain_names_the_last_one_that_was_kept(gate: Gate) -> None:
    server = await gate()
    client, silent, _unheard = [await server.connect() for _ in range(3)]
    await asyncio.to_thread(client.send, *[enhanced(token(number), number) for number in range(5)])
    await asyncio.to_thread(silent.send, simple(token(9)))
    await server.kept(6)
    answers = [asyncio.ensure_future(asyncio.to_thread(each.answer)) for each in server.clients]
    await server.doors.drain(5.0)
    told, *others = await asyncio.gather(*answers)
    assert told == Answer(8, 10, 4)
    assert others == [None, None], "one has no identifiers, of the other nothing was taken, and node-apn counts from 0"


async def test_a_drain_waits_for_what_is_being_written(gate: Gate) -> None:
    server = await gate()
    server.spool.gate.clear()
    client = await server.connect()
    await asyncio.to_thread(client.send, enhanced(token(1), 1))
    await server.spool.waiting.wait()
    answer = asyncio.ensure_future(asyncio.to_thread(client.answer))
    drain = asyncio.ensure_future(server.doors.drain(10.0))
    await asyncio.sleep(0)
    server.spool.gate.set()
    assert await answer == Answer(8, 10, 1)
    await drain
    assert server.tokens == [token(1)]


async def test_a_spool_that_takes_nothing_is_a_shutdown_after_the_last_one_that_it_took(
    gate: Gate, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(limits, "GATEWAY_PAUSE", 0.05)
    server = await gate()
    client = await server.connect()
    await asyncio.to_thread(client.send, enhanced(token(1), 1))
    await server.kept(1)
    server.spool.failure = SpoolFull("the disk is full")
    await asyncio.to_thread(client.send, enhanced(token(2), 2), enhanced(token(3), 3))
    assert await asyncio.to_thread(client.answer) == Answer(8, 10, 1)
    assert await answer_to(server, enhanced(token(2), 2)) is None
    assert server.tokens == [token(1)]


async def test_a_silent_client_is_told_the_last_one_and_cut_off(gate: Gate) -> None:
    server = await gate(idle_timeout=0.3)
    assert await answer_to(server, enhanced(token(1), 1)) == Answer(8, 10, 1)
    assert await answer_to(server, enhanced(token(1), 1)[:20]) is None, "half of one is none"


async def test_a_client_is_not_read_while_too_much_of_it_waits(gate: Gate) -> None:
    server = await gate()
    server.spool.gate.clear()
    client = await server.connect()
    frames = [enhanced(token(number), number, b'{"aps":{}}' + b" " * 3000) for number in range(20_000)]
    sending = asyncio.ensure_future(asyncio.to_thread(client.send, *frames))
    await server.spool.waiting.wait()
    done, _ = await asyncio.wait([sending], timeout=0.5)
    assert not done, "60 MB are more than the kernel keeps for us"
    assert server.doors.smtp.held_bytes <= INTAKE_COPIES * 3 * limits.GATEWAY_INPUT
    server.spool.gate.set()
    await asyncio.wait_for(sending, 20)
    assert await server.kept(20_000) == [token(number) for number in range(20_000)]
    assert server.doors.smtp.held_bytes == 0


async def test_without_room_in_the_intakes_memory_a_client_waits(gate: Gate) -> None:
    server = await gate()
    memory = server.doors.smtp.memory
    others = memory.limit // INTAKE_COPIES
    assert memory.take(others)
    client = await server.connect()
    await asyncio.to_thread(client.send, *[enhanced(token(number), number) for number in range(100)])
    client.close()
    done = asyncio.ensure_future(server.kept(1))
    await asyncio.wait([done], timeout=0.3)
    assert not done.done()
    memory.give_back(others)
    assert len(await server.kept(100)) == 100
    await done
    assert memory.held == 0


async def test_connections_count_with_those_of_smtp(gate: Gate) -> None:
    server = await gate(intake=IntakeSettings(max_connections=1))
    await server.connect()
    with pytest.raises((OSError, ssl.SSLError)):
        await server.connect()
    assert server.doors.sessions == 1


async def test_half_a_notification_at_the_end_was_never_sent(gate: Gate) -> None:
    server = await gate()
    client = await server.connect()
    await asyncio.to_thread(client.send, enhanced(token(1), 1), enhanced(token(2), 2)[:-1])
    await asyncio.to_thread(client.finish)
    assert await server.kept(1) == [token(1)]
    await server.until(lambda: server.doors.sessions == 0)
    assert server.tokens == [token(1)]


async def test_a_reset_loses_nothing_that_was_read(gate: Gate) -> None:
    server = await gate()
    server.spool.gate.clear()
    client = await server.connect()
    await asyncio.to_thread(client.send, enhanced(token(1), 1))
    await server.spool.waiting.wait()
    client.socket.setsockopt(1, 13, struct.pack("ii", 1, 0))  # SOL_SOCKET, SO_LINGER: a close is a reset
    client.close()
    server.spool.gate.set()
    assert await server.kept(1) == [token(1)]
    await server.until(lambda: server.doors.sessions == 0)

"""How a session ends, in the middle of whatever it was doing, and what that is for the deliveries."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from channels.smtp import Options
from mcmt.message.status import Disposition
from tests.support.manual_clock import ManualClock
from tests.unit.channels.smtp.peer import ALL, MAIL, Peer, deliveries, envelope, open_to, serving

D = Disposition


async def hang_up(peer: Peer) -> None:
    peer.abort()


async def say_421(peer: Peer) -> None:
    await peer.say("421 4.3.2 closing")
    peer.close()


async def talk_nonsense(peer: Peer) -> None:
    await peer.say("this is not SMTP")
    await peer.gone()


@pytest.mark.parametrize(
    ("replies", "end", "disposition"),
    [
        (0, hang_up, D.REFUSED),
        (1, hang_up, D.REFUSED),
        (2, hang_up, D.REFUSED),
        (3, hang_up, D.AMBIGUOUS),
        (0, say_421, D.REFUSED),
        (1, say_421, D.TRANSIENT),
        (2, say_421, D.TRANSIENT),
        (3, say_421, D.TRANSIENT),
        (0, talk_nonsense, D.REFUSED),
        (3, talk_nonsense, D.AMBIGUOUS),
    ],
)
async def test_the_connection_ends_in_the_middle(
    replies: int, end: Callable[[Peer], Awaitable[None]], disposition: Disposition
) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet(*ALL)
        await peer.lines(3)
        await peer.say(*["250 ok", "250 ok", "354 go on"][:replies])
        if replies == 3:
            await peer.content()
        await end(peer)

    async with serving(script) as route:
        connection, report = await open_to(route)
        connection.send(deliveries("u@example.org"))
        await report.end()
        assert connection.send(deliveries("u@example.org", first=2)) == 0
    assert report.dispositions == [disposition]


async def test_a_half_answered_pipeline_is_an_answer_for_half_of_them() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet(*ALL)
        await peer.lines(5)
        await peer.say("250 ok", "550 5.1.1 no", "250 ok")
        peer.close()

    async with serving(script) as route:
        connection, report = await open_to(route)
        connection.send(deliveries("a@example.org", "b@example.org", "c@example.org"))
        await report.end()
    assert report.dispositions == [D.RECIPIENT_GONE, D.REFUSED, D.REFUSED]


async def test_closing_while_rset_is_answered_ends_with_it() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet(*ALL)
        await peer.lines(3)
        await peer.say("250 ok", "550 5.1.1 no", "503 nobody")
        assert await peer.line() == "RSET"
        asked.set()
        await go_on.wait()
        await peer.say("250 ok")
        assert await peer.line() == "QUIT"

    async with serving(script) as route:
        connection, report = await open_to(route)
        connection.send(deliveries("u@example.org"))
        await asked.wait()
        closing = asyncio.create_task(connection.aclose(5))
        await asyncio.sleep(0)
        go_on.set()
        await asyncio.wait_for(closing, 2)
        assert await report.end() == "closed by us"
    assert report.dispositions == [D.RECIPIENT_GONE]


async def test_a_refusal_in_the_middle_of_the_content_ends_the_session() -> None:
    content = MAIL + (b"x" * 80 + b"\r\n") * 100_000

    async def script(peer: Peer) -> None:
        await peer.greet(*ALL, "SIZE 0")
        await envelope(peer)
        await peer.say("354 go on", "552 5.3.4 that is too much")
        assert b"\r\n.\r\n" not in await peer.gone(), "nothing that could be taken for the whole message"

    async with serving(script) as route:
        connection, report = await open_to(route)
        connection.send(deliveries("u@example.org", content=content))
        await report.end()
    assert [(outcome.disposition, outcome.code) for outcome in report.all] == [(D.PERMANENT, "552")]


async def test_the_connection_lost_in_the_middle_of_the_content_is_an_attempt() -> None:
    content = MAIL + (b"x" * 80 + b"\r\n") * 100_000

    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await envelope(peer)
        await peer.say("354 go on")
        await peer.reader.readexactly(1000)
        peer.abort()

    async with serving(script) as route:
        connection, report = await open_to(route)
        connection.send(deliveries("u@example.org", content=content))
        await report.end()
    assert report.dispositions == [D.TRANSIENT]


@pytest.mark.parametrize(
    ("replies", "option", "disposition"),
    [
        (0, "command_timeout", D.REFUSED),
        (2, "command_timeout", D.REFUSED),
        (3, "final_reply_timeout", D.AMBIGUOUS),
    ],
)
async def test_silence_ends_at_its_own_deadline(replies: int, option: str, disposition: Disposition) -> None:
    clock = ManualClock()
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet(*ALL)
        await peer.lines(3)
        await peer.say(*["250 ok", "250 ok", "354 go on"][:replies])
        if replies == 3:
            await peer.content()
        asked.set()
        await peer.gone()

    options = Options(helo_name="mx")
    async with serving(script) as route:
        connection, report = await open_to(route, options, clock)
        connection.send(deliveries("u@example.org"))
        await asked.wait()
        await asyncio.sleep(0.02)  # what the server said last is read by now
        clock.advance(getattr(options, option) - 1)
        assert not report.batches
        clock.advance(1.1)
        assert await report.end() == "no answer in time"
    assert report.dispositions == [disposition]


async def test_a_server_that_reads_nothing_is_given_up() -> None:
    clock = ManualClock()
    content = MAIL + (b"x" * 80 + b"\r\n") * 200_000
    over = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING")
        await envelope(peer)
        await peer.say("354 go on")
        await over.wait()
        peer.abort()

    async with serving(script) as route:
        connection, report = await open_to(route, Options(helo_name="mx"), clock)
        connection.send(deliveries("u@example.org", content=content))
        while connection.transport.get_write_buffer_size() == 0:
            await asyncio.sleep(0.01)
        clock.advance(181)
        await report.end()
        over.set()
    assert report.dispositions == [D.TRANSIENT]


async def test_421_while_nothing_is_under_way_ends_the_session_in_peace() -> None:
    opened = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet(*ALL)
        await opened.wait()
        await peer.say("421 4.4.2 idle for too long")
        assert await peer.gone() == b"QUIT\r\n"

    async with serving(script) as route:
        connection, report = await open_to(route)
        opened.set()
        assert "421 4.4.2 idle for too long" in await report.end()
        assert connection.send(deliveries("u@example.org")) == 0
    assert not report.batches


async def test_closing_waits_for_the_answer_as_long_as_it_may() -> None:
    asked, go_on = asyncio.Event(), asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet(*ALL)
        await envelope(peer)
        await peer.say("354 go on")
        await peer.content()
        asked.set()
        await go_on.wait()
        await peer.say("250 ok")
        assert await peer.line() == "QUIT"

    async with serving(script) as route:
        connection, report = await open_to(route)
        connection.send(deliveries("u@example.org"))
        await asked.wait()
        closing = asyncio.create_task(connection.aclose(5))
        await asyncio.sleep(0)
        assert connection.send(deliveries("v@example.org", first=2)) == 0
        go_on.set()
        await closing
        await report.end()
    assert report.dispositions == [D.DELIVERED]


async def test_closing_without_patience_leaves_the_answer_open() -> None:
    asked = asyncio.Event()

    async def script(peer: Peer) -> None:
        await peer.greet(*ALL)
        await envelope(peer)
        await peer.say("354 go on")
        await peer.content()
        asked.set()
        await peer.gone()

    async with serving(script) as route:
        connection, report = await open_to(route)
        connection.send(deliveries("u@example.org"))
        await asked.wait()
        await connection.aclose(0.01)
        await report.end()
    assert report.dispositions == [D.AMBIGUOUS]

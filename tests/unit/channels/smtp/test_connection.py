"""The session over real sockets, against servers that follow a script."""

from __future__ import annotations

import asyncio
import ssl
from collections.abc import Awaitable, Callable

import pytest

from channels.smtp import Options
from channels.smtp.connection import CHUNK
from mcmt.message.status import Disposition
from tests.support.manual_clock import ManualClock
from tests.support.tls import Certificates
from tests.unit.channels.smtp.peer import MAIL, Peer, deliveries, open_to, serving

D = Disposition
ALL = ("PIPELINING", "8BITMIME", "SMTPUTF8", "SIZE 1000000")


async def envelope(peer: Peer, recipients: int = 1) -> list[str]:
    """Take MAIL, the recipients and DATA, as a pipelining client sends them, and accept the envelope."""
    said = await peer.lines(recipients + 2)
    await peer.say(*["250 ok"] * (recipients + 1))
    return said


async def test_several_messages_follow_one_another_in_one_session() -> None:
    got: list[list[str]] = []
    contents: list[bytes] = []

    async def script(peer: Peer) -> None:
        assert await peer.greet(*ALL) == "EHLO mx.example.com"
        for _ in range(3):
            got.append(await envelope(peer))
            contents.append(await peer.message())
        assert await peer.line() == "QUIT"

    async with serving(script) as route:
        connection, report = await open_to(route)
        assert connection.remote_address == "127.0.0.1"
        for number in (1, 2, 3):
            assert connection.send(deliveries("u@example.org", first=number)) == 1
            assert connection.send(deliveries("v@example.org", first=9)) == 0, "one at a time"
            await report.free()
        await connection.aclose(1)
        assert await report.end() == "closed by us"
    assert report.dispositions == [D.DELIVERED] * 3
    size = len(contents[0])
    assert got[0] == [f"MAIL FROM:<app@example.com> SIZE={size}", "RCPT TO:<u@example.org>", "DATA"]
    assert contents[0].endswith(b"\r\n" + MAIL)
    assert contents[0].startswith(b"Received: from [192.0.2.1]\r\n\tby mx.example.com with ESMTP id ")
    outcome = report.all[0]
    assert (outcome.code, outcome.text, outcome.remote_address) == ("250", "2.0.0 ok", "127.0.0.1")
    assert outcome.size == size + len(b".") + len(b".\r\n"), "the octets that went over the wire"


async def test_the_recipients_of_one_message_share_a_transaction_and_others_wait() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet(*ALL)
        assert [line for line in await envelope(peer, 2) if line.startswith("RCPT")] == [
            "RCPT TO:<a@example.org>",
            "RCPT TO:<b@example.org>",
        ]
        assert b"\tfor <" not in await peer.message(), "they are not told of one another"
        assert await peer.line() == "QUIT"

    async with serving(script) as route:
        connection, report = await open_to(route)
        first = deliveries("a@example.org", "b@example.org")
        other = deliveries("c@example.org", first=3, batch_id="0" * 24)
        assert connection.send([*first, *other]) == 2
        await report.free()
        await connection.aclose(1)
    (batch,) = report.batches
    assert [delivery.recipient for delivery, _ in batch] == ["a@example.org", "b@example.org"]


async def test_no_more_recipients_than_the_domain_allows_or_the_server_took() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet(*ALL)
        await peer.lines(5)
        await peer.say("250 ok", "250 ok", "250 ok", "452 4.5.3 enough")
        await peer.message()
        await envelope(peer, 2)
        await peer.message()
        assert await peer.line() == "QUIT"

    async with serving(script) as route:
        connection, report = await open_to(route, Options(helo_name="mx", max_recipients_per_batch=3))
        everyone = deliveries(*(f"u{n}@example.org" for n in range(5)))
        assert connection.send(everyone) == 3
        await report.free()
        assert report.dispositions == [D.DELIVERED, D.DELIVERED, D.REFUSED]
        report.batches.clear()
        assert connection.send(everyone[2:]) == 2, "as many as it took the last time"
        await report.free()
        assert report.dispositions == [D.DELIVERED, D.DELIVERED]
        await connection.aclose(1)


async def test_without_extensions_every_command_waits_and_helo_is_tried() -> None:
    async def script(peer: Peer) -> None:
        await peer.say("220 old")
        assert await peer.line() == "EHLO mx.example.com"
        await peer.say("502 what?")
        assert await peer.line() == "HELO mx.example.com"
        await peer.say("250 old")
        for command in ("MAIL FROM:<app@example.com>", "RCPT TO:<u@example.org>"):
            assert await peer.line() == command
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(peer.reader.read(1), 0.02)
            await peer.say("250 ok")
        assert await peer.line() == "DATA"
        await peer.message()
        await peer.line()

    async with serving(script) as route:
        connection, report = await open_to(route)
        connection.send(deliveries("u@example.org"))
        await report.free()
        await connection.aclose(1)
    assert report.dispositions == [D.DELIVERED]


async def test_after_a_transaction_without_content_comes_rset_and_the_session_goes_on() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet(*ALL)
        await peer.lines(3)
        await peer.say("250 ok", "550 5.1.1 no", "503 nobody")
        assert await peer.line() == "RSET"
        await peer.say("250 ok")
        await envelope(peer)
        await peer.message()
        await peer.line()

    async with serving(script) as route:
        connection, report = await open_to(route)
        connection.send(deliveries("u@example.org"))
        await report.free()
        connection.send(deliveries("v@example.org", first=2))
        await report.free()
        await connection.aclose(1)
    assert report.dispositions == [D.RECIPIENT_GONE, D.DELIVERED]


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


async def test_replies_in_pieces_and_several_in_one_are_the_same() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet(*ALL)
        await peer.lines(3)
        for byte in b"250-o\r\n250 k\r\n250 ok\r\n35":
            peer.writer.write(bytes([byte]))
            await peer.writer.drain()
            await asyncio.sleep(0)
        peer.writer.write(b"4 go on\r\n")
        await peer.content()
        await peer.say("250-2.0.0 queued", "250-2.0.0 as", "250 2.0.0 1234")
        await peer.line()

    async with serving(script) as route:
        connection, report = await open_to(route)
        connection.send(deliveries("u@example.org"))
        await report.free()
        await connection.aclose(1)
    assert report.all[0].text == "2.0.0 queued as 1234"


async def test_a_large_message_is_written_as_the_server_reads_it() -> None:
    content = MAIL + b"0123456789" * 80 + b"\r\n"
    content += content[len(MAIL) :] * 5000
    waiting = 0

    async def script(peer: Peer) -> None:
        nonlocal waiting
        await peer.greet("PIPELINING", "SIZE 0")
        await envelope(peer)
        await peer.say("354 go on")
        while (now := connection.transport.get_write_buffer_size()) != waiting or not now:
            waiting = now
            await asyncio.sleep(0.02)
        assert (await peer.content()).endswith(content)
        await peer.say("250 ok")
        await peer.line()

    async with serving(script) as route:
        connection, report = await open_to(route)
        connection.send(deliveries("u@example.org", content=content))
        await report.free()
        await connection.aclose(1)
    assert report.dispositions == [D.DELIVERED]
    assert 0 < waiting <= 3 * CHUNK, "the rest waits in the message, not in the transport"


async def test_a_large_message_goes_over_tls(certificates: Certificates) -> None:
    content = MAIL + (b"0123456789" * 8 + b"\r\n") * 60_000
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificates.server, certificates.server_key)

    async def script(peer: Peer) -> None:
        await peer.greet("STARTTLS")
        assert await peer.line() == "STARTTLS"
        await peer.say("220 go on")
        await peer.start_tls(context)
        await peer.hello("PIPELINING")
        await envelope(peer)
        assert (await peer.message()).endswith(content)
        assert await peer.line() == "QUIT"

    async with serving(script) as route:
        connection, report = await open_to(route)
        connection.send(deliveries("u@example.org", content=content))
        await report.free()
        await connection.aclose(1)
    assert report.dispositions == [D.DELIVERED]


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


async def test_what_this_server_cannot_take_is_refused_here_and_the_session_goes_on() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING", "SIZE 1000")
        assert await envelope(peer)
        await peer.message()
        await peer.line()

    async with serving(script) as route:
        connection, report = await open_to(route)
        assert connection.send(deliveries("ü@example.org", "u@example.org")) == 2
        await report.free()
        assert connection.send(deliveries("u@example.org", first=3, content=MAIL + b"x\r\n" * 1000)) == 1
        await report.free()
        assert connection.send(deliveries("u@example.org", first=4, sender="ü@example.com")) == 1
        await report.free()
        await connection.aclose(1)
    assert report.dispositions == [D.PERMANENT, D.DELIVERED, D.PERMANENT, D.PERMANENT]
    texts = [f"{outcome.code} {outcome.text}" for outcome in report.all]
    assert texts[0].startswith("553 5.6.7 [internal] ")
    assert texts[2].startswith("552 5.3.4 [internal] the message has 3")
    assert texts[3].startswith("553 5.6.7 [internal] ")


async def test_smtputf8_and_8bitmime_are_asked_for_where_they_are_needed() -> None:
    said: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING", "8BITMIME", "SMTPUTF8")
        for _ in range(4):
            said.append((await envelope(peer))[0])
            await peer.message()
        await peer.line()

    async with serving(script) as route:
        connection, report = await open_to(route)
        for number, (recipient, content) in enumerate(
            [
                ("u@example.org", MAIL),
                ("u@example.org", MAIL + "ü\r\n".encode()),
                ("u@example.org", "Subject: ü\r\n\r\n".encode()),
                ("ü@example.org", MAIL),
            ]
        ):
            connection.send(deliveries(recipient, content=content, first=number, sender=""))
            await report.free()
        await connection.aclose(1)
    assert said == [
        "MAIL FROM:<>",
        "MAIL FROM:<> BODY=8BITMIME",
        "MAIL FROM:<> BODY=8BITMIME SMTPUTF8",
        "MAIL FROM:<> SMTPUTF8",
    ]


@pytest.mark.parametrize("address", ["a b@example.org", "a>\r\nDATA@example.org", "<a@example.org>", "a@exa\0mple.org"])
async def test_an_address_that_would_be_another_command_is_never_sent(address: str) -> None:
    async def script(peer: Peer) -> None:
        await peer.greet(*ALL)
        assert await peer.gone() == b"QUIT\r\n"

    async with serving(script) as route:
        connection, report = await open_to(route)
        connection.send(deliveries(address))
        await report.free()
        await connection.aclose(1)
    assert [outcome.text[:5] for outcome in report.all] == ["5.1.3"]


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

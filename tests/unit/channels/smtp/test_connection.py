"""The session over real sockets, against servers that follow a script."""

from __future__ import annotations

import asyncio
import ssl

import msgspec
import pytest

from channels.smtp import Options
from channels.smtp.connection import CHUNK
from mcmt.message.notification import DELAY, FAILURE, NEVER, SUCCESS, Asked
from mcmt.message.status import Disposition
from tests.support.tls import Certificates
from tests.support.watching import Watcher
from tests.unit.channels.smtp.peer import ALL, MAIL, Peer, deliveries, envelope, open_to, serving

D = Disposition


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
    content += content[len(MAIL) :] * 20_000  # more than the kernel holds for a sender
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
        push = deliveries("0123abcd", first=5, content=b'{"aps":{}}', media_type="message/vnd.msys.apn")
        assert connection.send(push) == 1
        await report.free()
        await connection.aclose(1)
    assert report.dispositions == [D.PERMANENT, D.DELIVERED, D.PERMANENT, D.PERMANENT, D.PERMANENT]
    texts = [f"{outcome.code} {outcome.text}" for outcome in report.all]
    assert texts[0].startswith("553 5.6.7 [internal] ")
    assert texts[2].startswith("552 5.3.4 [internal] the message has 3")
    assert texts[3].startswith("553 5.6.7 [internal] ")
    assert texts[4].startswith("554 5.6.1 [internal] the message has a part for another channel")


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


async def test_who_watches_sees_the_dialogue() -> None:
    async def script(peer: Peer) -> None:
        await peer.greet(*ALL)
        await envelope(peer)
        await peer.message()
        assert await peer.line() == "QUIT"

    watcher = Watcher()
    async with serving(script) as route:
        connection, report = await open_to(route)
        report.trace = watcher.trace()
        connection.send(deliveries("u@example.org"))
        await report.free()
        await connection.aclose(1)
        await report.end()
    said = watcher.texts()
    assert {"sent command DATA", "sent command RCPT TO:<u@example.org>"} < set(said)
    assert said[0].startswith("sent command MAIL FROM:<app@example.com>")
    assert said[-2:] == ["sent content", "received reply 250 2.0.0 ok"]


@pytest.mark.parametrize("offered", [True, False])
async def test_what_the_sender_asked_for_is_passed_on_where_dsn_is_offered(offered: bool) -> None:
    """RFC 3461 5.2.1: unchanged, and then the server tells of success; 5.2.2: else we do."""
    got: list[str] = []

    async def script(peer: Peer) -> None:
        await peer.greet("PIPELINING", *(["DSN"] if offered else []))
        got.extend(await envelope(peer, 3))
        await peer.message()
        assert await peer.line() == "QUIT"

    first, second, third = deliveries("a@example.org", "b@example.org", "c@example.org")
    sender = msgspec.structs.replace(first.sender, ret="HDRS", envid="a+b c")
    asked = (Asked(NEVER), Asked(SUCCESS | FAILURE | DELAY, "rfc822;B+b@Example.org"), None)
    sent = [
        msgspec.structs.replace(one, sender=sender, asked=what)
        for one, what in zip((first, second, third), asked, strict=True)
    ]
    async with serving(script) as route:
        connection, report = await open_to(route)
        assert connection.send(sent) == 3
        await report.free()
        await connection.aclose(1)
    mail, *rcpt = got[:4]
    assert mail == "MAIL FROM:<app@example.com>" + " RET=HDRS ENVID=a+2Bb+20c" * offered
    assert rcpt == [
        "RCPT TO:<a@example.org>" + " NOTIFY=NEVER" * offered,
        "RCPT TO:<b@example.org>" + " NOTIFY=SUCCESS,FAILURE,DELAY ORCPT=rfc822;B+2Bb@Example.org" * offered,
        "RCPT TO:<c@example.org>",
    ]
    assert [outcome.reports for outcome in report.all] == [offered] * 3

"""What those who watch a domain are told of an SMTP session."""

from __future__ import annotations

from mcmt.clock import SystemClock
from tests.support.watching import Watcher
from tests.unit.intake.conftest import Serve
from tests.unit.intake.server import Client, Server

DOMAIN = "apn.example.com"
TOKEN = "0123456789abcdef" * 4
MAIL = b"Subject: x\r\n\r\nhello\r\n.\r\n"


def watch(server: Server, *, bodies: bool = False) -> Watcher:
    watcher = Watcher(DOMAIN, SystemClock(), bodies=bodies)
    server.listener._tracing.watched.update(watcher.tracing.watched)
    return watcher


async def envelope(client: Client, *recipients: str) -> None:
    await client.ask("MAIL FROM:<app@example.com>")
    for recipient in recipients:
        await client.ask(f"RCPT TO:<{recipient}>")


async def test_a_session_is_shown_from_the_recipient_of_the_domain_to_the_next_mail(serve: Serve) -> None:
    server = await serve()
    client = await server.hello()
    watcher = watch(server)
    await envelope(client, "u@sink.example.com", f"{TOKEN}@APN.example.com")
    await client.ask("DATA")
    client.send(MAIL)
    answer = await client.reply()
    await envelope(client, "u@sink.example.com")
    said = watcher.texts()
    assert said[0].startswith("event session ")
    assert said[0].endswith(", HELO client.example.com, MAIL FROM:<app@example.com>")
    assert said[1:] == [
        "received command RCPT TO:<0123...cdef@APN.example.com>",
        "sent reply 250 2.1.5 recipient ok",
        "received command DATA",
        "sent reply 354 end the message with <CR><LF>.<CR><LF>",
        "received content",
        f"sent reply {answer.strip()}",
    ]


async def test_in_one_burst_it_is_the_same(serve: Serve) -> None:
    server = await serve()
    client = await server.hello()
    watcher = watch(server, bodies=True)
    client.send(
        b"MAIL FROM:<a@example.com>\r\nRCPT TO:<u@nowhere.example>\r\nRCPT TO:<u@apn.example.com>\r\nDATA\r\n"
        + MAIL
        + b"MAIL FROM:<b@example.com>\r\nQUIT\r\n"
    )
    await client.rest()
    lines = watcher.lines()
    assert [line.text[:4] for line in lines[1:] if line.what != "content"] == [
        "RCPT",
        "250 ",
        "DATA",
        "354 ",
        lines[-1].text[:4],
    ]
    (content,) = [line for line in lines if line.what == "content"]
    assert (content.octets, content.body) == (len(MAIL), MAIL.decode())


async def test_a_refusal_is_shown_and_what_may_be_half_a_login_is_not(serve: Serve) -> None:
    server = await serve()
    client = await server.hello()
    watcher = watch(server)
    await envelope(client, "token@apn.example.com")
    for line in ("AUTH PLAIN AGFwcABzZWNyZXQ=", "c2VjcmV0LXBhc3N3b3Jk", "it's-s3cret", "RSET", "NOOP"):
        await client.ask(line)
    said = "\n".join(watcher.texts())
    assert "received command AUTH PLAIN ..." in said
    assert "received command 21 octets that are no command" in said
    assert "sent reply 500 5.5.1 ... is not a command here" in said
    assert "AGFwcAB" not in said
    assert "c2VjcmV0" not in said
    assert "s3cret" not in said
    assert "received command NOOP" in said


async def test_a_session_without_mail_for_the_domain_is_not_shown_nor_one_that_nobody_watches(serve: Serve) -> None:
    server = await serve()
    client = await server.hello()
    watcher = watch(server)
    await envelope(client, "u@sink.example.com")
    assert watcher.texts() == []
    await client.ask("RCPT TO:<token@apn.example.com>")
    assert watcher.texts()
    watcher.tracing.end(1)
    server.listener._tracing.watched.clear()
    await client.ask("NOOP")
    await client.ask("RCPT TO:<token@apn.example.com>")
    assert watcher.tracing.watched == {}

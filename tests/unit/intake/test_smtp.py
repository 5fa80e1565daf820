"""The commands of a session, over real sockets."""

from __future__ import annotations

import re
import socket
import struct

import msgspec
import pytest

from mcmt.errors import SpoolError
from mcmt.intake import limits
from mcmt.message.event import Kind
from tests.unit.intake.conftest import Serve
from tests.unit.intake.server import MCMT, make_settings

ENHANCED = re.compile(r"[245]\d\d [245]\.\d{1,3}\.\d{1,3} \S")


async def test_ehlo_offers_what_the_session_keeps(serve: Serve) -> None:
    client = await (await serve(max_message_size=12345)).connect()
    lines = (await client.ask("EHLO client.example.com")).splitlines()
    assert lines[0] == "250-mx.example.com"
    assert {line[4:] for line in lines[1:] if not line[4:].startswith("FUTURERELEASE ")} == {
        "PIPELINING",
        "SIZE 12345",
        "8BITMIME",
        "CHUNKING",
        "SMTPUTF8",
        "ENHANCEDSTATUSCODES",
        "HELP",
        "DSN",
        "DELIVERBY 1",
        "MT-PRIORITY MIXER",
    }


async def test_a_message_is_accepted_with_its_batch_id(serve: Serve) -> None:
    server = await serve()
    client = await server.ready()
    client.send(MCMT + b".\r\n")
    reply = await client.reply()
    ((message, deliveries, events),) = server.spool.accepted
    assert reply == f"250 2.0.0 {message.batch_id} queued\r\n"
    assert re.fullmatch("[0-9a-f]{24}", message.batch_id)
    assert message.envelope.reverse_path == "app@example.com"
    assert message.envelope.forward_paths == ("token@apn.example.com",)
    assert message.envelope.peer == "127.0.0.1"
    assert message.size == len(MCMT)
    assert [delivery.token for delivery in deliveries] == ["0a1b"]
    assert [event.kind for event in events] == [Kind.RECEPTION]


async def test_the_250_waits_for_the_spool(serve: Serve) -> None:
    server = await serve()
    server.spool.gate.clear()
    client = await server.ready()
    client.send(MCMT + b".\r\nNOOP\r\n")
    await server.spool.waiting.wait()
    other = await server.hello()
    await other.ask("NOOP")
    assert not client.reader._buffer  # type: ignore[attr-defined]  # nothing has come
    server.spool.gate.set()
    assert (await client.reply()).startswith("250 2.0.0")
    assert await client.reply() == "250 2.0.0 OK\r\n"


@pytest.mark.parametrize("reset", [False, True])
async def test_a_client_that_hung_up_while_the_spool_wrote_does_not_stop_the_commit(serve: Serve, reset: bool) -> None:
    server = await serve()
    server.spool.gate.clear()
    client = await server.ready()
    client.send(MCMT + b".\r\n")
    await server.spool.waiting.wait()
    if reset:
        # Closing with a linger time of 0 sends RST in place of FIN.
        sock = client.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.writer.transport.abort()
    other = await server.hello()
    await other.ask("NOOP")
    server.spool.gate.set()
    await other.ask("NOOP")
    assert len(server.spool.accepted) == 1


async def test_a_client_that_half_closed_gets_its_replies(serve: Serve) -> None:
    server = await serve()
    client = await server.connect()
    client.send(
        b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<t@apn.example.com>\r\nDATA\r\n" + MCMT + b".\r\nQUIT\r\n",
    )
    client.writer.write_eof()
    said = await client.rest()
    assert "queued\r\n221 2.0.0" in said
    assert len(server.spool.accepted) == 1


async def test_a_burst_is_answered_in_order_and_whole(serve: Serve) -> None:
    """Two transactions sent as one write, as RFC 2920 allows a client that knows what it will be told."""
    server = await serve()
    client = await server.hello()
    transaction = b"MAIL FROM:<a@example.com>\r\nRCPT TO:<t@apn.example.com>\r\nRCPT TO:<t@nowhere.example>\r\nDATA\r\n"
    client.send((transaction + MCMT + b".\r\n") * 2 + b"RSET\r\nQUIT\r\n")
    codes = [line[:9] for line in (await client.rest()).splitlines()]
    one = ["250 2.1.0", "250 2.1.5", "550 5.1.2", "354 end t", "250 2.0.0"]
    assert codes == [*one, *one, "250 2.0.0", "221 2.0.0"]
    assert len(server.spool.accepted) == 2


async def test_the_replies_of_a_burst_leave_together(serve: Serve) -> None:
    client = await (await serve()).hello()
    client.send(b"MAIL FROM:<a@example.com>\r\nRCPT TO:<t@apn.example.com>\r\nRCPT TO:<u@apn.example.com>\r\nDATA\r\n")
    first = await client.reader.read(65536)
    assert first.count(b"\r\n") == 4


async def test_a_long_burst_lets_other_sessions_in_between(serve: Serve) -> None:
    server = await serve()
    long, short = await server.hello(), await server.hello()
    long.send(b"NOOP\r\n" * 5000)
    short.send(b"NOOP\r\n")
    assert (await short.reply()).startswith("250")
    answered = long.reader._buffer.count(b"\n")  # type: ignore[attr-defined]
    assert answered < 2500
    for _ in range(5000):
        assert (await long.reply()).startswith("250")


async def test_commands_may_arrive_octet_by_octet(serve: Serve) -> None:
    server = await serve()
    client = await server.hello()
    for octet in b"MAIL FROM:<a@example.com>\r\nRCPT TO:<t@apn.example.com>\r\nDATA\r\n" + MCMT + b".\r\nQUIT\r\n":
        client.send(bytes([octet]))
        await client.writer.drain()
    assert "queued" in await client.rest()


@pytest.mark.parametrize(
    ("commands", "last"),
    [
        (["MAIL FROM:<a@b>"], "503 5.5.1"),
        (["EHLO"], "501 5.5.4"),
        (["EHLO x", "RCPT TO:<t@apn.example.com>"], "503 5.5.1"),
        (["EHLO x", "DATA"], "503 5.5.1"),
        (["EHLO x", "MAIL FROM:<a@b>", "DATA"], "503 5.5.1"),
        (["EHLO x", "MAIL FROM:<a@b>", "MAIL FROM:<a@b>"], "503 5.5.1"),
        (["EHLO x", "MAIL FROM:<a@b> SIZE=1001"], "552 5.3.4"),
        (["EHLO x", "MAIL FROM:<a@b> SIZE=1000"], "250 2.1.0"),
        (["EHLO x", "MAIL FROM:<a@b> SIZE=x"], "501 5.5.4"),
        (["EHLO x", "MAIL FROM:<a@b> SIZE=²"], "501 5.5.4"),
        (["EHLO x", "MAIL FROM:<a@b> SIZE=" + "9" * 30], "501 5.5.4"),
        (["EHLO x", "MAIL FROM:<a@b> BODY=8BITMIME SMTPUTF8"], "250 2.1.0"),
        (["EHLO x", "MAIL FROM:<a@b> BODY=BINARYMIME"], "501 5.5.4"),
        (["EHLO x", "MAIL FROM:<a@b> FOO=HDRS"], "555 5.5.4"),
        (["HELO x", "MAIL FROM:<a@b> SIZE=1"], "555 5.5.4"),
        (["HELO x", "MAIL FROM:<a@b>"], "250 2.1.0"),
        (["EHLO x", "MAIL FROM:<>"], "250 2.1.0"),
        (["EHLO x", "MAIL FROM:<grün@example.com>"], "553 5.6.7"),
        (["EHLO x", "MAIL FROM:<grün@example.com> SMTPUTF8"], "250 2.1.0"),
        (["EHLO x", "MAIL FROM:<>", "RCPT TO:<ü@apn.example.com>"], "553 5.6.7"),
        (["EHLO x", "MAIL FROM:<> SMTPUTF8", "RCPT TO:<ü@apn.example.com>"], "250 2.1.5"),
        (["EHLO x", "MAIL FROM:<> SMTPUTF8", "RSET", "MAIL FROM:<ü@b>"], "553 5.6.7"),
        (["EHLO x", "MAIL FROM:<>", "RCPT TO:<t@APN.Example.Com.>"], "553 5.1.3"),
        (["EHLO x", "MAIL FROM:<>", "RCPT TO:<t@APN.Example.Com>"], "250 2.1.5"),
        (["EHLO x", "MAIL FROM:<>", "RCPT TO:<@a.example,@b.example:t@apn.example.com>"], "250 2.1.5"),
        (["EHLO x", "MAIL FROM:<>", 'RCPT TO:<"t t"@apn.example.com>'], "250 2.1.5"),
        (["EHLO x", "MAIL FROM:<>", "RCPT TO:<t@nowhere.example>"], "550 5.1.2"),
        (["EHLO x", "MAIL FROM:<>", "RCPT TO:<postmaster>"], "550 5.1.2"),
        (["EHLO x", "MAIL FROM:<>", "RCPT TO:<t@apn.example.com> FOO=NEVER"], "555 5.5.4"),
        (["EHLO x", "MAIL FROM:<>", "RCPT TO:<t@apn.example.com>", "DATA now"], "501 5.5.4"),
        (["EHLO x", "MAIL FROM:<>", "RCPT TO:<t@apn.example.com>", "EHLO x", "DATA"], "503 5.5.1"),
        (["VRFY somebody"], "252 2.5.0"),
        (["EXPN list"], "502 5.5.1"),
        (["HELP"], "250 2.0.0"),
        (["HELP MAIL"], "250 2.0.0"),
        (["HELP NOTHING"], "501 5.5.4"),
        (["NOOP what ever"], "250 2.0.0"),
        (["RSET x"], "501 5.5.4"),
        (["AUTH PLAIN AGEAYg=="], "500 5.5.1"),
        (["STARTTLS"], "500 5.5.1"),
        (["ſTARTTLS"], "500 5.5.1"),
        ([""], "500 5.5.1"),
        (["NONSENSE \\"], "500 5.5.1"),
    ],
)
async def test_what_each_command_is_told(serve: Serve, commands: list[str], last: str) -> None:
    client = await (await serve(max_message_size=1000)).connect()
    for command in commands:
        reply = await client.ask(command)
    assert reply.startswith(last), reply
    assert ENHANCED.match(reply), reply
    assert (await client.ask("NOOP")).startswith("250")


@pytest.mark.parametrize("line", [b"NOOP\n", b"NO\rOP\r\n", b"\n", b"NOOP\r\r\n", b"MAIL FROM:<a@b\n>\r\n"])
async def test_a_bare_cr_or_lf_in_a_command_is_refused(serve: Serve, line: bytes) -> None:
    client = await (await serve()).hello()
    client.send(line)
    assert (await client.reply()).startswith("500 5.5.2")


async def test_a_command_that_is_not_utf_8_is_refused(serve: Serve) -> None:
    client = await (await serve()).hello()
    client.send(b"MAIL FROM:<\xff@example.com> SMTPUTF8\r\n")
    assert (await client.reply()).startswith("500 5.5.2")


@pytest.mark.parametrize("length", [limits.COMMAND_LINE - 1, limits.COMMAND_LINE, 300_000])
async def test_a_command_line_is_bounded_and_the_session_stays_in_step(serve: Serve, length: int) -> None:
    client = await (await serve()).hello()
    client.send(b"NOOP " + b"x" * (length - 7) + b"\r\nNOOP\r\n")
    answer = await client.reply()
    assert answer.startswith("250" if length <= limits.COMMAND_LINE else "500 5.5.2"), answer
    assert await client.reply() == "250 2.0.0 OK\r\n"


async def test_many_ehlos_of_many_clients_do_not_stretch_the_limit(serve: Serve) -> None:
    """aiosmtpd keeps one table of limits for all sessions, and every EHLO adds to it."""
    server = await serve()
    for _ in range(5):
        client = await server.connect()
        for _ in range(20):
            await client.ask("EHLO x")
    client.send(b"MAIL FROM:<a@b> " + b"X" * limits.COMMAND_LINE + b"\r\n")
    assert (await client.reply()).startswith("500 5.5.2")


async def test_recipients_are_bounded_and_the_message_goes_to_those_before(
    serve: Serve,
) -> None:
    server = await serve(max_recipients_per_message=3)
    client = await server.hello()
    client.send(
        b"MAIL FROM:<>\r\n" + b"".join(b"RCPT TO:<t%d@apn.example.com>\r\n" % n for n in range(5)) + b"DATA\r\n"
    )
    codes = [(await client.reply())[:9] for _ in range(7)]
    assert codes == ["250 2.1.0", *["250 2.1.5"] * 3, *["452 4.5.3"] * 2, "354 end t"]
    client.send(MCMT + b".\r\n")
    assert (await client.reply()).startswith("250")
    assert len(server.spool.accepted[0][0].envelope.forward_paths) == 3


async def test_too_many_errors_end_the_session(serve: Serve) -> None:
    client = await (await serve(max_errors=7)).hello()
    client.send(b"WHAT\r\n" * 100)
    said = (await client.rest()).splitlines()
    assert len(said) == 7 + 2
    assert said[-1].startswith("421 4.7.0")


async def test_an_accepted_message_forgives_the_errors_before_it(serve: Serve) -> None:
    client = await (await serve(max_errors=7)).hello()
    for _ in range(3):
        for _ in range(6):
            assert (await client.ask("WHAT")).startswith("500")
        client.send(b"MAIL FROM:<>\r\nRCPT TO:<t@apn.example.com>\r\nDATA\r\n" + MCMT + b".\r\n")
        for _ in range(3):
            await client.reply()
        assert (await client.reply()).startswith("250")


async def test_a_browser_cannot_be_made_to_submit(serve: Serve) -> None:
    server = await serve()
    client = await server.connect()
    client.send(
        b"POST / HTTP/1.1\r\nHost: localhost:2525\r\n\r\n"
        b"EHLO x\r\nMAIL FROM:<>\r\nRCPT TO:<t@apn.example.com>\r\nDATA\r\n" + MCMT + b".\r\nQUIT\r\n"
    )
    assert (await client.rest()).startswith("554 5.5.1")
    assert not server.spool.accepted


async def test_a_fault_of_ours_is_451_with_a_traceback_and_the_session_goes_on(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve()
    server.spool.failure = RuntimeError("boom\r\n250 2.0.0 injected")
    client = await server.ready()
    client.send(MCMT + b".\r\n")
    assert (await client.reply()).startswith("451 4.3.0")
    assert "RuntimeError: boom" in caplog.text
    server.spool.failure = None
    client.send(b"MAIL FROM:<>\r\nRCPT TO:<t@apn.example.com>\r\nDATA\r\n" + MCMT + b".\r\n")
    assert [(await client.reply())[:3] for _ in range(4)] == ["250", "250", "354", "250"]


async def test_a_spool_that_cannot_keep_is_451_and_says_to_try_again(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    server = await serve()
    server.spool.failure = SpoolError("the disk of /spool is full")
    client = await server.ready()
    client.send(MCMT + b".\r\n")
    reply = await client.reply()
    assert reply.startswith("451 4.3.0")
    assert "try again later" in reply
    assert "/spool" not in reply
    assert "the disk of /spool is full" in caplog.text
    assert (await client.ask("NOOP")).startswith("250")


async def test_what_a_full_disk_refuses_is_one_line_for_the_operator(
    serve: Serve, caplog: pytest.LogCaptureFixture
) -> None:
    """Clients come again and again: a journal with a line for each would fill the next disk."""
    server = await serve()
    server.spool.failure = SpoolError("the disk of /spool is full")
    for number in range(10):
        client = await server.ready()
        client.send(MCMT + b".\r\n")
        assert (await client.reply()).startswith("451 4.3.0"), number
    told = [record.message for record in caplog.records if "the disk of /spool is full" in record.message]
    assert [text.partition(", the last one")[0] for text in told if "not kept" in text] == ["1 messages not kept"]
    assert len(told) == 2, "one of the messages, one of the rejections that are in no log"


async def test_what_a_refusal_quotes_cannot_become_a_reply(serve: Serve) -> None:
    client = await (await serve()).ready()
    client.send(MCMT.replace(b'{"aps":{"alert":"hello"}}', b"broken") + b".\r\n")
    reply = await client.reply()
    assert reply == "554 5.6.0 the payload is not JSON 250 injected\r\n"
    assert (await client.ask("NOOP")).startswith("250")


async def test_the_end_of_a_client_inside_its_message_leaves_nothing(serve: Serve) -> None:
    server = await serve()
    client = await server.ready()
    client.send(MCMT)
    client.writer.write_eof()
    assert await client.rest() == ""
    assert not server.spool.accepted


async def test_refusals_of_mail_are_recorded_and_errors_of_protocol_are_not(serve: Serve) -> None:
    server = await serve(max_message_size=1000)
    client = await server.hello()
    await client.ask("NONSENSE")
    await client.ask("MAIL FROM:<big@example.com> SIZE=2000")
    await client.ask("MAIL FROM:<a@example.com>")
    await client.ask("RCPT TO:<t@nowhere.example>")
    await client.ask("RCPT TO:<t@apn.example.com>")
    await client.ask("DATA")
    client.send(b"Subject: no part\r\n\r\n.\r\n")
    assert (await client.reply()).startswith("554 5.6.1")
    await server.listener.drain(1.0)
    seen = [(event.kind, event.phase, event.code, event.sender, event.recipient) for event in server.spool.recorded]
    assert seen == [
        (Kind.REJECTION, "MAIL", "552", "big@example.com", ""),
        (Kind.REJECTION, "RCPT", "550", "a@example.com", "t@nowhere.example"),
        (Kind.REJECTION, "DATA", "554", "a@example.com", "t@apn.example.com"),
    ]
    event = server.spool.recorded[-1]
    assert event.text.startswith("5.6.1 ")
    assert (event.remote_address, event.protocol, len(event.connection_id)) == ("127.0.0.1", "esmtp", 16)


@pytest.mark.parametrize(
    "written", ["bücher.example", "BÜCHER.example", "xn--bcher-kva.example", "XN--Bcher-KVA.Example"]
)
async def test_an_internationalised_domain_is_one_domain_however_it_is_written(serve: Serve, written: str) -> None:
    settings = make_settings()
    stanza = msgspec.structs.replace(settings.domains["sink.example.com"], name="xn--bcher-kva.example")
    server = await serve(settings=msgspec.structs.replace(settings, domains={stanza.name: stanza}))
    client = await server.hello()
    assert (await client.ask("MAIL FROM:<> SMTPUTF8")).startswith("250")
    assert (await client.ask(f"RCPT TO:<t@{written}>")).startswith("250")
    await client.ask("DATA")
    client.send(b"x\r\n.\r\n")
    assert (await client.reply()).startswith("250")
    ((_, (delivery,), (event,)),) = server.spool.accepted
    assert delivery.domain == event.domain == "xn--bcher-kva.example"
    assert delivery.recipient == f"t@{written}"

"""BDAT: the chunk reader by itself, and sessions over real sockets."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.errors import MessageError
from mcmt.intake.chunks import ChunkReader
from mcmt.message.event import Kind
from tests.support.manual_clock import ManualClock
from tests.unit.intake.conftest import Serve
from tests.unit.intake.server import MCMT, Client, Server, make_settings

RECIPIENT = "t@sink.example.com"


def read(chunks: list[bytes], max_size: int = 60, max_line: int = 20) -> bytes:
    """The message that *chunks* are, the last one the last. Raises MessageError."""
    reader = ChunkReader(max_size, max_line)
    for number, chunk in enumerate(chunks, 1):
        reader.begin(len(chunk), last=number == len(chunks))
        buffer = bytearray(chunk + b"behind")
        assert reader.feed(buffer)
        assert buffer == b"behind"
        reader.end()
    return reader.content()


def outcome(chunks: list[bytes]) -> bytes | str:
    try:
        return read(chunks)
    except MessageError as error:
        return str(error)


@given(st.lists(st.sampled_from([b"\r", b"\n", b"\r\n", b"a", b".", b"\r\n.\r\n", b"x" * 19]), max_size=8), st.data())
def test_wherever_it_is_cut_it_is_the_octets_sent_or_refused_for_the_same(
    parts: list[bytes], data: st.DataObject
) -> None:
    octets = b"".join(parts)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(octets)), max_size=5)))
    chunks = [octets[a:b] for a, b in zip([0, *cuts], [*cuts, len(octets)], strict=True)]
    whole, split = outcome([octets]), outcome(chunks)
    rest = octets.replace(b"\r\n", b"")
    faults = {
        "larger than 60": len(octets) > 60,
        "bare CR or LF": b"\r" in rest or b"\n" in rest,
        "longer than 20": max(map(len, octets.split(b"\r\n"))) > 20,
    }
    if any(faults.values()):
        for found in map(str, (whole, split)):
            assert any(fault in found for fault, there in faults.items() if there), found
    else:
        assert whole == split == octets


def test_the_line_at_fault_is_told_across_chunks() -> None:
    with pytest.raises(MessageError, match="line 3 of the message has a bare"):
        read([b"a\r", b"\nb\r\n", b"c", b"\n"])
    with pytest.raises(MessageError, match="line 2 of the message is longer"):
        read([b"a\r\n" + b"x" * 15, b"x" * 6])
    with pytest.raises(MessageError, match="line 2 of the message has a NUL"):
        read([b"a\r\n", b"b\0"])
    with pytest.raises(MessageError, match="line 2 of the message has a NUL"):
        read([b"a\r", b"\nb\0"])


@pytest.mark.parametrize("cut", range(7))
def test_of_two_faults_the_first_one_is_told_however_the_octets_come(cut: int) -> None:
    for octets, fault in (
        (b"a\r\n\0\nb\0", "line 2 of the message has a NUL"),
        (b"a\r\n\n\0b\0", "line 2 of the message has a bare"),
    ):
        reader = ChunkReader(60)
        reader.begin(len(octets), last=True)
        reader.feed(bytearray(octets[:cut]))
        reader.feed(bytearray(octets[cut:]))
        with pytest.raises(MessageError, match=fault):
            reader.content()


async def begin(server: Server, recipient: str = RECIPIENT) -> Client:
    client = await server.hello()
    assert (await client.ask("MAIL FROM:<app@example.com>")).startswith("250")
    assert (await client.ask(f"RCPT TO:<{recipient}>")).startswith("250")
    return client


def contents(server: Server) -> list[bytes]:
    return [b"".join(part.content for part in message.parts) for message, _, _ in server.spool.accepted]


async def test_a_message_comes_in_chunks_each_answered(serve: Serve) -> None:
    server = await serve()
    client = await begin(server, "token@apn.example.com")
    client.send(b"BDAT 10\r\n" + MCMT[:10])
    assert await client.reply() == "250 2.0.0 10 octets taken\r\n"
    client.send(b"bdat %d last\r\n" % (len(MCMT) - 10) + MCMT[10:])
    reply = await client.reply()
    ((message, deliveries, _),) = server.spool.accepted
    assert reply == f"250 2.0.0 {message.batch_id} queued\r\n"
    assert message.size == len(MCMT)
    assert [delivery.token for delivery in deliveries] == ["0a1b"]
    assert server.listener.memory.held == 0


async def test_pipelined_chunks_and_an_empty_last_one_are_one_message_as_it_was_sent(serve: Serve) -> None:
    server = await serve()
    client = await server.hello()
    client.send(
        b"MAIL FROM:<app@example.com>\r\nRCPT TO:<t@sink.example.com>\r\n"
        b"BDAT 12\r\nSubject: x\r\nBDAT 2\r\n\r\nBDAT 11\r\n.\r\n..\r\nQUITBDAT 0 LAST\r\nQUIT\r\n"
    )
    said = (await client.rest()).splitlines()
    assert [line[:3] for line in said] == ["250"] * 6 + ["221"]
    assert contents(server) == [b"Subject: x\r\n\r\n.\r\n..\r\nQUIT"]


@pytest.mark.parametrize("size", [1, 7, 64])
async def test_however_the_octets_come_the_chunk_is_as_long_as_told(serve: Serve, size: int) -> None:
    server = await serve()
    client = await begin(server)
    stream = b"BDAT 5\r\nA: b\rBDAT 13 LAST\r\n\n\r\nRSET\r\nQUITNOOP\r\n"
    for at in range(0, len(stream), size):
        client.send(stream[at : at + size])
        await client.writer.drain()
    assert (await client.reply()).startswith("250 2.0.0 5 octets")
    assert (await client.reply()).endswith("queued\r\n")
    assert await client.reply() == "250 2.0.0 OK\r\n"
    assert contents(server) == [b"A: b\r\n\r\nRSET\r\nQUIT"]


async def test_past_the_size_it_is_552_with_the_octets_read_and_503_until_rset(serve: Serve) -> None:
    server = await serve(max_message_size=100)
    client = await begin(server)
    command = b"RCPT TO:<victim@sink.example.com>\r\n"
    client.send(b"BDAT 90\r\n" + b"x" * 90 + b"BDAT %d\r\n" % len(command) + command)
    assert (await client.reply()).startswith("250 2.0.0 90 ")
    assert (await client.reply()).startswith("552 5.3.4 ")
    assert server.listener.memory.held == 0
    client.send(b"BDAT 4\r\nabcdBDAT 0\r\nBDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
    for _ in range(3):
        assert (await client.reply()).startswith("503 5.5.1 a chunk before this one")
    assert await client.reply() == "250 2.0.0 OK\r\n"
    assert (await client.ask("MAIL FROM:<a@b.c>")).startswith("503")
    assert (await client.ask("RSET")).startswith("250")
    assert (await client.ask("MAIL FROM:<app@example.com>")).startswith("250")
    assert (await client.ask(f"RCPT TO:<{RECIPIENT}>")).startswith("250")
    client.send(b"BDAT 100 LAST\r\n" + b"x" * 100)
    assert (await client.reply()).endswith("queued\r\n")
    (refused,) = server.spool.recorded
    assert (refused.kind, refused.phase, refused.code, refused.recipient) == (Kind.REJECTION, "BDAT", "552", RECIPIENT)
    assert contents(server) == [b"x" * 100]


async def test_without_a_transaction_the_octets_are_read_and_not_obeyed(serve: Serve) -> None:
    server = await serve(max_errors=5)
    client = await server.hello()
    hidden = b"MAIL FROM:<evil@example.com>\r\n"
    client.send(b"BDAT %d LAST\r\n" % len(hidden) + hidden)
    assert (await client.reply()).startswith("503 5.5.1 send MAIL first")
    # A recipient that was refused, in one burst with all of a message's chunks: each is answered, one is an error.
    client.send(b"MAIL FROM:<a@b.c>\r\nRCPT TO:<x@nowhere.example>\r\n" + b"BDAT 5\r\nQUIT\n" * 20)
    assert (await client.reply()).startswith("250")
    assert (await client.reply()).startswith("550")
    assert (await client.reply()).startswith("503 5.5.1 no recipient")
    for _ in range(19):
        assert (await client.reply()).startswith("503 5.5.1 a chunk before")
    assert (await client.ask("NOOP")).startswith("250")


async def test_bdat_and_data_do_not_mix_and_no_recipient_comes_between_chunks(serve: Serve) -> None:
    server = await serve()
    client = await begin(server)
    client.send(b"BDAT 2\r\n\r\n")
    assert (await client.reply()).startswith("250")
    assert (await client.ask("DATA")).startswith("503 5.5.1 no DATA after BDAT")
    assert (await client.ask(f"RCPT TO:<{RECIPIENT}>")).startswith("503 5.5.1 no recipients after BDAT")
    assert (await client.ask("BDAT 0 LAST")).endswith("queued\r\n")
    # A transaction ends with its last chunk.
    assert (await client.ask("BDAT 0 LAST")).startswith("503 5.5.1 send MAIL first")


@pytest.mark.parametrize(
    "wrong", ["BDAT", "BDAT x", "BDAT -1", "BDAT 5 FIRST", "BDAT 5LAST", "BDAT 123456789012345678901"]
)
async def test_a_size_that_cannot_be_read_ends_the_session(serve: Serve, wrong: str) -> None:
    """What follows would be taken for commands."""
    server = await serve()
    client = await begin(server)
    client.send(wrong.encode() + b"\r\nRSET\r\nMAIL FROM:<evil@example.com>\r\n")
    said = await client.rest()
    assert said.startswith("501 5.5.4 ")
    assert said.count("\r\n") == 1


@pytest.mark.parametrize(
    "command", [b"BDAT 4\n", b"BDAT\t4\r\n", b"bdat 4" + b" " * 3000 + b"\r\n", b"BDAT 4 \xff\r\n"]
)
async def test_nor_is_anything_obeyed_behind_a_bdat_that_is_no_command(serve: Serve, command: bytes) -> None:
    server = await serve()
    client = await begin(server)
    client.send(command + b"RSET\r\n")
    said = await client.rest()
    assert said.startswith("500 ")
    assert said.count("\r\n") == 1


@pytest.mark.parametrize("body", [b"a\nb\r\n", b"a\rb", b"a\r\n.\n", b"a\r"])
async def test_a_bare_cr_or_lf_is_refused_and_the_session_goes_on(serve: Serve, body: bytes) -> None:
    """The size was told: the session is in step, unlike after DATA."""
    server = await serve()
    client = await begin(server)
    client.send(b"BDAT %d LAST\r\n" % len(body) + body)
    assert (await client.reply()).startswith("550 5.6.11 line ")
    assert (await client.ask("NOOP")).startswith("250")
    assert server.spool.accepted == []


async def test_with_require_tls_a_chunk_in_clear_is_530(serve: Serve) -> None:
    server = await serve(require_tls=True)
    client = await server.hello()
    client.send(b"BDAT 6 LAST\r\nQUIT\r\nNOOP\r\n")
    assert (await client.reply()).startswith("530 5.7.0 send STARTTLS first")
    assert (await client.reply()).startswith("250")


async def test_what_is_kept_of_chunks_counts_and_is_given_back(serve: Serve) -> None:
    settings = make_settings()
    server = await serve(settings=settings)
    memory = server.listener.memory
    for end in ("RSET", "EHLO again", "HELO again"):
        client = await begin(server)
        client.send(b"BDAT 1000\r\n" + b"x" * 1000)
        assert (await client.reply()).startswith("250")
        assert memory.held == 3000
        await client.ask(end)
        assert memory.held == 0
    memory.limit = 5000
    client = await begin(server)
    client.send(b"BDAT 1000\r\n" + b"x" * 1000 + b"BDAT 1000 LAST\r\n" + b"x" * 1000)
    assert (await client.reply()).startswith("250")
    assert (await client.reply()).startswith("452 4.3.1 ")
    assert memory.held == 0


async def test_chunks_have_together_the_time_of_one_message(serve: Serve) -> None:
    clock = ManualClock()
    server = await serve(clock=clock, data_timeout=100.0, idle_timeout=60.0, min_data_rate=0)
    client = await begin(server)
    for _ in range(3):
        client.send(b"BDAT 1\r\nx")
        assert (await client.reply()).startswith("250")
        clock.advance(30)
    assert (await client.ask("NOOP")).startswith("250")
    clock.advance(30)
    assert (await client.rest()).startswith("421 4.4.2 the message did not end within 100 seconds")
    assert server.listener.memory.held == 0
    await server.listener.reception.aclose()
    assert [event.phase for event in server.spool.recorded] == ["DATA"]


async def test_chunks_that_come_with_their_commands_earn_time(serve: Serve) -> None:
    clock = ManualClock()
    server = await serve(clock=clock, min_data_rate=100, idle_timeout=300.0)
    client = await begin(server)
    for _ in range(5):
        client.send(b"BDAT 2000\r\n" + b"x" * 2000)
        assert (await client.reply()).startswith("250")
        clock.advance(20)
    client.send(b"BDAT 0 LAST\r\n")
    assert (await client.reply()).endswith("queued\r\n")


async def test_a_stop_waits_for_the_last_chunk(serve: Serve) -> None:
    server = await serve()
    client = await begin(server)
    client.send(b"BDAT 2\r\n\r\n")
    assert (await client.reply()).startswith("250")
    for session in server.listener._sessions:
        session.drain()
    client.send(b"BDAT 0 LAST\r\n")
    assert (await client.reply()).endswith("queued\r\n")
    assert (await client.rest()).startswith("421 4.3.2 ")

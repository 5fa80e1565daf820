"""SMTP smuggling, the whole matrix: whatever octets stand around the end of a message, no second one comes to be of it.

Every sequence of CR, LF, dot and NUL up to five octets long, CR LF "." CR LF among them, stands between a message and a
transaction that is hidden in it, behind a body with a line end and one without. What has to come of it is said by a
model of RFC 5321 that shares nothing with the code. tests/unit/intake/test_smuggling.py has the ends known by name.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Iterator
from typing import NamedTuple

import pytest

from tests.unit.intake.server import ListSpool, Server, start_server, stop_server

BODIES = (b"Subject: x\r\n\r\nbody", b"Subject: x\r\n\r\nbody\r\n", b"")
HIDDEN = b"MAIL FROM:<evil@example.com>\r\nRCPT TO:<victim@sink.example.com>\r\nDATA\r\nSubject: hidden\r\n"
SEQUENCES = [
    b"".join(letters) for size in range(6) for letters in itertools.product(*[[b"\r", b"\n", b".", b"\0"]] * size)
]
AT_ONCE = 50
ENVELOPE = b"MAIL FROM:<app@example.com>\r\nRCPT TO:<t@sink.example.com>\r\nDATA\r\n"
NAMED = (
    b"\n.\n",
    b"\n.\r\n",
    b"\r.\r",
    b"\r.\r\n",
    b"\r\n.\r",
    b"\r\n.\n",
    b"\r\n\x00.\r\n",
    b"\r\n.\r\r\n",
    b"\r\n.\r\n",
)


class Expected(NamedTuple):
    """What RFC 5321 makes of the octets behind a 354."""

    messages: tuple[bytes, ...]
    """Contents, transparency undone."""
    refused: str
    """How the first message is refused, if it is."""


def expected(stream: bytes) -> Expected:
    """The model: lines end with CR LF (2.3.8), a line of one dot ends the message (4.1.1.4, 4.5.2)."""
    lines: list[bytes] = []
    rest = stream
    while True:
        line, end, rest = rest.partition(b"\r\n")
        if b"\r" in line or b"\n" in line:
            return Expected((), "550 5.6.11")
        if not end:
            return Expected((), "")  # it never ended
        if line == b".":
            break
        lines.append(line[1:] if line.startswith(b".") else line)
    content = b"".join(line + b"\r\n" for line in lines)
    first = () if b"\0" in content else (content,)
    # What follows is commands. The hidden ones are such if nothing stands before them in their line.
    before, hidden, behind = rest.partition(HIDDEN)
    open_to_all = bool(hidden) and (not before or before.endswith(b"\n"))
    second = expected(b"Subject: hidden\r\n" + behind).messages[:1] if open_to_all else ()
    return Expected((*first, *second), "" if first else "554 5.6.0")


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    server = await start_server(max_errors=1000)
    yield server
    await stop_server(server)


async def talk(server: Server, pieces: list[bytes], recipient: bytes = b"t") -> str:
    """One session on a socket of its own: a message in *pieces*, each read before the next is written."""
    reader, writer = await asyncio.open_connection(*server.address)
    writer.write(b"EHLO x\r\n" + ENVELOPE.replace(b"<t@", b"<%s@" % recipient))
    while not (line := await reader.readline()).startswith(b"354"):
        assert line, "no 354"
    for piece in pieces:
        writer.write(piece)
        if len(pieces) > 1:
            await writer.drain()
            # On one loop: the server's turn to read comes before ours to write again.
            for _ in range(3):
                await asyncio.sleep(0)
    writer.write_eof()
    said = await asyncio.wait_for(reader.read(), 10)
    writer.close()
    return said.decode("ascii")


def kept(spool: ListSpool) -> dict[str, list[bytes]]:
    """The contents accepted, by the session's recipient: that of the hidden transaction counts with none."""
    found: dict[str, list[bytes]] = {}
    for message, _, _ in spool.accepted:
        (recipient,) = message.envelope.forward_paths
        found.setdefault(recipient.partition("@")[0], []).append(b"".join(part.content for part in message.parts))
    return found


def cases() -> Iterator[tuple[str, bytes, bytes]]:
    for number, body in enumerate(BODIES):
        for sequence in SEQUENCES:
            yield f"{number}-{sequence.hex()}", body, sequence


async def test_no_sequence_of_five_octets_makes_a_second_message(server: Server) -> None:
    wanted: dict[str, list[bytes]] = {}
    hidden = 0
    told: dict[str, str] = {}

    async def attack(name: str, body: bytes, sequence: bytes) -> None:
        nonlocal hidden
        stream = body + sequence + HIDDEN + b".\r\nQUIT\r\n"
        outcome = expected(stream)
        said = await talk(server, [stream], name.encode())
        if outcome.messages and outcome.messages[0] != b"Subject: hidden\r\n":
            wanted[name] = [outcome.messages[0]]
            hidden += len(outcome.messages) - 1
        else:
            hidden += len(outcome.messages)
        if not said.startswith(outcome.refused or "250 2.0.0 "):
            told[name] = said
        assert said.count(" queued\r\n") == len(outcome.messages), (name, said)

    todo = iter(list(cases()))
    while batch := list(itertools.islice(todo, AT_ONCE)):
        await asyncio.gather(*(attack(*case) for case in batch))
    found = kept(server.spool)
    # The client itself ended the first message, so the second is its own: only behind CR LF "." CR LF.
    victims = found.pop("victim")
    assert len(victims) == hidden
    assert set(victims) == {b"Subject: hidden\r\n"}
    assert found == wanted
    assert told == {}
    # Almost nothing of all this is an end, and what is was written as one.
    assert 3 <= hidden < len(SEQUENCES) / 10


def chunked(name: str, chunks: list[bytes]) -> bytes:
    """A transaction whose message comes in *chunks*."""
    told = [b"BDAT %d\r\n%s" % (len(chunk), chunk) for chunk in chunks[:-1]]
    last = b"BDAT %d LAST\r\n%s" % (len(chunks[-1]), chunks[-1])
    envelope = b"MAIL FROM:<app@example.com>\r\nRCPT TO:<%s@sink.example.com>\r\n" % name.encode()
    return envelope + b"".join(told) + last


async def test_no_octets_of_a_chunk_are_ever_obeyed(server: Server) -> None:
    """The same matrix by BDAT, in one chunk and in two that part the sequence: a chunk is as long as was told, and what
    is taken is what was sent. A bare CR or LF is refused here too: the message may be sent on by DATA."""
    wanted: dict[str, list[bytes]] = {}
    todo = list(cases())
    for first in range(0, len(todo), 500):
        reader, writer = await asyncio.open_connection(*server.address)
        writer.write(b"EHLO x\r\n")
        burst = todo[first : first + 500]
        refused = 0
        for name, body, sequence in burst:
            stream = body + sequence + HIDDEN
            middle = len(body) + len(sequence) // 2
            writer.write(chunked(name, [stream]) + chunked(name, [stream[:middle], stream[middle:]]) + b"RSET\r\n")
            rest = stream.replace(b"\r\n", b"")
            if set(rest) & set(b"\r\n\0"):
                refused += 1
            else:
                wanted[name] = [stream, stream]
        writer.write(b"QUIT\r\n")
        said = (await asyncio.wait_for(reader.read(), 30)).decode("ascii").splitlines()
        writer.close()
        assert said[-1].startswith("221 ")
        assert sum(line.endswith(" queued") for line in said) == 2 * (len(burst) - refused)
        assert sum(line.startswith(("550 5.6.11 ", "554 5.6.0 ")) for line in said) == 2 * refused
    assert kept(server.spool) == wanted
    assert len(wanted) > 20


@pytest.mark.parametrize("end", NAMED)
async def test_wherever_the_octets_are_split_the_outcome_is_the_same(server: Server, end: bytes) -> None:
    """Two packets with every cut around the end, and every octet in a packet of its own."""
    body = BODIES[0]
    stream = body + end + HIDDEN + b".\r\nQUIT\r\n"
    outcome = expected(stream)
    around = range(len(body) - 2, len(body) + len(end) + 3)
    ways = [[stream[:cut], stream[cut:]] for cut in around]
    ways.append([stream[at : at + 1] for at in range(len(stream))])
    for pieces in ways:
        server.spool.accepted.clear()
        said = await talk(server, pieces)
        assert said.startswith(outcome.refused or "250 2.0.0 "), said
        assert [message.parts[0].content for message, _, _ in server.spool.accepted] == list(outcome.messages)


def test_the_model_knows_the_one_end() -> None:
    assert expected(b"a\r\n.\r\n" + HIDDEN + b".\r\n").messages == (b"a\r\n", b"Subject: hidden\r\n")
    assert expected(b"a\r\n.\n" + HIDDEN + b".\r\n") == Expected((), "550 5.6.11")
    assert expected(b"a\r\n..\r\n" + HIDDEN + b".\r\n").messages == (b"a\r\n.\r\n" + HIDDEN,)
    assert expected(b"a\0\r\n.\r\nx").refused == "554 5.6.0"

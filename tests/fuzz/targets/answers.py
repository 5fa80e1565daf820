"""What a gateway or a mail server answers: understood, or a ProtocolError; what is kept of it is short."""

from __future__ import annotations

from channels.apn.answers import LONGEST_WAIT, retry_after, understand
from channels.smtp.replies import MAX_LINE, MAX_LINES, MAX_TEXT, Reply, ReplyReader
from mcmt.errors import ProtocolError
from tests.fuzz.octets import Octets, cut

LONGEST = 2048


def run(data: bytes) -> None:
    octets = Octets(data)
    seed = octets.number(2)
    status = 200 + octets.number(2) % 800
    waits = octets.piece()
    rest = octets.rest()
    answer = understand(status, rest)
    assert (answer.status, len(answer.reason) <= 200) == (str(status), True)
    assert answer.reason or status == 200
    assert 0 <= retry_after(waits.decode("latin-1"), 1_700_000_000.0) <= LONGEST_WAIT
    whole, fault = _replies([rest])
    split, same_fault = _replies(cut(rest, seed))
    assert (split, same_fault) == (whole, fault)
    for reply in whole:
        assert 200 <= reply.code <= 599
        assert len(reply.text) <= MAX_TEXT
        assert 1 <= len(reply.lines) <= MAX_LINES
        assert not reply.enhanced or reply.enhanced[0] == str(reply.code)[0]


def _replies(pieces: list[bytes]) -> tuple[list[Reply], bool]:
    reader, found = ReplyReader(), []
    for piece in pieces:
        reader.feed(piece)
        try:
            while (reply := reader.next()) is not None:
                found.append(reply)
        except ProtocolError:
            return found, True
        assert len(reader._buffer) <= MAX_LINE
    return found, False

"""The content of a message as it comes in chunks of told sizes (RFC 3030 2, BDAT): octets in, message out, no I/O.

Rules: a chunk is as many octets as were told, whatever they are, so nothing in it can end it, and what is wrong with a
message never puts the session out of step. The message is the octets that were sent: no transparency is undone, and
its last line may be without an end. Its lines are held to the same as those of DATA (data.py): a bare CR or LF is
refused, since whoever the message is sent on to by DATA could find an end of a message there (SMTP smuggling).
"""

from __future__ import annotations

import re

from mcmt.errors import MessageError
from mcmt.intake.data import Content, bare_line_end_text, first_bare, too_large

# RFC 3030 2: bdat-cmd = "BDAT" SP chunk-size [ SP end-marker ] CR LF; chunk-size = 1*DIGIT; end-marker = "LAST". As
# with SIZE (RFC 1870 3), no more than 20 digits.
_ARGUMENT = re.compile(r"(\d{1,20})(?: +(LAST))?", re.ASCII | re.IGNORECASE)


def read_chunk_size(argument: str) -> tuple[int, bool]:
    """How many octets the chunk has, and whether it is the last one. Raises MessageError."""
    match = _ARGUMENT.fullmatch(argument)
    if match is None:
        raise MessageError(501, "5.5.4", "Syntax: BDAT octets [LAST]. The session ends here")
    return int(match[1]), match[2] is not None


class ChunkReader(Content):
    """Reads one message, chunk by chunk, out of a buffer that others fill."""

    octets = 0
    """That have come, whatever became of them."""
    last = False
    """The chunk that is read, or was read last, is the last one."""
    _left = 0
    """Octets of the chunk that have not come."""
    _line = 0
    """Octets of the line that the message ends in until now."""
    _half_end = False
    """The message ends in a CR until now."""

    def begin(self, size: int, *, last: bool) -> None:
        """A chunk of so many octets comes."""
        self._left = size
        self.last = last
        if self._size + size > self._max_size:
            # RFC 1870 6.3: 552. Told when the chunk is over, and nothing of it is kept until then.
            self.refuse(too_large(self._max_size))

    def feed(self, buffer: bytearray) -> bool:
        """Take from the front of *buffer*; True when the chunk has ended, and *buffer* begins with what follows it."""
        block = bytes(buffer[: self._left])
        del buffer[: len(block)]
        self._left -= len(block)
        self.octets += len(block)
        if self.fault is None and block:
            self._take(block)
        return not self._left

    def end(self) -> None:
        """The chunk has ended. If it was the last one, so has the message."""
        if self.last and self._half_end and self.fault is None:
            self._bare(self._lines)

    @property
    def size(self) -> int:
        """Octets of the message that have come until now."""
        return self._size

    def _take(self, block: bytes) -> None:
        # A CR LF may be cut in two.
        whole = b"\r" + block if self._half_end else block
        self._half_end = whole.endswith(b"\r")
        if self._half_end:
            whole = whole[:-1]
        ends = whole.count(b"\r\n")
        if whole.count(b"\n") != ends or whole.count(b"\r") != ends:
            bare = first_bare(whole)
            if b"\0" in whole[:bare]:
                # The first fault is told, however the octets came.
                self._nul(whole)
            self._bare(self._lines + whole.count(b"\r\n", 0, bare))
            return
        if self._line + len(whole) > self._max_line:
            first, *others = map(len, whole.split(b"\r\n"))
            for number, length in enumerate((self._line + first, *others), self._lines + 1):
                if length > self._max_line:
                    self._long_line(number)
        self._line = len(whole) - whole.rindex(b"\r\n") - 2 if ends else self._line + len(whole)
        if b"\0" in whole:
            self._nul(whole)
        self._lines += ends
        self._size += len(block)
        if self.fault is None:
            self._keep(block)

    def _bare(self, lines: int) -> None:
        # RFC 5321 2.3.8: CR and LF must only be sent together. The chunk's octets are told beforehand: the session
        # stays in step, unlike after DATA.
        self.refuse(MessageError(550, "5.6.11", bare_line_end_text(lines + 1)))

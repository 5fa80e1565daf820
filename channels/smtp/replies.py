"""Replies of a server (RFC 5321 4.2): octets in, ``Reply`` values out; no I/O.

Rules: a reply is complete with its last line (code and a space, or the code alone); what is no reply is a
ProtocolError, told only after the replies before it were taken; nothing a server sends makes this grow without bound.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from mcmt.errors import ProtocolError

MAX_LINE = 4096
"""Octets of a line; RFC 5321 4.5.3.1.5 allows 512."""
MAX_LINES = 200
"""Lines of one reply."""
MAX_TEXT = 500
"""Characters of a reply that are kept."""

# RFC 5321 4.2: Reply-line = *( Reply-code "-" [ textstring ] CRLF ) Reply-code [ SP textstring ] CRLF. The second
# digit goes to 5 in the RFC; servers in the field go to 9.
_read_line = re.compile(rb"([2-5][0-9]{2})(?:([ -])(.*))?", re.DOTALL).fullmatch
# RFC 2034 4: status-code ::= class "." subject "." detail, in front of the text of every line.
_read_enhanced = re.compile(r"([245]\.\d{1,3}\.\d{1,3})(?: +|$)").match


class Reply(NamedTuple):
    """One reply, all its lines."""

    code: int
    enhanced: str
    """``5.1.1``; empty where there is none, or one of another class than the code."""
    text: str
    """All lines as one, with one enhanced code at its head, cut to MAX_TEXT."""
    lines: tuple[str, ...]

    @property
    def positive(self) -> bool:
        """2yz: done."""
        return self.code < 300

    @property
    def intermediate(self) -> bool:
        """3yz: go on."""
        return 300 <= self.code < 400

    def __str__(self) -> str:
        return f"{self.code} {self.text}".rstrip()


class ReplyReader:
    """Cuts replies out of what was received."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._lines: list[str] = []

    def feed(self, data: bytes) -> None:
        """Take octets."""
        self._buffer += data

    def next(self) -> Reply | None:
        """The next whole reply, if there is one. Raises ProtocolError."""
        while (end := self._buffer.find(b"\n")) >= 0:
            line = bytes(self._buffer[:end]).rstrip(b"\r")
            del self._buffer[: end + 1]
            match = _read_line(line)
            if match is None or len(line) > MAX_LINE:
                raise ProtocolError(f"expected a reply, got {line[:80]!r}")
            code, separator, text = match.groups()
            self._lines.append((text or b"").decode("utf-8", "replace").strip())
            if separator != b"-":
                lines, self._lines = tuple(self._lines), []
                return _reply(int(code), lines)
            if len(self._lines) >= MAX_LINES:
                raise ProtocolError(f"a reply of more than {MAX_LINES} lines")
        if len(self._buffer) > MAX_LINE:
            raise ProtocolError(f"a reply line of more than {MAX_LINE} octets")
        return None

    @property
    def empty(self) -> bool:
        """Nothing was received that is not part of a reply already taken."""
        return not self._buffer and not self._lines


def _reply(code: int, lines: tuple[str, ...]) -> Reply:
    enhanced, texts = "", []
    for line in lines:
        match = _read_enhanced(line)
        if match and match[1][0] == str(code)[0]:
            enhanced = enhanced or match[1]
            line = line[match.end() :]
        if line:
            texts.append(line)
    text = " ".join([enhanced, *texts] if enhanced else texts)
    return Reply(code, enhanced, text[:MAX_TEXT], lines)

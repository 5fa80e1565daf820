"""What those who watch a domain are told of a session that has mail for it (mcmt/wire/trace.py).

A session is told from the RCPT on that names the domain, up to the next MAIL; what stood before is summed up in one
line. Rules: no command that is none is shown, since it may be half of a login that went wrong; names and passwords
never are.
"""

from __future__ import annotations

import re
from collections.abc import Container, Sequence
from typing import Protocol

from mcmt.message.address import routing_name
from mcmt.wire.trace import MAX_BODY, Trace, Tracing

_recipient = re.compile(rb"(?i)RCPT\s+TO:\s*<[^>]*@([^@>]+)>").match
# Our own refusal of a command that is none repeats it (session.py).
_repeated = re.compile(r"(?<=5\.5\.1 )(['\"]).*\1 is not a command").sub
_AGAIN = frozenset({b"MAIL", b"EHLO", b"HELO"})
_MOST_COMMAND = 1024


class Watched(Protocol):
    """What is asked of a session."""

    def summary(self) -> str:
        """Who the client is and what it has said, without its recipients."""


class SessionWatch:
    """One session, while any domain is watched."""

    def __init__(self, tracing: Tracing, session: Watched, peer: str, commands: Container[str]) -> None:
        self._tracing = tracing
        self._session = session
        self._peer = peer
        self._commands = commands
        self._trace: Trace | None = None
        self._content: tuple[int, bytes] | None = None  # of a message, before part of it is taken: how much, its front
        self._told = 0  # of the replies that have not been sent yet

    def look(self, received: bytearray, replies: Sequence[bytes], *, in_data: bool) -> None:
        """The session is about to take what is in front of *received*; *replies* wait to be sent."""
        trace = self._trace
        if trace is not None:
            self._tell(trace, replies)
        if in_data:
            if trace is not None:
                self._content = len(received), bytes(received[:MAX_BODY])
            return
        end = received.find(b"\n")
        if end < 0:
            return
        line = bytes(received[: min(end, _MOST_COMMAND)])
        verb = line[:4].upper()
        if verb in _AGAIN:
            self._trace = trace = None
        elif verb == b"RCPT" and (trace is None or trace.over):
            self._trace = trace = self._begin(line)
            self._told = len(replies)
        if trace is not None:
            trace.tell("received", "command", self._shown(line, end))

    def took(self, received: bytearray) -> None:
        """It has; this is left."""
        if self._content is None:
            return
        octets = self._content[0] - len(received)
        if self._trace is not None and octets:
            self._trace.tell("received", "content", octets=octets, body=self._content[1][:octets])
        self._content = None

    def sending(self, replies: Sequence[bytes]) -> None:
        """These are all sent now."""
        if self._trace is not None:
            self._tell(self._trace, replies)
            if self._trace.over:
                self._trace = None
        self._told = 0

    def lost(self) -> None:
        """The connection has ended."""
        if self._trace is not None:
            self._trace.tell("event", "closed")
            self._trace = None

    def _begin(self, line: bytes) -> Trace | None:
        found = _recipient(line)
        if found is None:
            return None
        domain = routing_name(found[1].decode("utf-8", "replace"))
        trace = self._tracing.trace(domain, self._peer, "smtp")
        if trace is not None:
            trace.tell("event", "session", self._session.summary())
        return trace

    def _shown(self, line: bytes, length: int) -> str:
        text = line.decode("utf-8", "backslashreplace").rstrip("\r")
        if text.partition(" ")[0].upper() not in self._commands:
            return f"{length} octets that are no command"
        return text

    def _tell(self, trace: Trace, replies: Sequence[bytes]) -> None:
        for reply in replies[self._told :]:
            text = _repeated("... is not a command", reply.decode("utf-8", "backslashreplace"))
            for line in text.splitlines():
                trace.tell("sent", "reply", line)
        self._told = len(replies)

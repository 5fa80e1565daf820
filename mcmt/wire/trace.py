"""Who watches what is said on the connections of a domain, and what they are told: ``mcmt trace``.

A connection of a domain that is watched has a ``Trace``; any other has None, and that is all it costs. What a
connection tells is copied for every watch, with its secrets hidden (hidden.py), before it is kept anywhere.

Rules: no I/O. A watch holds LINES lines at most: what comes while it is full is counted and not made. One whose owner
has not asked for FORGOTTEN seconds is ended when something is told. It must not know any protocol.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Literal

import msgspec

from mcmt.clock import Clock
from mcmt.wire.hidden import hidden_field, hidden_text

LINES = 1000
"""Lines that a watch holds until they are fetched."""
FORGOTTEN = 10.0
"""Seconds after which a watch that nobody fetches from is taken for one whose owner is gone."""
MAX_TEXT = 1000
"""Characters of a text or a value that are told."""
MAX_BODY = 4096
"""Octets of a body that are told."""

Way = Literal["sent", "received", "event"]
"""From here to the other side, from there to us, or neither: what happened to the connection."""


class Watch(msgspec.Struct, frozen=True):
    """What somebody wants to see."""

    number: int
    """Its own, in the machine."""
    domain: str
    """The routing domain, lower case."""
    bodies: bool = False
    """Payloads too, not only how long they are."""
    tokens: bool = False
    """Device tokens whole."""


class Line(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One thing that was said or happened on a connection."""

    time: float
    """Seconds since the epoch."""
    connection: str
    """``1.17``: worker and number. Empty where it speaks of none."""
    peer: str = ""
    """IP address of the other side."""
    protocol: str = ""
    """``http2``, ``binary``, ``smtp``; empty: not known yet."""
    way: Way
    what: str
    """A frame's type, ``command``, ``reply``, ``content``; of an event its name."""
    stream: int = 0
    """HTTP/2: the frame's stream; 0: the connection itself."""
    fields: tuple[tuple[str, str], ...] = ()
    """Header fields, settings, items: names and values."""
    text: str = ""
    octets: int = 0
    """How long the body is."""
    body: str = ""
    """The body, or its front; of what is sent only when it was asked for."""
    left_out: int = 0
    """So many lines stood here and were not kept."""


class Told(msgspec.Struct, frozen=True):
    """What a watch has gathered since it was asked the last time."""

    lines: tuple[Line, ...]
    left_out: int = 0
    """How many more came behind them, and were not kept."""
    begun: bool = False
    """The watch begins only now: what was said before is not known here."""


class _Watching:
    """One watch and what it holds."""

    def __init__(self, watch: Watch, now: float) -> None:
        self.watch = watch
        self.fetched = now
        self.lines: list[Line] = []
        self.left_out = 0


class Trace:
    """One connection of a domain, while that is watched."""

    def __init__(self, tracing: Tracing, number: int, watching: Sequence[_Watching], peer: str, protocol: str) -> None:
        self._tracing = tracing
        self._watching = watching
        self._name = f"{tracing.worker}.{number}"
        self.peer = peer
        self.protocol = protocol

    @property
    def over(self) -> bool:
        """Nobody watches any more."""
        return not self._watching

    @property
    def has_room(self) -> bool:
        """Somebody would keep a line. Who makes many asks before, and says ``left_out`` instead."""
        return any(len(each.lines) < LINES for each in self._watching)

    def left_out(self, count: int) -> None:
        """So many lines were not made."""
        self._tracing.look()
        for each in self._watching:
            each.left_out += count

    def tell(
        self,
        way: Way,
        what: str,
        text: str = "",
        *,
        stream: int = 0,
        fields: Sequence[tuple[str, str]] = (),
        octets: int = 0,
        body: bytes = b"",
        public: bool = False,
    ) -> None:
        """Say what was said or happened. *body*: its front suffices. *public*: it is no payload, and always shown."""
        now = self._tracing.look()
        for each in self._watching:
            if each.left_out or len(each.lines) >= LINES:
                each.left_out += 1
                continue
            watch = each.watch
            shown = body[:MAX_BODY].decode("utf-8", "backslashreplace") if public or watch.bodies else ""
            each.lines.append(
                Line(
                    time=now,
                    connection=self._name,
                    peer=self.peer,
                    protocol=self.protocol,
                    way=way,
                    what=what,
                    stream=stream,
                    fields=tuple((name, hidden_field(name, value[:MAX_TEXT], watch.tokens)) for name, value in fields),
                    text=hidden_text(text[:MAX_TEXT], watch.tokens),
                    octets=octets,
                    body=hidden_text(shown, watch.tokens),
                )
            )


class Tracing:
    """All watches of one process."""

    def __init__(self, clock: Clock, worker: int = 0) -> None:
        self._clock = clock
        self.worker = worker
        self.watched: dict[str, list[_Watching]] = {}
        """By domain; empty while nobody watches: what a session looks at, once a burst."""
        self._connections = 0
        self._listeners: list[Callable[[str], None]] = []

    def on_change(self, listener: Callable[[str], None]) -> None:
        """Call *listener* with a domain when the first one begins to watch it, or the last one has ended."""
        self._listeners.append(listener)

    def trace(self, domain: str, peer: str = "", protocol: str = "") -> Trace | None:
        """What a connection of *domain* tells what is said on it; None when nobody watches."""
        watching = self.watched.get(domain)
        if watching is None:
            return None
        self._connections += 1
        return Trace(self, self._connections, watching, peer, protocol)

    def fetch(self, watch: Watch) -> Told:
        """What *watch* has gathered; the first time it begins."""
        now = self._clock.monotonic()
        for each in self.watched.get(watch.domain, ()):
            if each.watch.number == watch.number:
                told = Told(tuple(each.lines), each.left_out)
                each.lines.clear()
                each.left_out, each.fetched = 0, now
                return told
        is_first = watch.domain not in self.watched
        self.watched.setdefault(watch.domain, []).append(_Watching(watch, now))
        if is_first:
            self._changed(watch.domain)
        return Told((), begun=True)

    def end(self, number: int) -> None:
        """That watch is over; what it holds is thrown away. Without effect where it is not known."""
        for domain, watching in list(self.watched.items()):
            watching[:] = [each for each in watching if each.watch.number != number]
            if not watching:
                del self.watched[domain]
                self._changed(domain)

    def look(self) -> float:
        """The time, for a line. Ends what was forgotten."""
        since = self._clock.monotonic() - FORGOTTEN
        forgotten = [each for watching in self.watched.values() for each in watching if each.fetched < since]
        for each in forgotten:
            self.end(each.watch.number)
        return self._clock.time()

    def _changed(self, domain: str) -> None:
        for listener in self._listeners:
            listener(domain)

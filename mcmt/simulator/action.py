"""What the simulator does with one request or one new connection: data that rules and reserved tokens make.

An action that says nothing is Apple's good answer: 200 at once. Several fields together happen in this
order: settings, delay, then exactly one of close, goaway (with the answer where its stream is let live),
silence, reset, answer.
"""

from __future__ import annotations

from typing import Literal

import msgspec


class Goaway(msgspec.Struct, frozen=True):
    """A GOAWAY (RFC 9113 6.8), after which the connection ends."""

    last: Literal["all", "none", "middle"] | int = "all"
    """The last-stream-id: of every stream seen; of the last one answered; of the middle one of those open; a number."""
    code: int = 0
    debug: bytes = b""


class Settings(msgspec.Struct, frozen=True):
    """A SETTINGS frame in mid-flight; None leaves a value as it is."""

    max_concurrent_streams: int | None = None
    initial_window_size: int | None = None
    """0: streams can send no DATA, and no WINDOW_UPDATE comes for them."""
    restore_after: float | None = None
    """Seconds until the values from before come back; None: never."""


class Action(msgspec.Struct, frozen=True):
    """One answer, or one fault."""

    status: int = 200
    reason: str = ""
    timestamp: int | None = None
    """Milliseconds since the epoch, with 410; None: now."""
    retry_after: int | None = None
    """Seconds, as a Retry-After header. Apple documents none."""
    body: bytes | None = None
    """Sent in place of Apple's JSON."""
    delay: float = 0.0
    """Seconds before the answer or the fault."""
    slow: float = 0.0
    """Seconds between the answer's headers and its end."""
    silent: bool = False
    """No answer at all: the stream stays open until the client resets it."""
    reset: int | None = None
    """RST_STREAM with this code in place of an answer."""
    reset_after_answer: int | None = None
    """RST_STREAM with this code behind a complete answer (RFC 9113 8.1 lets a server send NO_ERROR so)."""
    goaway: Goaway | None = None
    close: bool = False
    """Drop the TCP connection without a word."""
    settings: Settings | None = None


ACCEPT = Action()
"""200."""

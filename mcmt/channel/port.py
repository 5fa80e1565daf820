"""The contract between the engine and a channel.

A channel is one file or folder that exports everything particular to one protocol, with the names of
``Channel`` below at module level. It speaks; it does not queue, retry, suspend or log.

The engine promises: ``send`` and ``aclose`` are called on the event loop, never again after
``report.closed``; a delivery offered is not offered elsewhere until its outcome or ``closed``.
The channel promises: every delivery that ``send`` took gets exactly one outcome before
``report.closed``; nothing blocks the event loop; what the gateway refuses is an Outcome, not an exception.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

import msgspec

from mcmt.clock import Clock
from mcmt.message.failure import ReportTerms
from mcmt.message.model import Delivery, Part
from mcmt.message.route import Route
from mcmt.message.status import Outcome
from mcmt.wire.trace import Trace


class LoggerDefaults(msgspec.Struct, frozen=True):
    """A channel's own notification log: the stanza's name and Momentum's formats."""

    stanza: str
    """``apn_logger``"""
    logfile: str
    """Default path, relative to the configuration file."""
    delivery: str
    tempfail: str
    permfail: str
    heartbeat: str


MAIL_TERMS = ReportTerms("smtp")
"""Of a channel that takes whole messages (RFC 3464 2.3.6, 9.2.2)."""


class Target(msgspec.Struct, frozen=True, gc=False):
    """One delivery that a part asks for."""

    token: str
    expires: float | None
    """Seconds since the epoch at which the message itself says it ends; None when it does not say."""


class Reading(msgspec.Struct, frozen=True):
    """What a channel made of a part at intake: the part as it is to be stored, and its deliveries."""

    part: Part
    targets: tuple[Target, ...]
    sole: bool = False
    """The part names its one delivery itself (a given ``apns-id``): a second recipient is a fault, 554 5.6.0."""
    collapse_id: str = ""
    """What it replaces on the device: a later message for the same token with the same one (``apns-collapse-id``)."""
    registered: float = 0.0
    """When its tokens were registered last, as the sender says, seconds since the epoch; 0: it does not say."""


class Finding(msgspec.Struct, frozen=True):
    """What ``mcmt check`` found out about a domain's options."""

    option: str
    text: str
    fault: bool = False
    """True when the engine could not deliver with it."""
    warning: bool = False
    """True when it works and is probably not meant."""


class Needs(msgspec.Struct, frozen=True):
    """What a domain's channel needs of the engine's own options. A channel that has such needs exports a function
    ``needs(options, routes)`` that returns them."""

    longest_silence: float = 0.0
    """Seconds for which a connection on which nothing happens is still waited on: ``idle_timeout`` is longer."""
    unanswered: int = 0
    """Deliveries that one connection may hold without an answer: ``max_resident_active_queue`` is no less, unless it is
    given."""
    own_domain: str = ""
    """An option of the channel's that is set and speaks of one domain: the stanza is not ``*``."""


Told = Callable[[Sequence[tuple[str, float]]], Awaitable[None]]
"""Takes tokens, in lower case, each with the time since when it is gone, seconds since the epoch; returns when they are
on disk. May raise, and then so does who called it."""


class Feedback(msgspec.Struct, frozen=True):
    """A service that tells which of a domain's tokens are gone. A channel that knows of such a thing exports a function
    ``feedback(options)`` that returns it, or None where the options name none."""

    place: str
    """For people: the service's route."""
    interval: float
    """Seconds between two readings."""
    read: Callable[[Told], Awaitable[None]]
    """Read the service to its end: every token is told, and told before the service can know that it was read.

    Raises ConnectError, RouteFaultError: the service keeps what it told, as far as that is in our hand."""


def exposure(option: str, file: Path) -> Sequence[Finding]:
    """What is to be said when others than its owner may read or change *file*, which holds a secret.

    Everyone: a fault. Its group: a warning, unless the file is root's and may only be read: that is how a service is
    given a key that it cannot change.
    """
    try:
        status = file.stat()
    except OSError:
        return ()  # whoever reads it says why it cannot be read
    mode = status.st_mode
    given = status.st_uid == 0 and status.st_gid != 0
    remedy = f"chmod {'640' if given else '600'} {file}"
    if mode & 0o006:
        what = "read" if mode & 0o004 else "change"
        return (Finding(option, f"everyone on this machine may {what} {file}: {remedy}", fault=True),)
    if mode & 0o020 or (mode & 0o040 and not given):
        what = "change" if mode & 0o020 else "read"
        return (Finding(option, f"its group may {what} {file}: {remedy}", warning=True),)
    return ()


class State(Protocol):
    """A small durable key-value store that every connection and every worker of a channel shares."""

    def get(self, key: str) -> bytes | None:
        """The value put last, or None."""

    def put(self, key: str, value: bytes) -> None:
        """Keep *value*; on disk (mode 0600) when this returns."""

    def swap(self, key: str, before: bytes | None, value: bytes) -> bool:
        """Keep *value* if what is kept now is *before*, as no other worker can see it half done; whether it was."""


class Report(Protocol):
    """How a connection tells the engine what happened. Called on the event loop only."""

    trace: Trace | None
    """Whoever watches the domain: told what is said on the connection (mcmt/wire/trace.py). None, as nearly always,
    when nobody does. It may change at any time: to be looked at once a batch, and not kept."""

    def outcomes(self, batch: Sequence[tuple[Delivery, Outcome]]) -> None:
        """These deliveries are answered; as many at once as one read brought."""

    def wake(self) -> None:
        """There is room again: ask me to send."""

    def leaving(self) -> None:
        """The connection takes nothing more and may be long in ending: another one may be opened in its place."""

    def closed(self, reason: str) -> None:
        """The connection has ended; every delivery it took has been reported before. Called once."""


class Connection(Protocol):
    """One open connection to a route."""

    @property
    def remote_address(self) -> str:
        """IP address of the gateway."""

    def send(self, deliveries: Sequence[Delivery]) -> int:
        """Take as many of *deliveries*, from the front, as there is room for now; return how many. Never blocks."""

    async def aclose(self, drain: float) -> None:
        """Take nothing more, wait up to *drain* seconds for answers, end. Reports outcomes and ``closed``."""


class Channel(Protocol):
    """What a channel's module exports."""

    Options: type[Any]
    """Pydantic model (mcmt.options.OptionsModel): its domain options, beside the engine's own."""
    MEDIA_TYPES: frozenset[str]
    """Media types of the parts that it renders; empty: it takes the whole message, ``message/rfc822``, and may be
    offered another channel's part where the domain had that channel before."""
    SCHEMES: frozenset[str]
    """Schemes of its routes."""
    LOGGER: LoggerDefaults | None
    """Its notification log, if it has one."""

    def read(self, part: Part, recipient: str, context: Mapping[str, str], options: Any) -> Reading:
        """A part's deliveries for *recipient*. Raises MessageError with what the client is told at DATA. Pure: a large
        message is read on a thread."""

    def check(self, options: Any, routes: Sequence[Route]) -> Sequence[Finding]:
        """Load what the options name (certificates, keys) and say what was found. Never raises."""

    async def connect(self, route: Route, options: Any, report: Report, clock: Clock, state: State) -> Connection:
        """Open a connection. Raises ConnectError or RouteFaultError; cancelled at connect_timeout."""


def feedback_of(channel: Channel, options: Any) -> Feedback | None:
    """The service that *options* name; None of a channel that does not export ``feedback``."""
    feedback = getattr(channel, "feedback", None)
    found: Feedback | None = None if feedback is None else feedback(options)
    return found


def report_terms(name: str, channel: Channel) -> ReportTerms:
    """What a report calls the things of *channel*: its own ``REPORT_TERMS``, which it need not export."""
    own: ReportTerms | None = getattr(channel, "REPORT_TERMS", None)
    if own is not None:
        return own
    return ReportTerms(f"X-{name}", "X-Token", "X-Remote-Id") if channel.MEDIA_TYPES else MAIL_TERMS

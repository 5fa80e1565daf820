"""Events: what happened, as it is kept in the outbox and written to the logs.

An event is made by whoever makes it true, stored in the same transaction, and formatted only by the
event log. Rows must stay readable by later versions: fields are only added, at the end, with defaults.
"""

from __future__ import annotations

from enum import StrEnum

import msgspec

GONE = "gone"
INVALID = "invalid"
"""Said of a token that is none of this app's; it need never have been one."""
REGISTERED = "registered"
SOURCE_PUSH = "push"
"""The answer to a push said that its token is gone."""
SOURCE_FEEDBACK = "feedback"
"""The gateway's feedback service did."""


DOORS = ("esmtp", "http", "apns", "pyapns", "propeller", "beanstalkd", "xmpp", "internal")
"""What Event.protocol says of a reception or a rejection; ``internal``: a report of our own."""
TRACKED = frozenset({"http"})
"""Doors whose clients may ask what became of a message. All events of such a message carry the door's word."""


class Kind(StrEnum):
    """What an event tells; the letter is the one in the log lines."""

    RECEPTION = "R"
    DELIVERY = "D"
    TRANSIENT = "T"
    PERMANENT = "P"
    REJECTION = "J"
    ROUTE = "N"
    """A route's own news: down, up, suspended, probe, resumed. Of its deliveries by hand: held, released, rerouted.
    Of shaping rules: rule_began, rule_ended."""
    QUARANTINE = "Q"
    TOKEN = "G"  # noqa: S105 - a letter, not a secret
    """A device token is gone, invalid, or registered again: what the table of gone tokens is made of."""
    HEARTBEAT = "M"


class Event(msgspec.Struct, frozen=True, array_like=True, gc=False, kw_only=True):
    """One thing that happened. Unused fields keep their defaults."""

    kind: Kind
    time: float
    """Seconds since the epoch."""
    id: str = ""
    """Delivery id; of a reception, the id of the recipient's first delivery."""
    batch_id: str = ""
    channel: str = ""
    """The domain's delivery_method; chooses the loggers. For a heartbeat: the logger's name."""
    domain: str = ""
    sender: str = ""
    """Reverse-path."""
    recipient: str = ""
    """Forward-path."""
    token: str = ""
    size: int = 0
    """Reception: bytes of DATA. Otherwise bytes sent."""
    remote_id: str = ""
    remote_address: str = ""
    """IP address of the gateway; of a reception or rejection, of the client."""
    code: str = ""
    text: str = ""
    attempt: int = 0
    """Attempts made before the one that this event is about."""
    queued: float = 0.0
    """Seconds since the reception."""
    wire: float = 0.0
    """Seconds from the request to the answer."""
    deliveries: int = 0
    """Reception: how many deliveries this recipient became."""
    connection_id: str = ""
    phase: str = ""
    """Rejection: the SMTP command. Transient and permanent: how far it came. Route: the news in one word. Token: GONE,
    INVALID or REGISTERED."""
    protocol: str = ""
    """Reception and rejection, and the ends of what came by a door of TRACKED: the door. Token: who said so,
    SOURCE_PUSH, SOURCE_FEEDBACK or the door."""
    context: dict[str, str] | None = None
    """The message's context variables, where it has any."""
    gone_since: float = 0.0
    """Since when the token is gone, or registered again; seconds since the epoch."""
    user: str = ""
    """Reception and rejection: who had logged in."""


class Remembered(msgspec.Struct, frozen=True):
    """What one logger must know after a crash; written and read back as a whole."""

    logger: str
    """The logger's name with its kind: ``apn_logger.apn_logger1``."""
    inode: int
    offset: int
    """Bytes of the file that are on disk: what stands past them may be torn, or of rows past the cursors."""
    cursors: dict[str, int]
    """By the name of a spool shard: the sequence of its last outbox row whose lines are on disk."""
    tail: bytes = b""
    """Lines before ``offset`` that may be of rows past the cursors: their digests (mcmt/eventlog/tail.py)."""


class OutboxRow(msgspec.Struct, frozen=True, gc=False):
    """The events of one transaction, in order."""

    sequence: int
    events: tuple[Event, ...]

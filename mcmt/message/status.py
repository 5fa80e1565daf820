"""What became of one delivery: data, never an exception.

One field, the disposition, decides what happens next; the code and the text are the gateway's own
words for the log. A channel maps its gateway's answers to dispositions in one table.
"""

from __future__ import annotations

from enum import Enum

import msgspec


class Disposition(Enum):
    """What the engine does with a delivery after an attempt."""

    DELIVERED = "delivered"
    """The gateway took it. Final."""
    TRANSIENT = "transient"
    """Refused for now: counts as an attempt, tried again by the retry schedule."""
    PERMANENT = "permanent"
    """Refused for good. Final, and owed a bounce."""
    RECIPIENT_GONE = "recipient_gone"
    """Refused for good because the recipient no longer exists. Final; the token is reported as gone."""
    REFUSED = "refused"
    """Known not to have been processed: not an attempt, goes again at once on another connection."""
    AMBIGUOUS = "ambiguous"
    """Sent, and no answer came: counts as an attempt, tried again under the same id."""
    ROUTE_FAULT = "route_fault"
    """The route's fault (credential, topic), not the message's: suspends the route, keeps the delivery."""


class Outcome(msgspec.Struct, frozen=True, gc=False, kw_only=True):
    """The result of one attempt at one delivery."""

    disposition: Disposition
    code: str = ""
    """The gateway's status (``410``), or ours (``451``) where it said nothing: ``%S``."""
    text: str = ""
    """The gateway's reason (``Unregistered``), or our text with ``[internal]``: ``%e``."""
    remote_id: str = ""
    """The id under which the gateway knows the delivery (``apns-id``): ``%ti``."""
    remote_address: str = ""
    """The gateway's IP address: ``%H``."""
    size: int = 0
    """Bytes sent, headers and payload: ``%B``."""
    duration: float = 0.0
    """Seconds from the request to the answer."""
    retry_after: float = 0.0
    """Seconds the gateway asked to wait before the next attempt; 0 when it did not ask."""
    reports: bool = False
    """With DELIVERED: who took it tells the sender itself what it wants to hear of (RFC 3461 5.2.1)."""
    suspect: bool = False
    """With RECIPIENT_GONE: the gateway says the same of every token when the route is wrong, not the token."""
    gone_since: float = 0.0
    """With RECIPIENT_GONE: when the gateway last knew the token to be invalid, seconds since the epoch; 0 unknown."""

"""A failure that somebody is owed a report of: the value that waits in the spool, and who is told.

Rules: nobody is told of the failure of a message with the null reverse-path (RFC 5321 4.5.5, 6.1), so a
bounce never makes another one. Rows must stay readable by later versions: fields are only added, at the
end, with defaults.

What is told of need not be a failure: a sender may ask to hear of successes and delays as well (RFC 3461 4.1).
"""

from __future__ import annotations

import re

import msgspec

from mcmt.message.model import Headers, header
from mcmt.message.notification import DELAYED, FAILED
from mcmt.message.status import Disposition, Outcome

GATHER_SECONDS = 300.0
"""How long the failures of a message gather at most, while others of its deliveries are pending."""
_GATHER = {DELAYED: 5.0}
INTERNAL = "[internal]"
"""In the texts of our own making, so that a reader can tell them from the gateway's (Momentum's convention)."""
MAX_PATH = 254
"""Octets of an address (RFC 5321 4.5.3.1.3, without the angle brackets)."""

_RETURN_PATH = "return-path"
is_mailbox = re.compile(r"[^\s<>\x00-\x1f\x7f]+@[^\s<>@\x00-\x1f\x7f]+").fullmatch
# RFC 3463 2: class "." subject "." detail. A failure is of class 5; with another one it would contradict itself.
_find_status = re.compile(r"5\.\d{1,3}\.\d{1,3}(?![\d.])").match
_find_success = re.compile(r"2\.\d{1,3}\.\d{1,3}(?![\d.])").match

_STATUS = {
    "410": "5.1.6",  # the mailbox has moved: Apple's word for a token that is no longer in use
    "413": "5.3.4",  # message too big for system
}
_GONE = "5.1.1"
_OTHER = "5.0.0"
_SUCCESS = "2.0.0"


class Failure(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """One delivery that failed for good, or was handed on, or is late: what ``action`` says."""

    number: int
    """Of the delivery within its message."""
    recipient: str
    """Forward-path."""
    token: str
    """The address on the channel; of a recipient without a delivery, nothing."""
    channel: str
    code: str
    """The channel's code, or ours where the text is INTERNAL."""
    text: str
    status: str
    """RFC 3463, of the class that goes with ``action``."""
    remote_id: str
    remote_address: str
    """IP address of the gateway."""
    time: float
    """Seconds since the epoch."""
    return_path: str
    """Who is told; never the null path."""
    last: str = ""
    """Code and text of the answer before, where this failure is our own word for the end of several attempts."""
    original: str = ""
    """The recipient as its sender knows it: mcmt.message.notification.Asked.original."""
    action: str = FAILED
    """RFC 3464 2.3.3."""
    until: float = 0.0
    """How long it is tried, where it is late; seconds since the epoch."""

    @property
    def tell_by(self) -> float:
        """When it is told at the latest, seconds since the epoch."""
        return self.time + _GATHER.get(self.action, GATHER_SECONDS)


class ReportTerms(msgspec.Struct, frozen=True):
    """What a report calls the things of a channel (RFC 3464 2.1.2: names of our own begin with ``X-``)."""

    diagnostic_type: str
    """In Diagnostic-Code, before the channel's code and text."""
    token_field: str = ""
    """The field for the address on the channel; none: that is the recipient."""
    remote_id_field: str = ""
    """The field for the id under which the gateway knows the delivery."""


def return_path_of(headers: Headers, reverse_path: str) -> str:
    """Who is told of a failure: the part's own Return-Path, else the envelope's; empty: nobody.

    A part whose channel does not read Return-Path may have anything there: what is no address does not count.
    """
    value = header(headers, _RETURN_PATH)
    if value is None:
        return reverse_path
    address = value[1:-1] if value.startswith("<") and value.endswith(">") else value
    if not address or (is_mailbox(address) and len(address.encode()) <= MAX_PATH):
        return address
    return reverse_path


def status_of(outcome: Outcome) -> str:
    """The status of an end: the one that its text begins with, else what its code stands for."""
    if outcome.disposition is Disposition.DELIVERED:
        found = _find_success(outcome.text)
        return found[0] if found else _SUCCESS
    found = _find_status(outcome.text)
    if found is not None:
        return found[0]
    gone = outcome.disposition is Disposition.RECIPIENT_GONE
    return _STATUS.get(outcome.code, _GONE if gone else _OTHER)

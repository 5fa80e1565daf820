"""What a server's replies mean for the recipients of a transaction: the tables.

The most particular entry counts: the enhanced code (RFC 3463) at a stage, the enhanced code anywhere, the code at a
stage, the code anywhere, then the first digit (RFC 5321 4.2.1). An answer that never came is judged by the stage.
"""

from __future__ import annotations

from enum import Enum, auto
from typing import NamedTuple

from mcmt.message.status import Disposition

from .replies import Reply


class Stage(Enum):
    """Whose reply comes next; BODY: the content is being sent, and none is due."""

    MAIL = auto()
    RCPT = auto()
    DATA = auto()
    BODY = auto()
    DOT = auto()


class Rule(NamedTuple):
    """What one reply means."""

    disposition: Disposition
    leave: bool = False
    """The session is not to be used any longer."""


class Verdict(NamedTuple):
    """What became of one recipient."""

    disposition: Disposition
    code: str
    text: str


_TRANSIENT = Rule(Disposition.TRANSIENT)
_PERMANENT = Rule(Disposition.PERMANENT)
_GONE = Rule(Disposition.RECIPIENT_GONE)
_FAULT = Rule(Disposition.ROUTE_FAULT, leave=True)

RULES: dict[tuple[Stage | None, str], Rule] = {
    # RFC 3463 3.2, RFC 7505 4.2: no such mailbox, mailbox moved, the domain takes no mail.
    (Stage.RCPT, "5.1.1"): _GONE,
    (Stage.RCPT, "5.1.6"): _GONE,
    (Stage.RCPT, "5.1.10"): _GONE,
    # Whose fault it is that we are not let in: the stanza's. RFC 7372 3.3 (our address has no name), RFC 5248
    # registry (encryption needed).
    (None, "5.7.10"): _FAULT,
    (None, "5.7.25"): _FAULT,
    # RFC 4954 6 and RFC 3207 4: authentication or TLS required.
    (None, "530"): _FAULT,
    (None, "534"): _FAULT,
    (None, "535"): _FAULT,
    (None, "538"): _FAULT,
    # RFC 5321 3.8: 421 may answer any command, and the server closes. At MAIL nothing was looked at. Later the
    # recipients that were asked about have been answered; a route that says so to one of them is not down.
    (Stage.MAIL, "421"): Rule(Disposition.REFUSED, leave=True),
    (None, "421"): Rule(Disposition.TRANSIENT, leave=True),
    # Bad sequence of commands: the two sides are out of step, which says nothing of the message.
    (None, "503"): Rule(Disposition.TRANSIENT, leave=True),
}

LOST = {
    # Nothing can have been accepted. The route is to blame, not the message, so no attempt is counted ...
    Stage.MAIL: Disposition.REFUSED,
    Stage.RCPT: Disposition.REFUSED,
    Stage.DATA: Disposition.REFUSED,
    # ... but content that a server falls over must not stand before all others for ever.
    Stage.BODY: Disposition.TRANSIENT,
    # RFC 5321 4.5.3.2.6: it may have been accepted.
    Stage.DOT: Disposition.AMBIGUOUS,
}
"""No reply any more, by how far the transaction had come."""

_TOO_MANY = {452: "4.5.3", 552: "5.5.3"}
"""RFC 5321 4.5.3.1.10: too many recipients; 552 is what RFC 821 had for it."""


def judge(stage: Stage, reply: Reply) -> Rule:
    """The meaning of a refusal (4yz, 5yz) at *stage*."""
    code = str(reply.code)
    for key in ((stage, reply.enhanced), (None, reply.enhanced), (stage, code), (None, code)):
        if key[1] and key in RULES:
            return RULES[key]
    return _PERMANENT if reply.code >= 500 else _TRANSIENT


def too_many(reply: Reply, accepted: int) -> bool:
    """Whether a reply to RCPT says that the transaction is full: the recipient is for the next one."""
    enhanced = _TOO_MANY.get(reply.code)
    # Without an enhanced code 452 could also be about the recipient: not when others were taken before it.
    return bool(enhanced and accepted) and reply.enhanced in ("", enhanced)


def verdict(disposition: Disposition, reply: Reply) -> Verdict:
    """What a reply makes of a recipient, in the server's words."""
    return Verdict(disposition, str(reply.code), reply.text)

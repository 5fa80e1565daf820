"""What one transaction sends: MAIL with its parameters, the recipients, the content as it goes over the wire.

Deliveries and the server's extensions in, values out. Deliveries that this server cannot take whatever it would
answer are refused here, before anything is sent, with our own words.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from itertools import takewhile
from typing import NamedTuple

from mcmt.errors import MessageError
from mcmt.message.model import Delivery
from mcmt.message.notification import rcpt_parameters
from mcmt.message.status import Disposition
from mcmt.message.xtext import encode_xtext

from .content import Content, prepare
from .dots import stuff
from .extensions import Extensions
from .trace import received_field
from .verdicts import Verdict

_MAIL = "message/rfc822"
# RFC 5321 4.1.2: a Mailbox has no control characters, and spaces and angle brackets only inside a quoted local part.
_is_path = re.compile(
    r'(?:[^\s"<>\x00-\x1f\x7f]+|"(?:[^"\\\x00-\x1f\x7f]|\\[^\x00-\x1f\x7f])*"@[^\s"<>\x00-\x1f\x7f]+)'
).fullmatch


class Outgoing(NamedTuple):
    """The deliveries of one transaction and what is sent for them."""

    deliveries: tuple[Delivery, ...]
    """To be asked about with RCPT, in order."""
    refusals: tuple[tuple[Delivery, Verdict], ...]
    """Refused here."""
    mail: bytes = b""
    """The MAIL command."""
    parameters: tuple[str, ...] = ()
    """What each RCPT says beyond the path, with a space before it; none: nothing."""
    content: memoryview = memoryview(b"")
    """Everything after 354, dots stuffed, the final dot included."""

    @classmethod
    def refused(cls, deliveries: Sequence[Delivery], disposition: Disposition, code: str, text: str) -> Outgoing:
        """Nothing to send."""
        verdict = Verdict(disposition, code, text)
        return cls((), tuple((delivery, verdict) for delivery in deliveries))


def take_same_message(deliveries: Sequence[Delivery], limit: int) -> list[Delivery]:
    """From the front of *deliveries* those of one message and part, at most *limit*."""
    first = deliveries[0]
    batch_id, part = first.sender.batch_id, first.part
    return list(
        takewhile(
            lambda delivery: delivery.sender.batch_id == batch_id and (delivery.part is part or delivery.part == part),
            deliveries[:limit],
        )
    )


def compose(deliveries: Sequence[Delivery], name: str, extensions: Extensions) -> Outgoing:
    """What to send of one message; *name* is ours. Raises MessageError where nobody can be sent it."""
    sender, media_type = deliveries[0].sender, deliveries[0].part.media_type
    if media_type != _MAIL:
        # The domain had another delivery_method when it was accepted.
        raise MessageError(554, "5.6.1", f"the message has a part for another channel, {media_type}, and no mail")
    _check_path(sender.reverse_path, extensions, "5.1.7")
    good: list[Delivery] = []
    bad: list[tuple[Delivery, Verdict]] = []
    for delivery in deliveries:
        try:
            _check_path(delivery.token, extensions, "5.1.3")
            good.append(delivery)
        except MessageError as error:
            text = f"{error.enhanced} [internal] {error.text}"
            bad.append((delivery, Verdict(Disposition.PERMANENT, str(error.code), text)))
    if not good:
        return Outgoing((), tuple(bad))
    content = prepare(deliveries[0].part.content, extensions)
    # RFC 5321 4.4: the FOR clause names one recipient; more would tell them of one another.
    trace = received_field(name, sender, good[0].token if len(good) == 1 else "")
    data = trace + content.data
    if extensions.max_size and len(data) > extensions.max_size:
        text = f"the message has {len(data)} octets, the server takes {extensions.max_size} (SIZE)"
        raise MessageError(552, "5.3.4", text)
    mail = _mail(sender.reverse_path, good, content, len(data), extensions)
    parameters: tuple[str, ...] = ()
    if extensions.dsn and any(one.asked is not None for one in good):
        parameters = tuple([rcpt_parameters(one.asked) if one.asked is not None else "" for one in good])
    return Outgoing(tuple(good), tuple(bad), mail, parameters, memoryview(stuff(data)))


def _check_path(path: str, extensions: Extensions, enhanced: str) -> None:
    if path and not _is_path(path):
        raise MessageError(553, enhanced, f"{path!a} cannot be sent as an address")
    # RFC 6531 3.2: without SMTPUTF8 an address that is not ASCII must not be sent.
    if not path.isascii() and not extensions.utf8:
        raise MessageError(553, "5.6.7", f"{path!a} is not ASCII, and the server does not take such (SMTPUTF8)")


def _mail(
    reverse_path: str, recipients: Sequence[Delivery], content: Content, size: int, extensions: Extensions
) -> bytes:
    command = f"MAIL FROM:<{reverse_path}>"
    if extensions.size:
        command += f" SIZE={size}"
    if content.eight_bit and extensions.eight_bit:
        command += " BODY=8BITMIME"
    if content.utf8 or not reverse_path.isascii() or not all(delivery.token.isascii() for delivery in recipients):
        command += " SMTPUTF8"
    sender = recipients[0].sender
    if extensions.dsn:
        # RFC 3461 5.2.1: what the sender asked for is passed on unchanged.
        command += f" RET={sender.ret}" * bool(sender.ret) + f" ENVID={encode_xtext(sender.envid)}" * bool(sender.envid)
    return f"{command}\r\n".encode()

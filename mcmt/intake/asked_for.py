"""What one mail transaction has asked for beyond the mail itself, gathered command by command."""

from __future__ import annotations

import msgspec

from mcmt.intake.compose import NOW, Schedule
from mcmt.intake.extensions import MailRequests, RcptRequests
from mcmt.message.model import Envelope
from mcmt.message.notification import FAILURE, NEVER, SUCCESS, Asked


class AskedFor:
    """Of MAIL, and of each RCPT that asked for anything."""

    __slots__ = ("_by_recipient", "_mail")

    def __init__(self, mail: MailRequests | None = None) -> None:
        self._mail = mail or MailRequests()
        self._by_recipient: dict[str, RcptRequests] = {}

    def add(self, address: str, requests: RcptRequests) -> None:
        """RCPT for *address*. A recipient that is given twice is one: every report that either wants is made."""
        before = self._by_recipient.get(address)
        if before is not None:
            notify = before.notify | requests.notify
            notify = notify if notify == NEVER else notify & ~NEVER
            requests = RcptRequests(notify, before.original or requests.original)
        self._by_recipient[address] = requests

    def of(self, envelope: Envelope) -> tuple[Envelope, Schedule]:
        """*envelope* with it, and when the message is to be sent."""
        mail, asked = self._mail, {}
        for address in envelope.forward_paths:
            notify, original = self._by_recipient.get(address, (0, ""))
            if mail.trace and notify != NEVER:
                # RFC 2852 4: by-trace asks for a report of action relayed. Where nothing else was said, failures are
                # reported as ever.
                notify = (notify or FAILURE) | SUCCESS
            if notify or original:
                asked[address] = Asked(notify, original)
        envelope = msgspec.structs.replace(
            envelope,
            ret=mail.ret,
            envid=mail.envid,
            asked=asked,
            priority=mail.priority,
            release=mail.release,
            deliver_by=mail.deadline or mail.tell_late,
        )
        return envelope, Schedule(mail.due, mail.deadline or NOW.expires, mail.tell_late)

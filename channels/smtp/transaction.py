"""One mail transaction: MAIL, RCPT for each recipient, DATA, the content (RFC 5321 3.3); sans I/O.

Replies go in, commands come out, and at the end every recipient has a verdict.

Rules:
* Pipelined (RFC 2920): MAIL, all RCPT and DATA are one write, and every one of their replies is waited for. Else one
  command at a time, and nothing more is sent than is needed.
* 2yz to the final dot is for the recipients that were accepted; whoever was refused at RCPT keeps that.
* Recipients that do not fit into the transaction are refused, unprocessed: the next transaction has them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mcmt.errors import ProtocolError
from mcmt.message.status import Disposition

from .replies import Reply
from .verdicts import LOST, Stage, Verdict, judge, too_many, verdict

_DATA = b"DATA\r\n"
_LONE_DOT = b".\r\n"


class Transaction:
    """The state of one transaction, from MAIL to the reply to the final dot."""

    def __init__(
        self, mail: bytes, recipients: Sequence[str], *, pipelining: bool, parameters: Sequence[str] = ()
    ) -> None:
        """*parameters*: of each RCPT, with a space before them; none: none has any."""
        self._mail = mail
        said = parameters or [""] * len(recipients)
        self._commands = [f"RCPT TO:<{one}>{more}\r\n".encode() for one, more in zip(recipients, said, strict=True)]
        self._pipelining = pipelining
        self._next = 0  # the recipient whose reply comes next
        self._accepted: list[int] = []
        self.verdicts: list[Verdict | None] = [None] * len(recipients)
        """By recipient; all are there when ``done``."""
        self.stage = Stage.MAIL
        self.done = False
        self.leave = False
        """The session cannot go on after it."""
        self.reset = False
        """RSET is needed before the next one."""
        self.full_at = 0
        """How many recipients the server took before it said that these are enough; 0: it did not say."""

    @property
    def wants_content(self) -> bool:
        """The server waits for the content."""
        return self.stage is Stage.BODY and not self.done

    def begin(self) -> bytes:
        """What to write first."""
        return b"".join([self._mail, *self._commands, _DATA]) if self._pipelining else self._mail

    def take(self, reply: Reply) -> bytes:
        """A reply came; what to write next, if anything. Raises ProtocolError for one that has no place here."""
        return self._takers[self.stage](self, reply)

    def content_sent(self) -> None:
        """The content is out, up to and with its final dot."""
        self.stage = Stage.DOT

    def lost(self, reason: str) -> None:
        """No reply will come any more."""
        self._settle(LOST[self.stage], "451", f"4.4.2 [internal] {reason}")
        self._finish(leave=True)

    # -- replies, by stage --------------------------------------------------------------------------------------------

    def _take_mail(self, reply: Reply) -> bytes:
        refused = self._refused(reply)
        if refused:
            rule = judge(Stage.MAIL, reply)
            self._settle(rule.disposition, str(reply.code), reply.text)
            if rule.leave or not self._pipelining:
                self._finish(leave=rule.leave)
                return b""
        self.reset = not refused
        self.stage = Stage.RCPT
        return b"" if self._pipelining else self._commands[0]

    def _take_rcpt(self, reply: Reply) -> bytes:
        number = self._next
        self._next += 1
        refused = self._refused(reply)
        if self.verdicts[number] is not None:
            pass  # MAIL was refused; this says only that it was
        elif not refused:
            self._accepted.append(number)
        elif too_many(reply, len(self._accepted)):
            self.full_at = self.full_at or len(self._accepted)
            self.verdicts[number] = verdict(Disposition.REFUSED, reply)
        else:
            rule = judge(Stage.RCPT, reply)
            self.verdicts[number] = verdict(rule.disposition, reply)
            if rule.leave:
                self._settle(Disposition.REFUSED, str(reply.code), reply.text)
                self._finish(leave=True)
                return b""
        if self._next < len(self._commands):
            return b"" if self._pipelining else self._commands[self._next]
        self.stage = Stage.DATA
        if self._pipelining:
            return b""
        if self._accepted:
            return _DATA
        self._finish()
        return b""

    def _take_data(self, reply: Reply) -> bytes:
        if reply.intermediate and self._accepted:
            self.stage = Stage.BODY
            return b""
        if reply.intermediate:
            # RFC 2920 3.1: nobody was accepted and DATA was all the same: a message of nothing, to nobody.
            self.stage = Stage.DOT
            return _LONE_DOT
        if reply.positive:
            raise ProtocolError(f"expected 354 to DATA, got {reply}")
        self._refuse_accepted(Stage.DATA, reply)
        return b""

    def _take_early(self, reply: Reply) -> bytes:
        """A reply while the content is being sent: only a refusal can mean anything, and the rest goes nowhere."""
        if not self._refused(reply):
            raise ProtocolError(f"a reply before the end of the message: {reply}")
        self._refuse_accepted(Stage.DOT, reply)
        self.leave = True
        return b""

    def _take_dot(self, reply: Reply) -> bytes:
        self.reset = False
        if not self._refused(reply):
            self._settle(Disposition.DELIVERED, str(reply.code), reply.text)
            self._finish()
            return b""
        self._refuse_accepted(Stage.DOT, reply)
        return b""

    _takers: dict[Stage, Callable[[Transaction, Reply], bytes]] = {  # noqa: RUF012 - a constant table of its own methods
        Stage.MAIL: _take_mail,
        Stage.RCPT: _take_rcpt,
        Stage.DATA: _take_data,
        Stage.BODY: _take_early,
        Stage.DOT: _take_dot,
    }

    # -- verdicts -----------------------------------------------------------------------------------------------------

    @staticmethod
    def _refused(reply: Reply) -> bool:
        if reply.intermediate:
            raise ProtocolError(f"a reply that has no place here: {reply}")
        return not reply.positive

    def _refuse_accepted(self, stage: Stage, reply: Reply) -> None:
        rule = judge(stage, reply)
        self._settle(rule.disposition, str(reply.code), reply.text)
        self._finish(leave=rule.leave and bool(self._accepted))

    def _settle(self, disposition: Disposition, code: str, text: str) -> None:
        """The verdict of everyone who has none."""
        one = Verdict(disposition, code, text)
        self.verdicts = [found or one for found in self.verdicts]

    def _finish(self, *, leave: bool = False) -> None:
        self.done = True
        self.leave = self.leave or leave

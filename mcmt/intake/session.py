"""One client's session, below the commands: the loop that reads them, refusals, faults of ours.

A command is a function of the session, found in a table. It answers at once; or it returns what it has still to do as
a coroutine, and the session's task carries that out before anything else is read.

Rules: a bug of ours is 451 and the session lives (aiosmtpd answers 500); whoever makes too many errors is sent away. It
must not know what the commands mean.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Coroutine, Mapping
from types import MappingProxyType
from typing import Any, Final

from mcmt.errors import MessageError
from mcmt.intake import limits
from mcmt.intake.connection import DRAINING, Connection
from mcmt.intake.door import Door
from mcmt.intake.reply import complete, reply
from mcmt.intake.watching import SessionWatch
from mcmt.message.model import Envelope

log = logging.getLogger(__name__)

_ERRORS: Final = reply(421, "4.7.0", "too many errors in one session")
FAULT: Final = "a fault of this server; nothing was kept, try again later"
"""What a client is told of a bug of ours; the operator finds the traceback on stderr."""

# RFC 5321 4.2.2: the codes of commands that are none, or out of place. They are the client's bugs, not refused mail.
_PROTOCOL_CODES = frozenset({500, 501, 502, 503, 504, 555})
_MESSAGE_VERBS = frozenset({"DATA", "BDAT"})
_MAIL_VERBS = _MESSAGE_VERBS | {"MAIL", "RCPT"}
# A browser made to post to our port would speak SMTP in its body, after headers that are only unknown commands.
_HTTP = frozenset({"GET", "POST", "PUT", "HEAD", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"})
# RFC 3207 4: a server that requires STARTTLS answers 530 to every other command but these. BDAT answers it by itself,
# when it has read the octets that come with it.
_BEFORE_TLS = frozenset({"NOOP", "EHLO", "STARTTLS", "QUIT", "BDAT"})
TLS_FIRST: Final = 530, "5.7.0", "send STARTTLS first (require_tls)"
"""What is told to those commands."""


Work = Coroutine[Any, Any, None]
Command = Callable[[Any, str | None], Work | None]
"""A command of a session, with its argument if it has one. Raises MessageError: the refusal."""


class Session(Connection):
    """What there is to a session beside its commands."""

    COMMANDS: Mapping[str, Command] = MappingProxyType({})
    """The commands that are there. For speed each is a function in a table: no name is looked up in the object."""

    def __init__(self, door: Door, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(door, loop)
        self._forget()
        self._errors = 0
        self._refusals = 0
        self._tls_first = door.listen.require_tls
        """Nothing is taken before STARTTLS."""
        self._longest_command = limits.COMMAND_LINE
        self._overlong = False
        """The front of the command that is coming was too long, and is gone."""

    def _forget(self) -> None:
        """As if the client had just connected."""
        self._helo = ""
        """What the client called itself; empty before EHLO or HELO."""
        self._user = ""
        """Who has logged in."""
        self._sender: str | None = None
        self._recipients: list[str] = []

    @property
    def _smtp_methods(self) -> Mapping[str, Command]:  # type: ignore[override]  # nobody writes it
        # For aiosmtpd's HELP.
        return self.COMMANDS

    async def push(self, status: str | bytes) -> None:
        """Say a reply line of aiosmtpd's own commands."""
        self._replies.append(complete(status if isinstance(status, str) else status.decode()))

    # -- what has come -------------------------------------------------------------------------------------------

    def _work_off(self) -> None:
        received, replies = self._input, self._replies
        watch = self._watching() if self._watched_by is not None or self._door.tracing.watched else None
        while received and not self._ending:
            if watch is not None:
                watch.look(received, replies, in_data=self._in_data)
            taken = self._take_content() if self._in_data else self._take_command()
            if watch is not None:
                watch.took(received)
            if not taken or self._busy:
                break
            if len(replies) > limits.PENDING_REPLIES:
                # A burst may be long: other sessions have their turn within it.
                self._busy = True
                self.loop.call_soon(self._go_on)
                break
        if self._ending or (self._all_came and not self._busy):
            self._part()
        else:
            self._your_turn()

    def _watching(self) -> SessionWatch | None:
        """What is told of the session while any domain is watched."""
        if not self._door.tracing.watched:
            self._watched_by = None
        elif self._watched_by is None:
            self._watched_by = SessionWatch(self._door.tracing, self, self._peer, self.COMMANDS)
        return self._watched_by

    def summary(self) -> str:
        """See Watched."""
        login = f", logged in as {self._user}" if self._user else ""
        return f"{self._connection_id}, HELO {self._helo}{login}, MAIL FROM:<{self._sender or ''}>"

    def _take_content(self) -> bool:
        """Take what has come of a message; True when it is whole."""
        raise NotImplementedError

    def _take_command(self) -> bool:
        """Do the next command, if it has come whole."""
        received = self._input
        end = received.find(b"\n")
        if end < 0:
            if len(received) > self._longest_command:
                if not self._overlong and _is_chunk(received):
                    self._ending = True
                    self._refuse("", _too_long())
                self._overlong = True
                received.clear()
            return False
        line = received[:end]
        del received[: end + 1]
        self._progress = True
        verb = ""
        try:
            if self._overlong or (end >= limits.COMMAND_LINE and not self._may_be_long(line)):
                self._overlong = False
                raise _too_long()
            # RFC 5321 2.3.8: CR and LF are sent together only, as the end of a line.
            if not end or line.find(b"\r") != end - 1:
                raise MessageError(500, "5.5.2", "bare CR or LF; a command ends with CR LF")
            try:
                # RFC 6531 3.1: what is not ASCII in a command is UTF-8.
                text = line[:-1].decode()
            except UnicodeDecodeError:
                raise MessageError(500, "5.5.2", "the command is not UTF-8") from None
            verb, _, argument = text.partition(" ")
            command = self.COMMANDS.get(verb)
            if command is None:
                word, verb = verb, verb.upper() if verb.isascii() else ""
                command = self.COMMANDS.get(verb)
                if command is None:
                    raise self._unknown(word, verb)
            if self._tls_first and verb not in _BEFORE_TLS:
                raise MessageError(*TLS_FIRST)
            work = command(self, argument.strip(" ") or None)
        except MessageError as reason:
            self._ending = self._ending or _is_chunk(line)
            self._refuse(verb, reason)
        except Exception:
            self._ending = _is_chunk(line)
            self._tell_fault(verb)
        else:
            if work is not None:
                self._hand_over(verb, work)
        return True

    # -- what takes its time -------------------------------------------------------------------------------------

    def _hand_over(self, verb: str, work: Work) -> None:
        """Have the task carry out *work* before anything else is read."""
        self._busy = True
        self._work.set_result((verb, work))

    async def _handle_client(self) -> None:
        try:
            while (handed := await self._work) is not None:
                self._work = self.loop.create_future()
                verb, work = handed
                try:
                    await work
                except MessageError as reason:
                    self._refuse(verb, reason)
                except ConnectionError:
                    # The client went away. What it was not told is not its to rely on.
                    self._ending = True
                    self._wire.close()
                except Exception:
                    self._tell_fault(verb)
                # Our time was not the client's.
                self._progress = True
                self._go_on()
        except Exception:
            log.exception("%s %s: the session ended by a fault", self._connection_id, self._peer)
            self._wire.abort()

    def _tell_fault(self, verb: str) -> None:
        log.exception("%s %s: a fault of ours at %s", self._connection_id, self._peer, verb)
        self._refuse(verb, MessageError(451, "4.3.0", FAULT))

    async def _read_line(self, limit: int) -> bytes | None:
        """The next line without its end; None when it is longer than *limit*. Raises ConnectionError: there is none."""
        received = self._input
        while (end := received.find(b"\n")) < 0:
            if len(received) > limit:
                return None
            await self._more()
        line = bytes(received[:end])
        del received[: end + 1]
        self._progress = True
        return line.removesuffix(b"\r") if end < limit else None

    def _may_be_long(self, line: bytearray) -> bool:
        # RFC 4954 3: with AUTH, an AUTH command may be 12,288 octets long.
        return len(line) < self._longest_command and line[:5].upper() == b"AUTH "

    def _unknown(self, word: str, verb: str) -> MessageError:
        if verb in _HTTP:
            self._ending = True
            return MessageError(554, "5.5.1", "this is an SMTP server")
        return MessageError(500, "5.5.1", f"{word[:40]!a} is not a command here")

    def _refuse(self, verb: str, reason: MessageError, recipient: str = "") -> None:
        """Say a refusal, count it, and have it written where mail was refused."""
        self._replies.append(reply(reason.code, reason.enhanced, reason.text))
        if reason.code in _PROTOCOL_CODES:
            self._errors += 1
        elif verb in _MAIL_VERBS:
            self._refusals += 1
            forward = (recipient,) if recipient else tuple(self._recipients) if verb in _MESSAGE_VERBS else ()
            self._door.reception.reject(self._envelope(forward), verb, reason)
        if not self._ending and (self._errors > self._door.listen.max_errors or self._refusals > limits.REFUSALS):
            self._replies.append(_ERRORS)
            self._ending = True

    def _envelope(self, forward_paths: tuple[str, ...]) -> Envelope:
        return Envelope(self._sender or "", forward_paths, self._peer, self._connection_id, user=self._user)

    def _reject(self, reason: MessageError) -> None:
        self._door.reception.reject(self._envelope(tuple(self._recipients)), "DATA", reason)

    def _say_draining(self) -> None:
        self._replies.append(DRAINING)
        self._ending = True


def _is_chunk(line: bytearray) -> bool:
    """Whether the command is followed by octets that are none. Refused at once, their number is not known, and a
    message's octets would be obeyed in its sender's name: the session has to end."""
    return line[:4].upper() == b"BDAT"


def _too_long() -> MessageError:
    return MessageError(500, "5.5.2", f"a command has at most {limits.COMMAND_LINE} octets")

"""One client's session, below the commands: the loop that reads them, refusals, faults of ours.

Rules: a bug of ours is 451 and the session lives (aiosmtpd answers 500); whoever makes too many errors is sent away. It
must not know what the commands mean.

Measured on one of two shared cores, uvloop, a spool that keeps nothing, parsing included: 60 us CPU a message from a
client that pipelines, 85 us command by command, 205 us with a connection for each message (smtp-source).
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, Final

from mcmt.errors import MessageError
from mcmt.intake import limits
from mcmt.intake.connection import DRAINING, Connection
from mcmt.intake.door import Door
from mcmt.intake.reply import complete, reply
from mcmt.message.model import Envelope

log = logging.getLogger(__name__)

_ERRORS: Final = reply(421, "4.7.0", "too many errors in one session")
FAULT: Final = "a fault of this server; nothing was kept, try again later"
"""What a client is told of a bug of ours; the operator finds the traceback on stderr."""

# RFC 5321 4.2.2: the codes of commands that are none, or out of place. They are the client's bugs, not refused mail.
_PROTOCOL_CODES = frozenset({500, 501, 502, 503, 504, 555})
# A browser made to post to our port would speak SMTP in its body, after headers that are only unknown commands.
_HTTP = frozenset({"GET", "POST", "PUT", "HEAD", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"})
# RFC 3207 4: a server that requires STARTTLS answers 530 to every other command but these.
_BEFORE_TLS = frozenset({"NOOP", "EHLO", "STARTTLS", "QUIT"})


class Session(Connection):
    """What there is to a session beside its commands, which are the methods ``smtp_...`` of a subclass."""

    COMMANDS: Mapping[str, str] = MappingProxyType({})
    """The commands that are there, each with the name of its method."""

    def __init__(self, door: Door, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(door, loop)
        self._forget()
        self._errors = 0
        self._refusals = 0
        self._tls_first = door.listen.require_tls
        """Nothing is taken before STARTTLS."""
        self._longest_command = limits.COMMAND_LINE

    def _forget(self) -> None:
        """As if the client had just connected."""
        self._helo = ""
        """What the client called itself; empty before EHLO or HELO."""
        self._user = ""
        """Who has logged in."""
        self._sender: str | None = None
        self._recipients: list[str] = []

    @property
    def _smtp_methods(self) -> dict[str, Any]:  # type: ignore[override]  # nobody writes it
        # For aiosmtpd's HELP: made anew for each session it would be 2 us.
        return {verb: getattr(self, name) for verb, name in self.COMMANDS.items()}

    async def push(self, status: str | bytes) -> None:
        """Say a reply line of aiosmtpd's own commands."""
        self._replies.append(complete(status if isinstance(status, str) else status.decode()))

    async def _handle_client(self) -> None:
        try:
            self._replies.append(f"220 {self.hostname} ESMTP mcmt\r\n".encode())
            await self._converse()
            await self._flush()
            if self._ending and not self._parted:
                await self._linger()
        except ConnectionError:
            # The client went away. What it was not told is not its to rely on.
            pass
        except Exception:
            log.exception("%s %s: the session ended by a fault", self._connection_id, self._peer)
        finally:
            self._writer.close()
            self._handler_done = True
            if self.transport is None:
                self._door.sessions.discard(self)

    async def _converse(self) -> None:
        received = self._input
        overlong = False
        while not self._ending:
            end = received.find(b"\n")
            if end < 0:
                if len(received) > self._longest_command:
                    overlong = True
                    received.clear()
                if not await self._fill():
                    return
                continue
            line = bytes(received[: end + 1])
            del received[: end + 1]
            self._progress = True
            if overlong or (end >= limits.COMMAND_LINE and not self._may_be_long(line)):
                overlong = False
                text = f"a command has at most {limits.COMMAND_LINE} octets"
                self._refuse("", MessageError(500, "5.5.2", text))
            else:
                await self._command(line, end)
            if len(self._replies) > limits.PENDING_REPLIES:
                await self._flush()

    async def _command(self, line: bytes, end: int) -> None:
        verb = ""
        try:
            # RFC 5321 2.3.8: CR and LF are sent together only, as the end of a line.
            if not end or line.find(b"\r") != end - 1:
                raise MessageError(500, "5.5.2", "bare CR or LF; a command ends with CR LF")
            try:
                # RFC 6531 3.1: what is not ASCII in a command is UTF-8.
                text = line[: end - 1].decode()
            except UnicodeDecodeError:
                raise MessageError(500, "5.5.2", "the command is not UTF-8") from None
            word, _, argument = text.partition(" ")
            verb = word.upper() if word.isascii() else ""
            method = self.COMMANDS.get(verb)
            if method is None:
                raise self._unknown(word, verb)
            if self._tls_first and verb not in _BEFORE_TLS:
                raise MessageError(530, "5.7.0", "send STARTTLS first (require_tls)")
            await getattr(self, method)(argument.strip(" ") or None)
        except MessageError as reason:
            self._refuse(verb, reason)
        except ConnectionError:
            raise
        except Exception:
            log.exception("%s %s: a fault of ours at %s", self._connection_id, self._peer, verb)
            self._refuse(verb, MessageError(451, "4.3.0", FAULT))

    async def _read_line(self, limit: int) -> bytes | None:
        """The next line without its end; None when it is longer than *limit*. Raises ConnectionError: there is none."""
        received = self._input
        while (end := received.find(b"\n")) < 0:
            if len(received) > limit:
                return None
            if not await self._fill():
                raise ConnectionResetError("the client closed")
        line = bytes(received[:end])
        del received[: end + 1]
        self._progress = True
        return line.removesuffix(b"\r") if end < limit else None

    def _may_be_long(self, line: bytes) -> bool:
        # RFC 4954 3: with AUTH, an AUTH command may be 12,288 octets long.
        return len(line) <= self._longest_command and line[:5].upper() == b"AUTH "

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
        elif verb in ("MAIL", "RCPT", "DATA"):
            self._refusals += 1
            forward = tuple(self._recipients) if verb == "DATA" else (recipient,) if recipient else ()
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

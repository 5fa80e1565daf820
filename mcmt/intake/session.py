"""One client's session, below the commands: connection, octets in and out, the loop, refusals, the end.

aiosmtpd's protocol class with its costs and traps taken out: it reads and logs line by line, sends every reply by
itself, keeps a timer a command, answers 500 to a fault of ours, and cancels the session when the client half-closes.
aiosmtpd is pinned exactly, and what is overridden here is held by tests.

Rules: a bug of ours is 451 and the session lives; replies of one burst leave together, and none is held back while the
session waits (RFC 2920 3.2); no timer or task a message. It must not know what the commands mean.

Measured on one of two shared cores, uvloop, a spool that keeps nothing, parsing included: 60 us CPU a message from a
client that pipelines, 85 us command by command, 205 us with a connection for each message (smtp-source).
"""

from __future__ import annotations

import asyncio
import logging
from typing import Any, Final, cast

from aiosmtpd.smtp import SMTP

from mcmt.clock import Timer
from mcmt.errors import MessageError
from mcmt.intake import limits
from mcmt.intake.door import Door, may_relay
from mcmt.intake.reply import complete, reply
from mcmt.message.model import Envelope

log = logging.getLogger(__name__)

_BUSY: Final = reply(421, "4.3.2", "too many sessions; try again later")
_DRAINING: Final = reply(421, "4.3.2", "the server is being stopped; try again later")
_SILENT: Final = reply(421, "4.4.2", f"nothing came for {limits.IDLE:.0f} seconds")
_ERRORS: Final = reply(421, "4.7.0", "too many errors in one session")
FAULT: Final = "a fault of this server; nothing was kept, try again later"
"""What a client is told of a bug of ours; the operator finds the traceback on stderr."""

# RFC 5321 4.2.2: the codes of commands that are none, or out of place. They are the client's bugs, not refused mail.
_PROTOCOL_CODES = frozenset({500, 501, 502, 503, 504, 555})
# A browser made to post to our port would speak SMTP in its body, after headers that are only unknown commands.
_HTTP = frozenset({"GET", "POST", "PUT", "HEAD", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE"})


def make_template(hostname: str, loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """The attributes that aiosmtpd's constructor gives an object, for ``Door.template``."""
    return vars(SMTP(None, enable_SMTPUTF8=True, hostname=hostname, loop=loop))


class Session(SMTP):
    """What there is to a session beside its commands, which are the methods ``smtp_...`` of a subclass."""

    # The reader's limit: it stops reading from the socket at twice this.
    line_length_limit = limits.READ // 2

    COMMANDS: tuple[str, ...] = ()
    """The commands that are there; each is a method ``smtp_<command>``."""

    def __init__(self, door: Door, loop: asyncio.AbstractEventLoop) -> None:
        # SMTP.__init__ searches the object for commands and mechanisms: 65 us, a third of a session with one message.
        # What it leaves behind is the same for every session, so one search serves them all.
        vars(self).update(door.template)
        reader = asyncio.StreamReader(limit=self.line_length_limit, loop=loop)
        asyncio.StreamReaderProtocol.__init__(self, reader, self._cb_client_connected, loop)
        self._smtp_methods = {name: getattr(self, f"smtp_{name}") for name in self.COMMANDS}
        self._door = door
        self._input = bytearray()
        self._replies: list[bytes] = []
        self._helo = ""
        """What the client called itself; empty before EHLO or HELO."""
        self._sender: str | None = None
        self._recipients: list[str] = []
        self._errors = 0
        self._refusals = 0
        self._in_data = False
        """From DATA to the reply to its content."""
        self._in_commit = False
        """The client has given all, and waits for us."""
        self._ending = False
        """The last reply has been given: nothing that the client still sends is read."""
        self._parted = False
        """Client and server agree that this is the end, and nothing more is on its way."""
        self._draining = False
        self._handler_done = False
        self._heard = door.clock.monotonic()
        self._timer: Timer | None = None

    # -- the connection ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, or turn away what is one session too many."""
        door = self._door
        self._wire = cast(asyncio.Transport, transport)
        if len(door.sessions) >= limits.SESSIONS:
            asyncio.StreamReaderProtocol.connection_made(self, transport)
            self._wire.write(_BUSY)
            self._wire.close()
            return
        door.sessions.add(self)
        peer = transport.get_extra_info("peername")
        # An IPv6 address may end in its zone, which means nothing to anybody else (RFC 4007 11.2).
        self._peer = peer[0].partition("%")[0] if peer else ""
        self._relays = may_relay(self._peer, door.listen.relay_hosts)
        self._connection_id = f"{door.random_bits(64):016x}"
        self._timer = door.clock.call_later(limits.IDLE, self._check_idle)
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        """Let the session notice by itself. aiosmtpd would cancel it, in the middle of a commit perhaps."""
        asyncio.StreamReaderProtocol.connection_lost(self, error)
        self.transport = None
        if self._timer is not None:
            self._timer.cancel()
        if self._handler_done:
            self._door.sessions.discard(self)

    def eof_received(self) -> bool | None:
        """A client that has said all may still listen (``nc -N``): it gets its replies."""
        return asyncio.StreamReaderProtocol.eof_received(self)

    def _reset_timeout(self, duration: float | None = None) -> None:  # noqa: ARG002 - aiosmtpd's
        # Setting a timer anew is 1 us a command; one timer a session looks at the clock when it fires instead.
        self._heard = self._door.clock.monotonic()

    def _check_idle(self) -> None:
        left = self._heard + limits.IDLE - self._door.clock.monotonic()
        if self._in_commit:
            left = limits.IDLE
        if left > 0:
            self._timer = self._door.clock.call_later(left, self._check_idle)
        else:
            self._hang_up(_SILENT)

    def _hang_up(self, last: bytes) -> None:
        """End from outside, whatever the session waits for."""
        if not self._wire.is_closing():
            if not self._ending:
                self._wire.write(b"".join(self._replies) + last)
                self._replies.clear()
            self._wire.close()
        self._ending = True
        # A client that does not read would keep the connection open for ever.
        self._abort_later()

    def _abort_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._door.clock.call_later(limits.LINGER, self._wire.abort)

    def drain(self) -> None:
        """Finish the message that is being received, if one is, and end."""
        self._draining = True
        if not self._in_data:
            self._hang_up(_DRAINING)

    def abort(self) -> None:
        """End now. A message that is being received is not accepted, or its client is not told."""
        self._hang_up(_DRAINING)

    # -- octets in and out ---------------------------------------------------------------------------------------

    async def _fill(self) -> bool:
        """Send what is held back, and wait for more from the client; False when it has closed."""
        await self._flush()
        data = await self._reader.read(limits.READ)
        self._heard = self._door.clock.monotonic()
        self._input += data
        return bool(data) and not self._ending

    async def _flush(self) -> None:
        if self._replies:
            burst = b"".join(self._replies)
            self._replies.clear()
            self._writer.write(burst)
            # Waits while the client does not read what it is told.
            await self._writer.drain()

    async def push(self, status: str | bytes) -> None:
        """Say a reply line of aiosmtpd's own commands."""
        self._replies.append(complete(status if isinstance(status, str) else status.decode()))

    # -- the conversation ----------------------------------------------------------------------------------------

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
                if len(received) > limits.COMMAND_LINE:
                    overlong = True
                    received.clear()
                if not await self._fill():
                    return
                continue
            line = bytes(received[: end + 1])
            del received[: end + 1]
            if overlong or end >= limits.COMMAND_LINE:
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
            method = self._smtp_methods.get(verb)
            if method is None:
                raise self._unknown(word, verb)
            await method(argument.strip(" ") or None)
        except MessageError as reason:
            self._refuse(verb, reason)
        except ConnectionError:
            raise
        except Exception:
            log.exception("%s %s: a fault of ours at %s", self._connection_id, self._peer, verb)
            self._refuse(verb, MessageError(451, "4.3.0", FAULT))

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
        if not self._ending and (self._errors > limits.ERRORS or self._refusals > limits.REFUSALS):
            self._replies.append(_ERRORS)
            self._ending = True

    def _envelope(self, forward_paths: tuple[str, ...]) -> Envelope:
        return Envelope(self._sender or "", forward_paths, self._peer, self._connection_id)

    def _say_draining(self) -> None:
        self._replies.append(_DRAINING)
        self._ending = True

    async def _linger(self) -> None:
        """Throw away what the client still sends, so that it can read our last reply."""
        if self._wire.is_closing():
            return
        if self._wire.can_write_eof():
            self._wire.write_eof()
        self._abort_later()
        while await self._reader.read(limits.READ):
            pass

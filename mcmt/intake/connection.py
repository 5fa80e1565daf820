"""One client's connection, below the conversation: octets in and out, the deadlines, the end.

aiosmtpd's protocol class with its costs and traps taken out: it reads and logs line by line, sends every reply by
itself, keeps a timer a command, and cancels the session when the client half-closes. aiosmtpd is pinned exactly, and
what is overridden here is held by tests.

What comes is worked off where it comes, in ``data_received``: between a read and the write that answers it stand no
stream, no future and no task. Measured (smtp-source, 100 sessions, uvloop, a spool that keeps nothing, parsing
included; medians of runs in turn with a coroutine that awaits a StreamReader and writes to a StreamWriter): 70 us CPU a
message command by command where that took 96, 54 us pipelined where it took 66. 26 of the 70 are the kernel's, for four
reads and four writes. What has to wait is handed to the session's task, which then has the floor; octets that come
meanwhile wait for it.

Rules: replies of one burst leave together, and none is held back while the session waits (RFC 2920 3.2); no timer or
task a message. It must not know what a command is.
"""

from __future__ import annotations

import asyncio
import logging
import math
import ssl
from collections.abc import Coroutine
from typing import Any, Final, cast

from aiosmtpd.smtp import SMTP

from mcmt.clock import Timer
from mcmt.errors import MessageError
from mcmt.intake import limits
from mcmt.intake.door import Door, client_of, is_listed
from mcmt.intake.pace import content_deadline
from mcmt.intake.reply import reply
from mcmt.intake.watching import SessionWatch

log = logging.getLogger(__name__)

DRAINING: Final = reply(421, "4.3.2", "the server is being stopped; try again later")


def make_template(hostname: str, loop: asyncio.AbstractEventLoop) -> dict[str, Any]:
    """The attributes that aiosmtpd's constructor gives an object, for ``Door.template``."""
    return vars(SMTP(None, enable_SMTPUTF8=True, hostname=hostname, loop=loop))


class Connection(SMTP):
    """What there is to a session beside what is said in it."""

    most_input = limits.READ
    """Octets that wait here before the socket is not read any more."""

    def __init__(self, door: Door, loop: asyncio.AbstractEventLoop) -> None:
        # SMTP.__init__ searches the object for commands and mechanisms: 65 us, a third of a session with one message.
        # What it leaves behind is the same for every session, so one search serves them all; its stream is not used.
        vars(self).update(door.template)
        self._door = door
        self._input = bytearray()
        self._replies: list[bytes] = []
        self._relays = False
        """The client may submit without a password."""
        self._in_data = False
        """From DATA to the reply to its content."""
        self._between_chunks = False
        """A message comes in chunks, and its last one has not come."""
        self._busy = False
        """What has come has to wait: the session's task has the floor, or other sessions have it."""
        self._clogged = False
        """The client does not read what it is told, so it is not read either."""
        self._unread = False
        """The socket is not read, since too much of what came has to wait."""
        self._all_came = False
        """The client has closed its side."""
        self._awaited = False
        """The client has given all, and waits for us."""
        self._ending = False
        """The last reply has been given: nothing that the client still sends is read."""
        self._parted = False
        """Client and server agree that this is the end, and nothing more is on its way."""
        self._draining = False
        self._progress = False
        """A whole command, or octets of a message, have come since we last began to wait for the client."""
        self._waiting_since = door.clock.monotonic()
        self._content_since: float | None = None
        """Since when the content of a message is waited for, if it is."""
        self._content_octets = 0
        self._mute = False
        """What we would say would fall into the TLS handshake."""
        self._timer: Timer | None = None
        self._work: asyncio.Future[tuple[str, Coroutine[Any, Any, None]] | None] = loop.create_future()
        """What the task waits for while it has nothing to do: a command with what it has to do, or None for the end."""
        self._waiting: asyncio.Future[None] | None = None
        """What the task waits for while it has the floor: time, or octets."""
        self._wakes_on_input = False
        self._watched_by: SessionWatch | None = None
        """Whoever watches what is said here, if anybody does."""

    # -- the connection ------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet, or turn away what is one session too many."""
        door = self._door
        self._wire = self.transport = cast(asyncio.Transport, transport)
        peer = transport.get_extra_info("peername")
        # An IPv6 address may end in its zone, which means nothing to anybody else (RFC 4007 11.2).
        self._peer = peer[0].partition("%")[0] if peer else ""
        proxied = bool(door.listen.proxy_protocol) and is_listed(self._peer, door.listen.proxy_protocol)
        self._client = "" if proxied else client_of(self._peer)
        if refusal := door.sessions.admit(self, self._client):
            self._ending = True
            self._wire.write(reply(refusal.code, refusal.enhanced, refusal.text))
            self._wire.close()
            if self._wire.get_write_buffer_size():
                self._abort_later()
            return
        self._connection_id = f"{door.random_bits(64):016x}"
        # aiosmtpd's own commands look there.
        self.session = self._create_session()
        self._task = self.loop.create_task(self._handle_client())
        if proxied:
            self._await_header()
            return
        self._timer = door.clock.call_later(door.tick, self._watch)
        self._wire.write(self._welcome())

    def _await_header(self) -> None:
        """Have the client's proxy say whose connection it is, and go on from there."""
        raise NotImplementedError

    def _welcome(self) -> bytes:
        """The greeting of the client, now that it is known who it is."""
        self._relays = is_listed(self._peer, self._door.listen.relay_hosts)
        return f"220 {self.hostname} ESMTP mcmt\r\n".encode()

    def connection_lost(self, error: Exception | None) -> None:  # noqa: ARG002 - why it was lost changes nothing
        """Let the session's work come to its end. aiosmtpd would cancel it, in the middle of a commit perhaps.

        May be called twice: a transport that is lost in its TLS handshake does not always tell.
        """
        self.transport = None
        self._ending = True
        if self._watched_by is not None:
            self._watched_by.lost()
        if self._timer is not None:
            self._timer.cancel()
        self._wake()
        if not self._busy:
            self._leave()

    def _leave(self) -> None:
        """The connection is gone, and nothing more is done for it."""
        if not self._work.done():
            self._work.set_result(None)
        self._door.sessions.discard(self)

    def data_received(self, data: bytes) -> None:
        """Work off what came, or keep it for later."""
        if self._ending:
            # Thrown away, so that the client can read our last reply: closing would send a reset, and it with it.
            return
        self._input += data
        if self._in_data:
            self._progress = True
            self._content_octets += len(data)
        if not self._busy and not self._clogged:
            self._work_off()
        elif self._wakes_on_input:
            self._wake()
        elif len(self._input) > self.most_input and not self._mute:
            self._unread = True
            self._wire.pause_reading()

    def eof_received(self) -> bool:
        """A client that has said all may still listen (``nc -N``): it gets its replies. TLS has no half-closed end."""
        self._all_came = True
        if self._ending:
            return False
        if self._wakes_on_input:
            self._wake()
        if not self._busy and not self._clogged:
            self._work_off()
        return self._wire.get_extra_info("sslcontext") is None

    def pause_writing(self) -> None:
        """More waits for the client to read it than should."""
        self._clogged = True

    def resume_writing(self) -> None:
        """The client has read what it was told."""
        self._clogged = False
        if not self._busy:
            self._go_on()

    def _work_off(self) -> None:
        """Do what has come, as far as it has come, and answer it."""
        raise NotImplementedError

    def _go_on(self) -> None:
        """The floor is ours again."""
        self._busy = self._awaited = False
        if self.transport is None:
            self._leave()
        elif not self._clogged:
            if self._unread:
                self._unread = False
                self._wire.resume_reading()
            self._work_off()

    async def _upgrade(self, invitation: bytes, context: ssl.SSLContext) -> None:
        """Say *invitation* and go on over TLS. Raises ConnectionError: the handshake failed, and this is the end."""
        plain = self._wire
        # What came before may come from anybody on the way: taken for a command of the secure session, it would be
        # obeyed in the client's name. Nothing may be awaited between here and the handshake.
        self._input.clear()
        self._unread = False
        plain.write(invitation)
        self._waiting_since = self._door.clock.monotonic()
        self._mute = True
        try:
            secure = await asyncio.get_running_loop().start_tls(
                plain,
                self,
                context,
                server_side=True,
                ssl_handshake_timeout=limits.TLS_HANDSHAKE,
                ssl_shutdown_timeout=limits.LINGER,
            )
        except OSError as error:
            log.info("%s %s: no TLS: %s", self._connection_id, self._peer, error)
            self.connection_lost(error)
            raise ConnectionAbortedError("the TLS handshake failed") from error
        finally:
            self._mute = False
        if secure is None or secure.is_closing() or plain.is_closing():
            self.connection_lost(None)
            raise ConnectionAbortedError("closed in the TLS handshake")
        self._wire = self.transport = secure

    # -- the deadlines -------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """Look at the clock: so often that no deadline which was set since the last look can have passed."""
        deadline, reason = self._deadline()
        left = deadline - self._door.clock.monotonic()
        if left > 0:
            self._timer = self._door.clock.call_later(min(left, self._door.tick), self._watch)
            return
        # RFC 3463: X.4.2, the connection was no good.
        late = MessageError(421, "4.4.2", reason)
        if self._in_data or self._between_chunks:
            self._reject(late)
        self._hang_up(reply(late.code, late.enhanced, late.text))

    def _deadline(self) -> tuple[float, str]:
        """When the client's time is over, and what it is told then."""
        if self._awaited:
            return math.inf, ""
        listen = self._door.listen
        # RFC 5321 4.5.3.2.7: a server waits 5 minutes or more for the next command. It is counted to the command's end:
        # one that comes octet by octet would never be late.
        silent = self._waiting_since + listen.idle_timeout
        if self._content_since is not None:
            deadline, reason = content_deadline(listen, self._content_since, self._content_octets)
            if deadline < silent:
                return deadline, reason
        return silent, f"nothing came for {listen.idle_timeout:g} seconds (idle_timeout)"

    def _reject(self, reason: MessageError) -> None:
        """Have it written that the message which is being received is refused."""
        raise NotImplementedError

    async def _pause(self, seconds: float) -> None:
        """Let that time pass; less when the connection ends."""
        if self._ending:
            return
        self._waiting = asyncio.get_running_loop().create_future()
        timer = self._door.clock.call_later(seconds, self._wake)
        await self._waiting
        timer.cancel()

    async def _more(self) -> None:
        """Send what is held back, and wait for octets. Raises ConnectionError: there will be none."""
        self._your_turn()
        if not self._all_came and not self._ending:
            self._wakes_on_input = True
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
            self._wakes_on_input = False
        if self._all_came or self._ending:
            raise ConnectionResetError("the client closed")

    def _wake(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    # -- the end -------------------------------------------------------------------------------------------------

    def _hang_up(self, last: bytes) -> None:
        """End from outside, whatever the session waits for."""
        if not self._wire.is_closing():
            if not self._ending and not self._mute:
                self._wire.write(b"".join(self._replies) + last)
                self._replies.clear()
            self._wire.close()
        self._ending = True
        self._wake()
        # A client that does not read would keep the connection open for ever.
        self._abort_later()

    def _abort_later(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer = self._door.clock.call_later(limits.LINGER, self._wire.abort)

    def drain(self) -> None:
        """Finish the message that is being received, if one is, and end."""
        self._draining = True
        if not self._in_data and not self._between_chunks:
            self._hang_up(DRAINING)

    def abort(self) -> None:
        """End now. A message that is being received is not accepted, or its client is not told."""
        self._hang_up(DRAINING)

    def _part(self) -> None:
        """End when the last reply has been given."""
        self._ending = True
        self._your_turn()
        if self._wire.is_closing():
            return
        if self._parted or self._all_came:
            self._wire.close()
            return
        if self._wire.can_write_eof():
            self._wire.write_eof()
        self._abort_later()

    # -- replies -------------------------------------------------------------------------------------------------

    def _your_turn(self) -> None:
        """Send what is held back; the client's time counts from now, if it has used the last one."""
        if self._progress:
            self._progress = False
            self._waiting_since = self._door.clock.monotonic()
            if self._in_data and self._content_since is None:
                self._content_since, self._content_octets = self._waiting_since, 0
        if self._replies:
            if self._watched_by is not None:
                self._watched_by.sending(self._replies)
            burst = b"".join(self._replies)
            self._replies.clear()
            if not self._wire.is_closing():
                self._wire.write(burst)

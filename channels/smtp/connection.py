"""One connection to a smarthost: one session, one transaction at a time.

Rules:
* A transaction has the recipients of one message: same sender, same part. While it runs nothing is taken; all its
  outcomes are reported together, then ``wake`` says that there is room for the next one.
* Every delivery taken ends in exactly one outcome, also when the connection ends in the middle: how far the
  transaction had come decides (verdicts.py).
* The content is written as fast as the peer takes it; no more of it waits in the transport than that buffers.
* No future or task a message; one timer a connection, set anew only when a deadline comes earlier than it.

The opening (greeting, EHLO, STARTTLS) is opening.py's: until ``opened`` it uses ``reply`` and ``ask``, and nothing is
reported.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from typing import cast

from mcmt.channel.port import Report
from mcmt.clock import Clock, Timer
from mcmt.errors import ConnectError, MessageError, ProtocolError
from mcmt.message.model import Delivery
from mcmt.message.status import Disposition, Outcome

from .extensions import NONE, Extensions
from .options import Options
from .outgoing import Outgoing, compose, take_same_message
from .replies import Reply, ReplyReader
from .shown import show_commands, show_content, show_opened, show_reply, show_tls
from .transaction import Transaction
from .verdicts import Stage, Verdict

log = logging.getLogger(__name__)

CHUNK = 64 * 1024
"""Octets of content that are written at a time."""
CLOSE_TIMEOUT = 5.0
"""Seconds that the goodbye may take."""

_QUIT = b"QUIT\r\n"
_RSET = b"RSET\r\n"


class SmtpConnection(asyncio.Protocol):
    """See mcmt.channel.port.Connection."""

    def __init__(self, options: Options, report: Report, clock: Clock) -> None:
        self._options = options
        self._report = report
        self._clock = clock
        self._name = ""
        self._extensions = NONE
        self._limit = options.max_recipients_per_batch
        self._reader = ReplyReader()
        self._open = False
        self._leaving = ""
        self._writable = True
        self._transport: asyncio.Transport | None = None
        self._closed = asyncio.get_running_loop().create_future()
        # The opening: replies that came, and who waits for the next one.
        self._replies: list[Reply] = []
        self._waiting: asyncio.Future[None] | None = None
        self._broken: BaseException | None = None
        # The transaction.
        self._outgoing: Outgoing | None = None
        self._transaction: Transaction | None = None
        self._content = memoryview(b"")
        self._sent = 0
        self._began = 0.0
        self._resetting = False
        self._settling = False
        # The deadline, and the one timer that watches it.
        self._deadline = 0.0
        self._timer: Timer | None = None
        self._timer_at = 0.0
        self.remote_address = ""

    # -- the opening --------------------------------------------------------------------------------------------------

    async def reply(self) -> Reply:
        """The next reply. Raises ConnectError; its cause is what broke the connection, if anything did."""
        while not self._replies:
            if self._broken is not None:
                raise ConnectError(str(self._broken)) from self._broken
            self._waiting = asyncio.get_running_loop().create_future()
            await self._waiting
        return self._replies.pop(0)

    async def ask(self, command: str) -> Reply:
        """Send a command and return its reply. Raises ConnectError."""
        if not self.silent:
            raise ConnectError(f"the server spoke before it was asked ({command})")
        assert self._transport is not None  # noqa: S101 - a reply has come over it
        data = f"{command}\r\n".encode()
        if (trace := self._report.trace) is not None:
            show_commands(trace, data)
        self._transport.write(data)
        return await self.reply()

    @property
    def silent(self) -> bool:
        """Nothing came that was not asked for."""
        return not self._replies and self._reader.empty

    @property
    def transport(self) -> asyncio.Transport:
        """For STARTTLS."""
        assert self._transport is not None  # noqa: S101 - connected
        return self._transport

    def secured(self, transport: asyncio.Transport) -> None:
        """TLS stands between from now on."""
        self._transport = transport
        if (trace := self._report.trace) is not None:
            show_tls(trace, transport)

    def opened(self, name: str, extensions: Extensions) -> None:
        """The session is ready; *name* is ours in it. Raises ConnectError where it has ended already."""
        if self._broken is not None:
            raise ConnectError(str(self._broken)) from self._broken
        if self._replies:
            raise ConnectError(f"the server said {self._replies[0]}")
        self._open = True
        self._name, self._extensions = name, extensions

    def discard(self) -> None:
        """The session does not come to be."""
        if self._transport is not None:
            self._transport.abort()

    # -- the Connection -----------------------------------------------------------------------------------------------

    def send(self, deliveries: Sequence[Delivery]) -> int:
        """See mcmt.channel.port.Connection."""
        if self._busy or self._leaving or not deliveries:
            return 0
        taken = take_same_message(deliveries, self._limit)
        self._began = self._clock.monotonic()
        self._sent = 0
        self._outgoing = outgoing = self._compose(taken)
        if not outgoing.deliveries:
            # All were refused here. Not from within send: the engine counts them first.
            self._settling = True
            self._clock.call_later(0, self._refused_here)
            return len(taken)
        to, pipelining = [delivery.token for delivery in outgoing.deliveries], self._extensions.pipelining
        transaction = Transaction(outgoing.mail, to, pipelining=pipelining, parameters=outgoing.parameters)
        self._transaction = transaction
        self._await_until(self._options.command_timeout)
        self._write(transaction.begin())
        return len(taken)

    async def aclose(self, drain: float) -> None:
        """See mcmt.channel.port.Connection."""
        self._leave("closed by us")
        if not self._closed.done():
            await asyncio.wait([self._closed], timeout=drain)
        if not self._closed.done():
            self._end("closed by us", abort=True)
            await self._closed

    # -- asyncio.Protocol ---------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TCP is up: the server speaks first."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its bases
        peer = transport.get_extra_info("peername")
        self.remote_address = peer[0] if peer else ""
        if (trace := self._report.trace) is not None:
            show_opened(trace, self.remote_address)

    def data_received(self, data: bytes) -> None:
        """Take what came, reply by reply."""
        self._reader.feed(data)
        try:
            trace = self._report.trace
            while not self._closed.done() and (reply := self._reader.next()) is not None:
                if trace is not None:
                    show_reply(trace, reply)
                self._take(reply)
        except ProtocolError as error:
            self._break(error)

    def pause_writing(self) -> None:
        """The socket does not take more for now."""
        self._writable = False

    def resume_writing(self) -> None:
        """It takes more again."""
        self._writable = True
        if self._transaction is not None and self._transaction.wants_content:
            self._write_content()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end: whoever has no answer gets an outcome now."""
        self._leaving = self._leaving or (f"connection lost: {exc}" if exc else "the server closed the connection")
        reason = self._leaving
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if not self._closed.done():
            self._closed.set_result(None)
        if not self._open:
            self._break(exc or ConnectionError(reason))
            return
        if self._transaction is not None:
            self._transaction.lost(f"{reason} ({self._transaction.stage.name})")
        self._settle()
        self._report.closed(reason)

    # -- the course of a transaction ----------------------------------------------------------------------------------

    @property
    def _busy(self) -> bool:
        return self._transaction is not None or self._resetting or self._settling

    def _compose(self, taken: Sequence[Delivery]) -> Outgoing:
        """What is to be sent of a message, and to whom; what cannot be sent has its verdict already."""
        try:
            return compose(taken, self._name, self._extensions)
        except MessageError as error:
            disposition, code = Disposition.PERMANENT, str(error.code)
            text = f"{error.enhanced} [internal] {error.text}"
        except Exception as error:
            # The content is a stranger's: what it does to our code must not stop the domain.
            log.exception("%s cannot be made ready for sending", taken[0].id)
            disposition, code, text = Disposition.TRANSIENT, "451", f"4.3.0 [internal] {error!r}"
        return Outgoing.refused(taken, disposition, code, text)

    def _take(self, reply: Reply) -> None:
        if not self._open:
            self._replies.append(reply)
            self._notify()
            return
        transaction = self._transaction
        if transaction is not None:
            self._await_until(self._options.command_timeout)
            self._write(transaction.take(reply))
            if transaction.wants_content:
                self._write_content()
            elif transaction.done:
                self._finished(transaction)
        elif self._resetting:
            self._resetting = False
            if reply.positive:
                self._become_free()
            else:
                self._end(f"RSET was answered {reply}")
        else:
            # RFC 5321 3.8: a server that ends the session says 421 first.
            self._end(f"the server said {reply}")

    def _write_content(self) -> None:
        assert self._outgoing is not None  # noqa: S101 - a transaction is under way
        assert self._transaction is not None  # noqa: S101
        content = self._outgoing.content
        while self._writable and self._sent < len(content):
            chunk = content[self._sent : self._sent + CHUNK]
            self._sent += len(chunk)
            if (trace := self._report.trace) is not None:
                show_content(trace, chunk)
            self._put(chunk)
        if self._sent < len(content):
            self._await_until(self._options.data_timeout)
        else:
            self._transaction.content_sent()
            self._await_until(self._options.final_reply_timeout)

    def _finished(self, transaction: Transaction) -> None:
        if transaction.full_at:
            self._limit = min(self._limit, transaction.full_at)
        if transaction.leave:
            reason = next((verdict.text for verdict in transaction.verdicts if verdict is not None), "")
            self._leaving = self._leaving or f"left after: {reason}"
        self._resetting = transaction.reset and not self._leaving
        self._settle()
        if self._leaving:
            self._end(self._leaving, abort=transaction.stage is Stage.BODY)
        elif self._resetting:
            self._await_until(self._options.command_timeout)
            self._write(_RSET)
        else:
            self._become_free()

    def _refused_here(self) -> None:
        if self._closed.done():
            return
        self._settle()
        self._become_free()

    def _settle(self) -> None:
        """Report every delivery of the transaction."""
        outgoing, transaction = self._outgoing, self._transaction
        self._outgoing = self._transaction = None
        self._settling = False
        if outgoing is None:
            return
        verdicts: list[tuple[Delivery, Verdict | None]] = list(outgoing.refusals)
        if transaction is not None:
            verdicts += zip(outgoing.deliveries, transaction.verdicts, strict=True)
        duration = self._clock.monotonic() - self._began
        self._report.outcomes(
            [
                (
                    delivery,
                    Outcome(
                        disposition=verdict.disposition,
                        code=verdict.code,
                        text=verdict.text,
                        remote_address=self.remote_address,
                        size=self._sent,
                        duration=duration,
                        reports=self._extensions.dsn,
                    ),
                )
                for delivery, verdict in verdicts
                if verdict is not None
            ]
        )

    def _become_free(self) -> None:
        if not self._busy:
            self._deadline = 0.0
        if self._leaving:
            self._end(self._leaving)
        else:
            self._report.wake()

    # -- deadlines ----------------------------------------------------------------------------------------------------

    def _await_until(self, seconds: float) -> None:
        """Something has to come within *seconds*."""
        self._deadline = self._clock.monotonic() + seconds
        if self._timer is None or self._deadline < self._timer_at:
            if self._timer is not None:
                self._timer.cancel()
            self._set_timer(seconds)

    def _set_timer(self, seconds: float) -> None:
        self._timer_at = self._clock.monotonic() + seconds
        self._timer = self._clock.call_later(seconds, self._look)

    def _look(self) -> None:
        self._timer = None
        if not self._deadline or self._closed.done():
            return
        left = self._deadline - self._clock.monotonic()
        if left > 0.001:
            self._set_timer(left)
        else:
            self._end("no answer in time", abort=True)

    # -- the end ------------------------------------------------------------------------------------------------------

    def _leave(self, reason: str) -> None:
        """Take nothing more; end when the transaction has."""
        if not self._leaving:
            self._leaving = reason
            if not self._busy:
                self._end(reason)

    def _end(self, reason: str, *, abort: bool = False) -> None:
        """Say goodbye and close; connection_lost does the rest. *abort*: at once."""
        self._leaving = self._leaving or reason
        self._deadline = 0.0
        if self._transport is None or self._closed.done():
            return
        if abort:
            self._transport.abort()
        elif not self._transport.is_closing():
            self._transport.write(_QUIT)
            self._transport.close()
            # A peer that does not read would keep us for ever.
            self._clock.call_later(CLOSE_TIMEOUT, self._transport.abort)

    def _break(self, error: BaseException) -> None:
        """What the server sent cannot be understood, or nothing comes any more."""
        if self._open:
            self._end(f"protocol error: {error}", abort=True)
        else:
            self._broken = self._broken or error
            self.discard()
            self._notify()

    def _notify(self) -> None:
        if self._waiting is not None and not self._waiting.done():
            self._waiting.set_result(None)

    def _write(self, commands: bytes) -> None:
        if commands and (trace := self._report.trace) is not None:
            show_commands(trace, commands)
        self._put(commands)

    def _put(self, data: bytes | memoryview) -> None:
        if data and self._transport is not None and not self._closed.done():
            self._transport.write(data)

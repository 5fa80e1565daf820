"""One connection to APNs: many streams in flight, one write a burst, a deadline for every stream.

Rules:
* Streams are matched by their id; the apns-id that comes back is data.
* With a provider token, one stream until the first request was answered (Apple raises the limit only
  then); after that whatever SETTINGS say at the moment.
* Every request ends in exactly one outcome: its answer, or
    refused    not processed for sure: REFUSED_STREAM, past GOAWAY's last stream, or never written in full
    ambiguous  written, and no answer before the deadline, a reset or the end of the connection.
* No timer, future or object a request but its entry in the table of streams: one timer watches the oldest.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from itertools import takewhile
from typing import cast

from mcmt.channel.port import Report
from mcmt.clock import Clock, Timer
from mcmt.errors import ConnectError, McmtError, ProtocolError, RouteFaultError
from mcmt.message.model import Delivery, header
from mcmt.message.status import Disposition, Outcome
from mcmt.wire.http2 import ClientConnection, GoAway, Response, SettingsChanged, StreamReset

from .answers import RULES, After, Answer, reason_of, understand
from .outcomes import Pending, answered, unanswered, wait_asked_for
from .provider_token import ProviderToken
from .request import RequestBuilder
from .shown import Shown
from .transport import refused_certificate

PING_AFTER = 60.0
"""Seconds of silence after which the connection is asked for a sign of life."""
PING_TIMEOUT = 15.0
"""Seconds that the sign of life may take."""

CLOSE_TIMEOUT = 5.0
"""Seconds that closing TLS in good order may take."""

_REFUSED_STREAM = 0x7  # RFC 9113 section 7
_CANCEL = 0x8


class ApnsConnection(asyncio.Protocol):
    """See mcmt.channel.port.Connection."""

    def __init__(
        self,
        builder: RequestBuilder,
        provider_token: ProviderToken | None,
        response_timeout: float,
        report: Report,
        clock: Clock,
    ) -> None:
        self._builder = builder
        self._provider_token = provider_token
        self._token = ""
        self._older = 0  # the last stream that was opened with another token than that
        self._timeout = response_timeout
        self._report = report
        self._clock = clock
        self._http2 = ClientConnection()
        self._shown = Shown(report, self._http2)
        self._streams: dict[int, Pending] = {}  # in order of their ids, hence of their deadlines
        self._warm = provider_token is None
        self._writable = True
        self._leaving = ""
        self._last_received = clock.monotonic()
        self._pinged_at: float | None = None
        self._timer: Timer | None = None
        self._transport: asyncio.Transport | None = None
        self._ready = asyncio.get_running_loop().create_future()
        self._closed = asyncio.get_running_loop().create_future()
        self.remote_address = ""

    # -- the Connection -------------------------------------------------------------------------------------------

    async def greeted(self) -> None:
        """Return when SETTINGS have come. Raises ConnectError; RouteFaultError, also for a key that cannot sign."""
        try:
            if self._provider_token is not None:
                self._authorize(self._provider_token)
            await self._ready
        except BaseException:
            self._ready.cancel()
            if self._transport is not None:
                self._transport.abort()
            raise

    def send(self, deliveries: Sequence[Delivery]) -> int:
        """See mcmt.channel.port.Connection."""
        room = min(self._room(), len(deliveries))
        if room <= 0:
            return 0
        if self._provider_token is not None:
            self._authorize(self._provider_token)
        now = self._clock.monotonic()
        http2, streams, builder = self._http2, self._streams, self._builder
        was_idle = not streams
        taken = 0
        for delivery in deliveries[:room]:
            block, apns_id = builder.block(delivery)
            content = delivery.part.content
            streams[http2.request(block, content)] = (delivery, apns_id, now, len(block) + len(content))
            taken += 1
            if not http2.room:  # the send window may end before the streams do
                break
        self._flush()
        if was_idle:
            self._watch()  # a deadline is nearer now than the next sign of life
        return taken

    async def aclose(self, drain: float) -> None:
        """See mcmt.channel.port.Connection."""
        self._leave("closed by us")
        if self._streams:
            await asyncio.wait([self._closed], timeout=drain)
        if self._streams:
            self._end("closed by us", abort=True)
        # In good order it ends within CLOSE_TIMEOUT. Shielded: whoever stops waiting does not end the connection, and
        # what it still has to say comes with connection_lost.
        await asyncio.shield(self._closed)

    # -- asyncio.Protocol -----------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """TLS is up: send the preface and wait for SETTINGS."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is one in all but its bases
        peer = transport.get_extra_info("peername")
        self.remote_address = peer[0] if peer else ""
        tls = transport.get_extra_info("ssl_object")
        if self._report.trace is not None:
            self._shown.opened(self.remote_address, tls)
        protocol = tls.selected_alpn_protocol()
        if protocol not in ("h2", None):
            self._fail(ConnectError(f"the gateway speaks {protocol}, not h2"))
            return
        self._flush()
        self._watch()

    def data_received(self, data: bytes) -> None:
        """Take what came apart, report it in one batch, write once."""
        self._last_received = self._clock.monotonic()
        self._pinged_at = None
        if self._report.trace is not None:
            self._shown.received(data)
        try:
            events = self._http2.receive(data)
        except ProtocolError as error:
            self._end(f"protocol error: {error}")
            return
        outcomes: list[tuple[Delivery, Outcome]] = []
        for event in events:
            if type(event) is Response:
                self._answered(event, outcomes)
            else:
                handler = self._others.get(type(event))
                if handler is not None:
                    handler(self, event, outcomes)
        if outcomes:
            self._report.outcomes(outcomes)
        if self._http2.error is not None:
            self._end(f"protocol error: {self._http2.error}")
            return
        if not self._leaving:
            self._report.wake()
        self._flush()
        if self._leaving and not self._streams:
            self._end(self._leaving)

    def pause_writing(self) -> None:
        """The socket does not take more for now."""
        self._writable = False

    def resume_writing(self) -> None:
        """It takes more again."""
        self._writable = True
        self._flush()
        self._report.wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """The end: whatever was not answered gets its outcome now."""
        reason = self._leaving or (f"connection lost: {exc}" if exc else "closed by the gateway")
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._closed.set_result(None)
        if not self._ready.done():
            refusal = refused_certificate(exc)
            self._fail(
                RouteFaultError(f"the gateway refuses the client certificate: {refusal}")
                if refusal
                else ConnectError(f"{reason} before its SETTINGS came{self._suspicion()}")
            )
        if self._ready.cancelled() or self._ready.exception() is not None:
            return  # it never came to be: connect() says so
        if self._streams:
            self._give_up(list(self._streams), f"{reason} before the answer")
        self._report.closed(reason)

    def _suspicion(self) -> str:
        # In TLS 1.3 the client's handshake is over before its certificate is judged (RFC 8446 4.4.2), and not every
        # server says why it closes then.
        return "; it may refuse the client certificate" if self._provider_token is None else ""

    # -- what the gateway said ------------------------------------------------------------------------------------

    def _answered(self, response: Response, outcomes: list[tuple[Delivery, Outcome]]) -> None:
        pending = self._streams.pop(response.stream_id, None)
        if pending is None:
            return
        answer = understand(response.status, response.body)
        disposition, wait = answer.rule.disposition, answer.rule.wait
        if disposition is not Disposition.DELIVERED:
            disposition = self._refusal(answer, pending[0], older=response.stream_id <= self._older)
            wait = wait_asked_for(response.block, self._clock) or wait
        if not self._warm and disposition is not Disposition.REFUSED and response.status != 403:
            self._warm = True
        outcome = answered(pending, answer, disposition, wait, self.remote_address, self._last_received)
        outcomes.append((pending[0], outcome))

    def _refusal(self, answer: Answer, delivery: Delivery, *, older: bool) -> Disposition:
        """What to make of an error: the table's word, and what it asks of this connection.

        *older*: the request had another provider token than the one in use.
        """
        after = answer.rule.after
        if After.LEAVE in after:
            self._leave(f"{answer.status} {answer.reason}")
        if After.RENEW_TOKEN in after:
            return Disposition.REFUSED if older or self._replace_token() else Disposition.ROUTE_FAULT
        if After.TOPIC in after and header(delivery.part.headers, "apns-topic") is not None:
            return Disposition.PERMANENT
        return answer.rule.disposition

    def _reset(self, event: StreamReset, outcomes: list[tuple[Delivery, Outcome]]) -> None:
        pending = self._streams.pop(event.stream_id, None)
        if pending is None:
            return
        # RFC 9113 8.7: REFUSED_STREAM says that nothing was processed; any other code says nothing of the sort.
        refused = event.code == _REFUSED_STREAM
        text = event.reason or f"stream reset by the gateway, code {event.code}"
        outcomes.append(self._unanswered(pending, text, refused=refused))

    def _going_away(self, event: GoAway, outcomes: list[tuple[Delivery, Outcome]]) -> None:
        """RFC 9113 6.8: streams past the last one were not processed; the others may still be answered."""
        reason, _ = reason_of(event.debug)
        self._leave(f"GOAWAY code {event.code} {reason}".strip())
        # A reason that is the route's own fault (a revoked certificate) meets the next connection as well.
        rule = RULES.get(reason)
        fault = rule is not None and rule.disposition is Disposition.ROUTE_FAULT
        past = list(takewhile(lambda stream_id: stream_id > event.last_stream_id, reversed(self._streams)))
        for stream_id in reversed(past):
            pending = self._streams.pop(stream_id)
            if fault:
                outcomes.append((pending[0], Outcome(disposition=Disposition.ROUTE_FAULT, code="403", text=reason)))
            else:
                outcomes.append(self._unanswered(pending, self._leaving, refused=True))

    def _settings(self, event: SettingsChanged, outcomes: list[tuple[Delivery, Outcome]]) -> None:  # noqa: ARG002 - table
        if not self._ready.done():
            self._ready.set_result(None)

    _others: dict[type, Callable[..., None]] = {  # noqa: RUF012 - a constant table of this class's own methods
        StreamReset: _reset,
        GoAway: _going_away,
        SettingsChanged: _settings,
    }

    # -- deadlines ------------------------------------------------------------------------------------------------

    def _watch(self) -> None:
        """One look at the clock serves every stream: the oldest has the earliest deadline."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._closed.done() or self._transport is None:
            return
        now = self._clock.monotonic()
        self._drop_overdue(now)
        if self._pinged_at is not None and now - self._pinged_at >= PING_TIMEOUT:
            self._end("no sign of life")
            return
        if self._pinged_at is None and now - self._last_received >= PING_AFTER:
            self._pinged_at = now
            self._http2.ping(b"mcmtmcmt")
            self._flush()
        next_look = PING_TIMEOUT if self._pinged_at is not None else PING_AFTER - (now - self._last_received)
        if self._streams:
            oldest = next(iter(self._streams.values()))
            next_look = min(next_look, oldest[2] + self._timeout - now)
        self._timer = self._clock.call_later(max(0.001, next_look), self._watch)

    def _drop_overdue(self, now: float) -> None:
        overdue = []
        for stream_id, (_, _, sent_at, _) in self._streams.items():
            if now - sent_at < self._timeout:
                break
            overdue.append(stream_id)
        if not overdue:
            return
        silent = self._last_received <= self._streams[overdue[-1]][2]
        if silent:
            # Nothing at all came since the last of them was sent: the connection is to blame.
            self._leave("no answer to anything")
        self._give_up(overdue, f"no answer within {self._timeout * 1000:.0f} ms")
        if self._leaving and not self._streams:
            self._end(self._leaving)
        elif not self._leaving:
            self._report.wake()

    def _give_up(self, stream_ids: Sequence[int], text: str) -> None:
        """These will not be answered any more: free their streams and report them."""
        outcomes = []
        for stream_id in stream_ids:
            unsent = self._http2.unsent(stream_id)
            pending = self._streams.pop(stream_id)
            self._http2.reset(stream_id, _CANCEL)
            outcomes.append(self._unanswered(pending, text, refused=unsent))
        self._flush()
        self._report.outcomes(outcomes)

    def _unanswered(self, pending: Pending, text: str, *, refused: bool) -> tuple[Delivery, Outcome]:
        now = self._clock.monotonic()
        return pending[0], unanswered(pending, text, self.remote_address, now, refused=refused)

    # -- state ----------------------------------------------------------------------------------------------------

    def _room(self) -> int:
        if self._leaving or not self._writable or self._closed.done():
            return 0
        # Cold or warm, a gateway may begin by allowing no stream at all.
        room = self._http2.room
        return room if self._warm else min(room, 1 - len(self._streams))

    def _authorize(self, provider_token: ProviderToken) -> None:
        try:
            token = provider_token.current()
        except (RouteFaultError, ConnectError) as error:
            # The token in use is good until Apple says otherwise.
            if not self._token:
                raise
            if isinstance(error, RouteFaultError):
                self._leave(str(error))
            return
        if token != self._token:
            self._token, self._older = token, next(reversed(self._streams), 0)
            self._builder.authorize(token)

    def _flush(self) -> None:
        # While the socket takes nothing the codec keeps count of what waits, and so bounds it.
        if self._writable and self._transport is not None and not self._closed.done():
            data = self._http2.data_to_send()
            if data:
                if self._report.trace is not None:
                    self._shown.sent(data)
                self._transport.write(data)

    def _replace_token(self) -> bool:
        try:
            return self._provider_token is not None and self._provider_token.replace(self._token)
        except ConnectError:
            return True  # the next connection cannot be had before this is over, and says why

    def _leave(self, reason: str) -> None:
        """Take nothing more; end when the last stream is answered."""
        if not self._leaving:
            self._leaving = reason
            self._report.leaving()
            if not self._streams:
                self._clock.call_later(0, lambda: self._end(reason))

    def _end(self, reason: str, *, abort: bool = False) -> None:
        """Say goodbye and close; connection_lost does the rest. *abort*: without waiting for the peer to read it."""
        if self._transport is None or self._closed.done():
            return
        if not self._leaving:
            self._leaving = reason
            self._report.leaving()
        if abort:
            self._transport.abort()
        elif not self._transport.is_closing():
            self._http2.close()
            self._flush()
            self._transport.close()
            # A peer that does not read would keep us for ever.
            self._clock.call_later(CLOSE_TIMEOUT, self._transport.abort)

    def _fail(self, error: McmtError) -> None:
        """The connection does not come to be: tell the one who waits for it."""
        if not self._ready.done():
            self._ready.set_exception(error)
        if self._transport is not None:
            self._transport.abort()

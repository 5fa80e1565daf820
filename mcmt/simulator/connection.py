"""One client's connection: requests in, answers and faults out.

What a request deserves is decided by judge.py and rules.py, how frames look by wire.py; this file carries
it out. It keeps within bounds: the streams that the limit allows, 5,121 octets of each body, and reading
stops while the client does not read. A stream that was answered in a burst counts as open until the
burst's answers are written, because its client cannot have seen them.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from functools import partial
from typing import Any, cast

import msgspec
from cryptography import x509
from h2.errors import ErrorCodes
from h2.events import (
    ConnectionTerminated,
    DataReceived,
    Event,
    RemoteSettingsChanged,
    RequestReceived,
    SettingsAcknowledged,
    StreamEnded,
    StreamReset,
    WindowUpdated,
)
from h2.exceptions import ProtocolError as H2ProtocolError

from mcmt.clock import Clock
from mcmt.simulator.action import ACCEPT, Action, Goaway, Settings
from mcmt.simulator.answer import answer_body, answer_headers, last_stream
from mcmt.simulator.judge import Identity, Judge
from mcmt.simulator.reasons import STATUS
from mcmt.simulator.received import Ledger, Received
from mcmt.simulator.rules import Rulebook
from mcmt.simulator.stream import MAX_BODY, Stream
from mcmt.simulator.topic_extension import certificate_topics
from mcmt.simulator.wire import Transport, Wire

LINGER = 0.5
"""Seconds that a client has to close after a GOAWAY: closing first would destroy what it has yet to read."""
_VIOLATED = b"Maximum active streams violated for this endpoint"


class Shared(msgspec.Struct):
    """What all connections of one simulator have in common."""

    judge: Judge
    rules: Rulebook
    ledger: Ledger
    clock: Clock
    new_id: Callable[[], str]
    max_streams: int
    max_connections: int
    goaway_on_violation: bool
    connections: set[Connection]


class Connection(asyncio.Protocol):
    """A client's connection, from the TLS handshake to its end."""

    def __init__(self, shared: Shared) -> None:
        self._shared = shared
        self._ledger = shared.ledger
        self._loop = asyncio.get_running_loop()
        self._transport: Transport
        self._wire: Wire
        self._number = 0
        self._identity = Identity()
        self._max_streams = shared.max_streams
        self._warm = False
        self._streams: dict[int, Stream] = {}
        self._released = 0
        self._answered = 0
        self._accepted: list[tuple[str, int]] = []
        self._flush_due = False
        self._goaway: Goaway | None = None
        self._held: dict[int, Action] = {}
        self._last: int | None = None
        self._deaf = False
        self.closed: asyncio.Future[None] = self._loop.create_future()

    # asyncio's side

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """The TLS handshake is done."""
        self._transport = cast(Transport, transport)
        self._shared.connections.add(self)
        self._number = self._ledger.opened()
        action = self._shared.rules.for_connection(self._number)
        if len(self._shared.connections) > self._shared.max_connections:
            self._ledger.violation(f"connection {self._number}: more than {self._shared.max_connections} connections")
            self._drop()
        elif action is not None and action.close:
            self._drop()
        else:
            self._begin(action)

    def _begin(self, action: Action | None) -> None:
        tls = self._transport.get_extra_info("ssl_object")
        if certificate := tls.getpeercert(True):
            self._identity.certificate_topics = certificate_topics(x509.load_der_x509_certificate(certificate))
            self._warm = True
        # Apple: one stream until a request with a good provider token was answered.
        first = self._max_streams if self._warm else min(1, self._max_streams)
        self._wire = Wire(self._transport, first, self._shared.clock, self._flush_soon)
        if action is not None:
            settings = action.settings
            if settings is not None and not self._warm and settings.max_concurrent_streams is not None:
                self._max_streams = settings.max_concurrent_streams
                settings = msgspec.structs.replace(settings, max_concurrent_streams=None)
            if settings is not None and settings != Settings(restore_after=settings.restore_after):
                self._wire.apply(settings)
            self._goaway = action.goaway
        self._flush()

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's
        """The connection is gone, and its requests with it."""
        for stream_id in list(self._streams):
            self._remove(stream_id)
        if hasattr(self, "_wire"):
            self._wire.lost()
        self._shared.connections.discard(self)
        self._ledger.connections_open -= 1
        if not self.closed.done():
            self.closed.set_result(None)

    def pause_writing(self) -> None:
        """The client does not read: nothing is read from it either."""
        self._transport.pause_reading()

    def resume_writing(self) -> None:
        """The client reads again."""
        if not self._transport.is_closing():
            self._transport.resume_reading()

    def data_received(self, data: bytes) -> None:
        """A burst of frames."""
        if self._deaf:
            return
        try:
            events = self._wire.receive(data)
        except H2ProtocolError as error:
            self._ledger.violation(f"connection {self._number}: {type(error).__name__}: {error}")
            self._end()
            return
        for event in events:
            handler = _HANDLERS.get(type(event))
            if handler is not None:
                handler(self, event)
        self._flush()

    # h2's events

    def _on_request(self, event: RequestReceived) -> None:
        stream_id = event.stream_id
        if self._last is not None and stream_id > self._last:
            return
        open_streams = len(self._streams) + self._released
        limit = self._wire.limit
        if limit.allows(open_streams):
            self._streams[stream_id] = Stream(event.headers, self._shared.new_id())
            self._ledger.streams_peak = max(self._ledger.streams_peak, open_streams + 1)
            return
        if limit.known:
            self._ledger.violation(
                f"connection {self._number}, stream {stream_id}: over MAX_CONCURRENT_STREAMS {limit.in_force}, "
                f"{open_streams} open"
            )
            if self._shared.goaway_on_violation and self._goaway is None and self._last is None:
                self._goaway = Goaway("all", ErrorCodes.REFUSED_STREAM, _VIOLATED)
        self._wire.reset(stream_id, ErrorCodes.REFUSED_STREAM)

    def _on_data(self, event: DataReceived) -> None:
        stream_id, size = event.stream_id, event.flow_controlled_length
        self._wire.consumed(size)
        stream = self._streams.get(stream_id)
        if stream is None or stream.complete:
            return
        stream.feed(event.data)
        if event.stream_ended is not None:
            return
        if stream.size <= MAX_BODY:
            self._wire.open_stream_window(stream_id, size, stream.size)
            return
        self._decide(stream_id, stream)
        self._wire.reset(stream_id, ErrorCodes.NO_ERROR)

    def _on_end(self, event: StreamEnded) -> None:
        stream_id = event.stream_id
        stream = self._streams.get(stream_id)
        if stream is not None and not stream.complete:
            self._decide(stream_id, stream)

    def _on_reset(self, event: StreamReset) -> None:
        self._remove(event.stream_id)

    def _on_acknowledged(self, event: SettingsAcknowledged) -> None:  # noqa: ARG002 - of a kind
        self._wire.limit.acknowledged()

    def _on_room(self, event: WindowUpdated | RemoteSettingsChanged) -> None:  # noqa: ARG002 - of a kind
        for stream_id in self._wire.unblock():
            self._release(stream_id)

    def _on_goaway(self, event: ConnectionTerminated) -> None:  # noqa: ARG002 - of a kind
        # RFC 9113 6.8: the client opens no more streams; those that are open get their answers.
        if self._last is None:
            self._last = self._wire.highest_stream

    # what is done with a request

    def _decide(self, stream_id: int, stream: Stream) -> None:
        request = stream.close()
        self._ledger.arrive()
        reason = self._shared.judge.judge(request, self._identity)
        if reason != "BadMessageId":
            stream.apns_id = request.headers.get("apns-id", stream.apns_id)
        if reason:
            action = Action(status=STATUS[reason], reason=reason)
        else:
            topic = request.headers.get("apns-topic", "")
            action = self._shared.rules.for_request(request.token, topic, self._number) or ACCEPT
        if action.settings is not None:
            self._wire.apply(action.settings)
        if action.delay:
            stream.timer = self._shared.clock.call_later(action.delay, partial(self._late, stream_id, action))
        else:
            self._act(stream_id, action)

    def _late(self, stream_id: int, action: Action) -> None:
        if stream_id in self._streams and not self._deaf:
            self._act(stream_id, action)
            self._flush_soon()

    def _act(self, stream_id: int, action: Action) -> None:
        if action.goaway is not None and self._goaway is None and self._last is None:
            self._goaway = action.goaway
        if self._goaway is not None:
            # Who is beyond the last stream is known at the end of the burst.
            self._held[stream_id] = action
        elif action.close:
            self._record(stream_id, 0, "connection dropped")
            self._drop()
        elif action.silent:
            self._record(stream_id, 0, "no answer")
        elif action.reset is not None:
            self._record(stream_id, 0, f"reset {action.reset}")
            self._release(stream_id)
            self._wire.reset(stream_id, action.reset)
        else:
            self._record(stream_id, action.status, action.reason)
            self._answer(stream_id, action)

    def _answer(self, stream_id: int, action: Action) -> None:
        stream = self._streams[stream_id]
        body = answer_body(action, self._shared.clock.time())
        headers = answer_headers(action, stream.apns_id, self._shared.new_id(), body)
        at_once = not body and not action.slow
        if not self._wire.headers(stream_id, headers, at_once):
            return  # the client reset it in the same burst; that event is yet to come
        if action.status == 200 and "apns-id" in stream.headers:
            self._accepted.append((stream.apns_id, stream_id))
        if action.slow:
            stream.timer = self._shared.clock.call_later(action.slow, partial(self._late_end, stream_id, body))
        elif at_once or self._wire.body(stream_id, body):
            self._release(stream_id)
        if action.reset_after_answer is not None:
            self._wire.reset_ended(stream_id, action.reset_after_answer)
        if not self._warm and self._identity.token:
            self._warm = True
            self._wire.apply(Settings(max_concurrent_streams=self._max_streams))

    def _late_end(self, stream_id: int, body: bytes) -> None:
        if stream_id in self._streams and not self._deaf:
            if self._wire.body(stream_id, body):
                self._release(stream_id)
            self._flush_soon()

    def _release(self, stream_id: int) -> None:
        self._remove(stream_id)
        self._released += 1
        self._answered = max(self._answered, stream_id)

    def _remove(self, stream_id: int) -> None:
        stream = self._streams.pop(stream_id, None)
        if stream is None:
            return
        self._wire.forget(stream_id)
        self._held.pop(stream_id, None)
        if stream.timer is not None:
            stream.timer.cancel()

    def _record(self, stream_id: int, status: int, reason: str) -> None:
        stream = self._streams[stream_id]
        request = stream.close()
        self._ledger.add(
            Received(
                request.token,
                stream.apns_id,
                stream.headers,
                request.payload,
                status,
                reason,
                self._number,
                stream_id,
                self._shared.clock.time(),
            )
        )

    # what is done with the connection

    def _flush_soon(self) -> None:
        if not self._flush_due:
            self._flush_due = True
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        """End of a burst: everything that it caused, in one write."""
        self._flush_due = False
        if self._deaf or self._transport.is_closing():
            return
        if self._goaway is not None:
            self._go_away(self._goaway)
        self._write()
        if self._last is not None and not self._streams:
            self._end()

    def _write(self) -> None:
        self._wire.flush()
        self._released = 0
        for apns_id, stream_id in self._accepted:
            self._ledger.accepted(apns_id, self._number, stream_id)
        self._accepted.clear()

    def _go_away(self, goaway: Goaway) -> None:
        unanswered = sorted(self._streams)
        held, self._held = self._held, {}
        self._goaway = None
        self._last = last_stream(goaway, unanswered, self._wire.highest_stream, self._answered)
        self._wire.goaway(self._last, goaway.code, goaway.debug)
        for stream_id in unanswered:
            if stream_id > self._last:
                if self._streams[stream_id].complete:
                    self._record(stream_id, 0, "goaway")
                self._remove(stream_id)
            elif stream_id in held:
                self._act(stream_id, msgspec.structs.replace(held[stream_id], goaway=None))

    def _end(self) -> None:
        """Close, once the client had time to read what was written."""
        self._write()
        self._deaf = True
        for stream_id in list(self._streams):
            self._remove(stream_id)
        self._wire.close_after(LINGER)

    def _drop(self) -> None:
        self._deaf = True
        self._transport.abort()

    def shut(self) -> None:
        """The simulator ends: say so and close."""
        if not self._deaf and not self._transport.is_closing():
            self._wire.goaway(self._wire.highest_stream, ErrorCodes.NO_ERROR, b"")
            self._write()
        self._deaf = True
        self._transport.close()

    def abort(self) -> None:
        """Close without waiting for anything."""
        self._transport.abort()


_HANDLERS: dict[type[Event], Callable[[Connection, Any], None]] = {
    RequestReceived: Connection._on_request,
    DataReceived: Connection._on_data,
    StreamEnded: Connection._on_end,
    StreamReset: Connection._on_reset,
    SettingsAcknowledged: Connection._on_acknowledged,
    WindowUpdated: Connection._on_room,
    RemoteSettingsChanged: Connection._on_room,
    ConnectionTerminated: Connection._on_goaway,
}

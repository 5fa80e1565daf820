"""The requests of one connection: from h2's events to an answer, a fault, or nothing.

What a request deserves is decided by judge.py and rules.py, how frames look by wire.py. It keeps within
bounds: as many streams as the limit allows, 5,121 octets of each body. A stream that was answered in a
burst counts as open until the burst's answers are written, because its client cannot have seen them.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
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

from mcmt.clock import Clock
from mcmt.simulator.action import ACCEPT, Action, Goaway, Settings
from mcmt.simulator.answer import answer_body, answer_headers, last_stream
from mcmt.simulator.judge import Identity, Judge
from mcmt.simulator.reasons import STATUS
from mcmt.simulator.received import Ledger, Received
from mcmt.simulator.rules import Rulebook
from mcmt.simulator.stream import MAX_BODY, Stream
from mcmt.simulator.wire import Wire

_VIOLATED = b"Maximum active streams violated for this endpoint"


class Gateway(msgspec.Struct):
    """What all connections of one simulator have in common."""

    judge: Judge
    rules: Rulebook
    ledger: Ledger
    clock: Clock
    new_id: Callable[[], str]
    max_streams: int
    max_connections: int
    goaway_on_violation: bool


class Exchange:
    """The open streams of one connection and what becomes of them."""

    def __init__(
        self,
        gateway: Gateway,
        number: int,
        identity: Identity,
        wire: Wire,
        max_streams: int,
        flush_soon: Callable[[], None],
        drop: Callable[[], None],
    ) -> None:
        self._gateway = gateway
        self._ledger = gateway.ledger
        self._number = number
        self._identity = identity
        self._wire = wire
        self._max_streams = max_streams
        self._flush_soon = flush_soon
        self._drop = drop
        # A certificate was verified before the first request; a token is not until its answer.
        self._warm = identity.certificate_topics is not None
        self._streams: dict[int, Stream] = {}
        self._released = 0
        self._answered = 0
        self._accepted: list[tuple[str, int]] = []
        self._held: dict[int, Action] = {}
        self._last: int | None = None
        self.goaway: Goaway | None = None
        """To be sent at the end of the burst."""

    @property
    def done(self) -> bool:
        """Whether a GOAWAY was sent or came, and all that it lets live has been answered."""
        return self._last is not None and not self._streams

    def handle(self, event: Event) -> None:
        """Take one of h2's events."""
        handler = _HANDLERS.get(type(event))
        if handler is not None:
            handler(self, event)

    def settle(self) -> None:
        """End of a burst: write everything that it caused, at once."""
        if self.goaway is not None:
            self._go_away(self.goaway)
        self._wire.flush()
        self._released = 0
        for apns_id, stream_id in self._accepted:
            self._ledger.accepted(apns_id, self._number, stream_id)
        self._accepted.clear()

    def abandon(self) -> None:
        """Let go of every stream: nothing can be answered any more."""
        for stream_id in list(self._streams):
            self._remove(stream_id)

    def _on_request(self, event: RequestReceived) -> None:
        stream_id = event.stream_id
        if self._last is not None and stream_id > self._last:
            return
        open_streams = len(self._streams) + self._released
        limit = self._wire.limit
        if limit.allows(open_streams):
            self._streams[stream_id] = Stream(event.headers, self._gateway.new_id())
            self._ledger.streams_peak = max(self._ledger.streams_peak, open_streams + 1)
            return
        if limit.known:
            self._ledger.violation(
                f"connection {self._number}, stream {stream_id}: over MAX_CONCURRENT_STREAMS {limit.in_force}, "
                f"{open_streams} open"
            )
            if self._gateway.goaway_on_violation and self.goaway is None and self._last is None:
                self.goaway = Goaway("all", ErrorCodes.REFUSED_STREAM, _VIOLATED)
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
        stream = self._streams.get(event.stream_id)
        if stream is not None and not stream.complete:
            self._decide(event.stream_id, stream)

    def _on_reset(self, event: StreamReset) -> None:
        self._remove(event.stream_id)

    def _on_acknowledged(self, event: SettingsAcknowledged) -> None:  # noqa: ARG002 - one of _HANDLERS
        self._wire.limit.acknowledged()

    def _on_room(self, event: WindowUpdated | RemoteSettingsChanged) -> None:  # noqa: ARG002 - one of _HANDLERS
        for stream_id in self._wire.unblock():
            self._release(stream_id)

    def _on_goaway(self, event: ConnectionTerminated) -> None:  # noqa: ARG002 - one of _HANDLERS
        # RFC 9113 6.8: the client opens no more streams; those that are open get their answers.
        if self._last is None:
            self._last = self._wire.highest_stream

    def _decide(self, stream_id: int, stream: Stream) -> None:
        request = stream.close()
        self._ledger.arrive()
        reason = self._gateway.judge.judge(request, self._identity)
        if reason != "BadMessageId":
            stream.apns_id = request.headers.get("apns-id", stream.apns_id)
        if reason:
            action = Action(status=STATUS[reason], reason=reason)
        else:
            topic = request.headers.get("apns-topic", "")
            action = self._gateway.rules.for_request(request.token, topic, self._number) or ACCEPT
        if action.settings is not None:
            self._wire.apply(action.settings)
        if action.delay:
            stream.timer = self._gateway.clock.call_later(action.delay, partial(self._late, stream_id, action))
        else:
            self._act(stream_id, action)

    def _late(self, stream_id: int, action: Action) -> None:
        self._act(stream_id, action)
        self._flush_soon()

    def _act(self, stream_id: int, action: Action) -> None:
        if action.goaway is not None and self.goaway is None and self._last is None:
            self.goaway = action.goaway
        if self.goaway is not None:
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
        body = answer_body(action, self._gateway.clock.time())
        headers = answer_headers(action, stream.apns_id, self._gateway.new_id(), body)
        at_once = not body and not action.slow
        if not self._wire.headers(stream_id, headers, at_once):
            return  # the client reset it in the same burst; that event is yet to come
        if action.status == 200 and "apns-id" in stream.headers:
            self._accepted.append((stream.apns_id, stream_id))
        if action.slow:
            stream.timer = self._gateway.clock.call_later(action.slow, partial(self._late_end, stream_id, body))
        elif at_once or self._wire.body(stream_id, body):
            self._release(stream_id)
        if action.reset_after_answer is not None:
            self._wire.reset_ended(stream_id, action.reset_after_answer)
        if not self._warm and self._identity.token:
            self._warm = True
            self._wire.apply(Settings(max_concurrent_streams=self._max_streams))

    def _late_end(self, stream_id: int, body: bytes) -> None:
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
                self._gateway.clock.time(),
            )
        )

    def _go_away(self, goaway: Goaway) -> None:
        unanswered = sorted(self._streams)
        held, self._held = self._held, {}
        self.goaway = None
        self._last = last_stream(goaway, unanswered, self._wire.highest_stream, self._answered)
        self._wire.goaway(self._last, goaway.code, goaway.debug)
        for stream_id in unanswered:
            if stream_id not in self._streams:
                continue  # one of those held dropped the connection
            if stream_id > self._last:
                if self._streams[stream_id].complete:
                    self._record(stream_id, 0, "goaway")
                self._remove(stream_id)
            elif stream_id in held:
                self._act(stream_id, msgspec.structs.replace(held[stream_id], goaway=None))


_HANDLERS: dict[type[Event], Callable[[Exchange, Any], None]] = {
    RequestReceived: Exchange._on_request,
    DataReceived: Exchange._on_data,
    StreamEnded: Exchange._on_end,
    StreamReset: Exchange._on_reset,
    SettingsAcknowledged: Exchange._on_acknowledged,
    WindowUpdated: Exchange._on_room,
    RemoteSettingsChanged: Exchange._on_room,
    ConnectionTerminated: Exchange._on_goaway,
}

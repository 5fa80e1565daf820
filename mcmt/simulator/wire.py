"""The simulator's end of one HTTP/2 connection: h2, its settings, windows and limit, and one write a burst.

It knows frames and nothing of pushes. h2 is changed in four places, each where a gateway does what h2
does not: see ServerH2.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any, Protocol

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.events import ConnectionTerminated, Event
from h2.exceptions import ProtocolError as H2ProtocolError
from h2.settings import SettingCodes
from h2.settings import Settings as H2Settings
from hpack import Encoder, HeaderTuple
from hyperframe.frame import Frame, GoAwayFrame, RstStreamFrame

from mcmt.clock import Clock, Timer
from mcmt.simulator.action import Settings
from mcmt.simulator.streams_limit import StreamsLimit

CONNECTION_WINDOW = 65_535
"""Octets; RFC 9113 6.9.2 starts every connection so, and Apple leaves it there."""
MAX_HEADER_LIST = 8_000
"""Octets; Apple's value, as seen on the wire."""
_PRUNE_EVERY = 256


class Transport(Protocol):
    """What is used of asyncio's TLS transports."""

    def write(self, data: bytes) -> None:
        """Queue octets."""

    def close(self) -> None:
        """End behind what was queued."""

    def abort(self) -> None:
        """End now."""

    def is_closing(self) -> bool:
        """Whether the end has begun."""

    def pause_reading(self) -> None:
        """Take no more octets from the client."""

    def resume_reading(self) -> None:
        """Take octets again."""

    def get_extra_info(self, name: str) -> Any:
        """The TLS object and the like."""


class _PlainEncoder(Encoder):
    """hpack without Huffman coding: ids do not shrink by it, and it is most of an answer's cost."""

    def encode(self, headers: Iterable[Any] | dict[Any, Any], huffman: bool = False) -> bytes:
        return super().encode(headers, huffman)


class ServerH2(H2Connection):
    """h2 as a server, with these changes.

    It finds no limit of streams passed: h2 would end the connection, a gateway refuses the stream.
    It does not walk over every stream for each new one, which it does to count them.
    A client's GOAWAY is not the end: RFC 9113 6.8 lets the streams before it go on.
    What it sends is not validated: the simulator made it.
    """

    def __init__(self, max_concurrent_streams: int) -> None:
        super().__init__(
            H2Configuration(
                client_side=False,
                header_encoding=None,  # octets: a header value need not be UTF-8
                validate_outbound_headers=False,
                normalize_outbound_headers=False,
            )
        )
        self.local_settings = H2Settings(
            client=False,
            initial_values={
                SettingCodes.MAX_CONCURRENT_STREAMS: max_concurrent_streams,
                SettingCodes.MAX_HEADER_LIST_SIZE: MAX_HEADER_LIST,
            },
        )
        self.decoder.max_header_list_size = MAX_HEADER_LIST
        self.encoder = _PlainEncoder()

    @property
    def open_inbound_streams(self) -> int:
        """Less than none, so that h2 finds no limit passed, not even one of zero."""
        return -1

    def prune(self) -> None:
        """Forget closed streams; h2 does it only where it counts them."""
        self._open_streams(1)

    def _receive_goaway_frame(self, frame: GoAwayFrame) -> tuple[list[Frame], list[Event]]:
        event = ConnectionTerminated()
        event.last_stream_id = frame.last_stream_id
        return [], [event]


class Wire:
    """One connection's frames, in and out."""

    def __init__(self, transport: Transport, max_streams: int, clock: Clock, flush_soon: Callable[[], None]) -> None:
        self._transport = transport
        self._clock = clock
        self._flush_soon = flush_soon
        self._h2 = ServerH2(max_streams)
        self._h2.initiate_connection()
        self.limit = StreamsLimit(max_streams)
        self.stream_window = self._h2.local_settings.initial_window_size
        self._out = bytearray()
        self._consumed = 0
        self._closed = 0
        self._blocked: dict[int, bytes] = {}
        self._timers: dict[object, Timer] = {}

    @property
    def highest_stream(self) -> int:
        """The highest stream id that the client has used."""
        return self._h2.highest_inbound_stream_id

    def receive(self, data: bytes) -> list[Event]:
        """Events in *data*. Raises h2's ProtocolError; the GOAWAY it made is ready to be written."""
        return self._h2.receive_data(data)

    def consumed(self, size: int) -> None:
        """Note *size* octets of DATA as read, for the connection's window."""
        self._consumed += size

    def open_stream_window(self, stream_id: int, size: int, received: int) -> None:
        """Give back *size* octets of a stream's window when more than half of it is gone.

        Not while the window is held at zero: then nothing is given.
        """
        if self.stream_window and received > self.stream_window // 2:
            with contextlib.suppress(H2ProtocolError):
                self._h2.increment_flow_control_window(size, stream_id)

    def headers(self, stream_id: int, headers: Sequence[HeaderTuple], end: bool) -> bool:
        """Send an answer's header block; False when the client has reset the stream meanwhile."""
        try:
            self._h2.send_headers(stream_id, headers, end_stream=end)
        except H2ProtocolError:
            return False
        self._closed += end
        return True

    def body(self, stream_id: int, body: bytes) -> bool:
        """Send an answer's body and end the stream; False while the client's windows hold part of it back."""
        try:
            room = min(self._h2.local_flow_control_window(stream_id), self._h2.max_outbound_frame_size)
            if room < len(body):
                if room > 0:
                    self._h2.send_data(stream_id, body[:room])
                self._blocked[stream_id] = body[max(room, 0) :]
                return False
            self._h2.send_data(stream_id, body, end_stream=True)
        except H2ProtocolError:
            return False
        self._closed += 1
        return True

    def unblock(self) -> list[int]:
        """Send what the client's windows held back; the streams that ended by it."""
        if not self._blocked:
            return []
        blocked, self._blocked = self._blocked, {}
        return [stream_id for stream_id, body in blocked.items() if self.body(stream_id, body)]

    def forget(self, stream_id: int) -> None:
        """The client reset the stream: nothing is held back for it any more."""
        self._blocked.pop(stream_id, None)

    def reset(self, stream_id: int, code: int) -> None:
        """Send RST_STREAM for an open stream."""
        with contextlib.suppress(H2ProtocolError):  # reset by the client in the same burst
            self._h2.reset_stream(stream_id, code)

    def reset_ended(self, stream_id: int, code: int) -> None:
        """Send RST_STREAM behind an answer, on a stream that h2 has closed already."""
        frame = RstStreamFrame(stream_id)
        frame.error_code = code
        self._raw(frame)

    def goaway(self, last_stream: int, code: int, debug: bytes) -> None:
        """Send GOAWAY. h2 is not told, because it could send nothing more."""
        frame = GoAwayFrame(0)
        frame.last_stream_id = last_stream
        frame.error_code = code
        frame.additional_data = debug
        self._raw(frame)

    def apply(self, settings: Settings) -> None:
        """Send SETTINGS, and the values from before after ``restore_after``."""
        values: dict[SettingCodes | int, int] = {}
        before = Settings()
        if settings.max_concurrent_streams is not None:
            before = Settings(max_concurrent_streams=self.limit.current)
            values[SettingCodes.MAX_CONCURRENT_STREAMS] = settings.max_concurrent_streams
        if settings.initial_window_size is not None:
            before = Settings(before.max_concurrent_streams, self.stream_window)
            values[SettingCodes.INITIAL_WINDOW_SIZE] = self.stream_window = settings.initial_window_size
        self._h2.update_settings(values)
        self.limit.decide(settings.max_concurrent_streams)
        if settings.restore_after is not None:
            self._later(settings.restore_after, partial(self._restore, before))

    def flush(self) -> None:
        """Write everything that the burst caused, at once."""
        if self._consumed > CONNECTION_WINDOW // 2:
            self._h2.increment_flow_control_window(self._consumed)
            self._consumed = 0
        self._out += self._h2.data_to_send()
        if self._out:
            self._transport.write(bytes(self._out))
            self._out.clear()
        self.limit.written()
        if self._closed > _PRUNE_EVERY:
            self._closed = 0
            self._h2.prune()

    def close_after(self, seconds: float) -> None:
        """Close when the client did not do it within *seconds*."""
        self._later(seconds, self._transport.close)

    def lost(self) -> None:
        """The connection is gone."""
        for timer in self._timers.values():
            timer.cancel()
        self._timers.clear()
        self._blocked.clear()

    def _later(self, seconds: float, callback: Callable[[], None]) -> None:
        key = object()

        def fire() -> None:
            self._timers.pop(key, None)
            callback()

        self._timers[key] = self._clock.call_later(seconds, fire)

    def _restore(self, before: Settings) -> None:
        self.apply(before)
        self._flush_soon()

    def _raw(self, frame: Frame) -> None:
        self._out += self._h2.data_to_send()
        self._out += frame.serialize()

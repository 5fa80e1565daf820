"""One connection to a gateway of the binary protocol: frames out, and silence or one error packet back.

Rules:
* Silence for the response timeout means delivered; only then has a delivery an outcome, so the window of frames that
  are sent and not confirmed is what bounds a connection.
* An error packet that names X: what was sent before X is delivered, X has the packet's status, what was sent after it
  was discarded and is refused: it goes again, in order, on another connection, and no attempt is counted.
* An end without a packet, with half of one, or with one for an identifier that was never sent: the window is ambiguous.
* No timer, future or object a frame but its entry in the window: one timer looks at the window.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence

from mcmt.channel.port import Report
from mcmt.clock import Clock, Timer
from mcmt.errors import ProtocolError
from mcmt.message.model import Delivery
from mcmt.message.status import Disposition, Outcome
from mcmt.wire.apns_binary import ErrorPacket, ErrorPacketParser, Status

from ..transport import refused_certificate
from .answers import WRONG_SIZE, Wording, words_of
from .frames import FrameBuilder
from .shown import show_opened, show_packet, show_sent
from .stream import TlsStream
from .window import Entry, Window

log = logging.getLogger(__name__)

LOOKS = 16
"""Looks at the window within a response timeout: so much of it a confirmation may come late."""
REPORTED_AT_ONCE = 1000
"""Outcomes of one report when silence has confirmed more: each costs the engine some microseconds, and the event loop
has other connections."""
STALLED_AFTER = 30.0
"""Seconds (or the response timeout, if longer) in which a gateway has to take something of what waits for it."""
TROUBLE_WAIT = 1.0
"""Seconds for which nothing is sent to a gateway that took nothing on a connection and failed for a reason of its own:
each notification in turn would cost it a connection."""
CLOSE_TIMEOUT = 5.0
"""Seconds that closing TLS in good order may take."""


class BinaryConnection:
    """See mcmt.channel.port.Connection. It is a StreamOwner."""

    def __init__(
        self,
        frames: FrameBuilder,
        window: int,
        response_timeout: float,
        report: Report,
        clock: Clock,
        first_identifier: int = 1,
    ) -> None:
        """*window*: frames that may be unconfirmed; *response_timeout*: seconds."""
        self._frames = frames
        self._limit = window
        self._timeout = response_timeout
        self._report = report
        self._clock = clock
        self._window = Window(first_identifier)
        self._parser = ErrorPacketParser()
        self._wording = Wording("")
        self._confirmed_any = False
        self._moved_at = 0.0  # when the gateway took something the last time, or owed nothing
        self._timer: Timer | None = None
        self._leaving = ""
        self._stream: TlsStream | None = None
        self._closed = asyncio.get_running_loop().create_future()
        self.remote_address = ""

    # -- the Connection -------------------------------------------------------------------------------------------

    def send(self, deliveries: Sequence[Delivery]) -> int:
        """See mcmt.channel.port.Connection."""
        stream, window = self._stream, self._window
        if stream is None or self._leaving or not stream.writable or self._closed.done():
            return 0
        room = min(self._limit - len(window), len(deliveries))
        if room <= 0:
            return 0
        now = self._clock.monotonic()
        if not window:
            self._moved_at = now
        pieces: list[bytes] = []
        wrong: list[tuple[Delivery, Outcome]] = []
        for delivery in deliveries[:room]:
            frame = self._frames.frame(delivery, window.next_identifier)
            if frame is None:
                wrong.append((delivery, WRONG_SIZE))
            else:
                pieces.append(frame)
                window.add(delivery, len(frame), now)
        if pieces:
            if (trace := self._report.trace) is not None:
                show_sent(trace, pieces)
            stream.write(b"".join(pieces))
            self._look_in(self._timeout / LOOKS)
        if wrong:
            self._report.outcomes(wrong)
        return room

    async def aclose(self, drain: float) -> None:
        """See mcmt.channel.port.Connection."""
        self._leave("closed by us")
        if self._window:
            await asyncio.wait([self._closed], timeout=drain)
        if self._window and self._stream is not None:
            self._stream.abort()
        # Shielded: whoever stops waiting does not end the connection, and what it still has to say comes with lost.
        await asyncio.shield(self._closed)

    # -- the StreamOwner ------------------------------------------------------------------------------------------

    def opened(self, stream: TlsStream) -> None:
        """See StreamOwner."""
        self._stream = stream
        self.remote_address = stream.remote_address
        self._wording = Wording(stream.remote_address)
        if (trace := self._report.trace) is not None:
            show_opened(trace, stream)

    def received(self, data: bytes) -> None:
        """See StreamOwner."""
        try:
            packet = self._parser.receive(data)
        except ProtocolError as error:
            self._abort(f"protocol error: {error}")
            return
        if packet is not None:
            if (trace := self._report.trace) is not None:
                show_packet(trace, packet)
            self._told(packet)

    def drained(self) -> None:
        """See StreamOwner."""
        if not self._leaving:
            self._report.wake()

    def lost(self, error: Exception | None) -> None:
        """See StreamOwner: whatever is not confirmed gets its outcome now."""
        refusal = "" if self._confirmed_any else refused_certificate(error)
        reason = f"connection lost: {error}" if error else "closed by the gateway"
        if self._parser.begun:
            reason = f"{reason} in the middle of an error packet"
        reason = self._leaving or reason
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._leaving = reason
        self._closed.set_result(None)
        if refusal:
            # In TLS 1.3 the client's handshake is over before its certificate is judged (RFC 8446 4.4.2).
            reason = f"the gateway refuses the client certificate: {refusal}"
            self._give_up(self._wording.fault, reason)
        else:
            self._give_up(self._wording.ambiguous, f"{reason} before the window was confirmed")
        self._report.closed(reason)

    # -- what the gateway said ------------------------------------------------------------------------------------

    def _told(self, packet: ErrorPacket) -> None:
        """One report for all that the packet settles: what it confirms counts as progress for what it discards."""
        words, now, window, wording = words_of(packet), self._clock.monotonic(), self._window, self._wording
        place = window.place_of(packet.identifier)
        if place is None:
            self._abort(f"{words} for identifier {packet.identifier}, which was never sent,")
            return
        shutdown = packet.status == Status.SHUTDOWN
        late = -place - shutdown
        if late > 0:
            log.warning(
                "%s: %s came too late: %d deliveries had been taken for delivered and were not; "
                "make delivery_response_timeout (%g s) longer",
                self.remote_address,
                words,
                late,
                self._timeout,
            )
        outcomes = [
            (entry[0], wording.delivered(identifier, entry, now))
            for identifier, entry in window.take(max(0, place + shutdown))
        ]
        wait = 0.0
        if not shutdown and place >= 0:
            ((_, entry),) = window.take(1)
            named = wording.named(packet, entry, now)
            if named.disposition is Disposition.TRANSIENT and not outcomes and not self._confirmed_any:
                wait = TROUBLE_WAIT
            outcomes.append((entry[0], named))
        text = f"discarded by the gateway after {words}"
        outcomes += [
            (entry[0], wording.discarded(identifier, entry, now, text, wait))
            for identifier, entry in window.take(len(window))
        ]
        self._leaving = words
        if outcomes:
            self._report.outcomes(outcomes)
        self._abort(words)

    # -- silence --------------------------------------------------------------------------------------------------

    def _look_in(self, delay: float) -> None:
        if self._timer is None and not self._closed.done():
            self._timer = self._clock.call_later(delay, self._look)

    def _look(self) -> None:
        """Confirm what there was silence about for long enough."""
        self._timer = None
        if self._stream is None or self._closed.done():
            return
        now, window = self._clock.monotonic(), self._window
        if window.note(now, self._stream.unsent()) or window.all_gone:
            self._moved_at = now
        elif now - self._moved_at >= max(STALLED_AFTER, self._timeout):
            self._abort("the gateway takes nothing more")
            return
        confirmed = window.confirmed(now, self._timeout, REPORTED_AT_ONCE)
        if confirmed:
            self._confirmed_any = True
            delivered = self._wording.delivered
            self._report.outcomes([(entry[0], delivered(identifier, entry, now)) for identifier, entry in confirmed])
            if not self._leaving:
                self._report.wake()
        if window:
            self._look_in(0.0 if window.more_confirmed else self._timeout / LOOKS)
        elif self._leaving:
            self._close()

    # -- the end --------------------------------------------------------------------------------------------------

    def _give_up(self, worded: Callable[[int, Entry, float, str], Outcome], text: str) -> None:
        now = self._clock.monotonic()
        rest = self._window.take(len(self._window))
        if rest:
            self._report.outcomes([(entry[0], worded(identifier, entry, now, text)) for identifier, entry in rest])

    def _leave(self, reason: str) -> None:
        """Take nothing more; end when the window is confirmed."""
        if not self._leaving:
            self._leaving = reason
            if not self._window:
                self._clock.call_later(0, self._close)

    def _close(self) -> None:
        if self._stream is not None and not self._closed.done():
            self._stream.close()
            # A peer that does not read would keep us for ever.
            self._clock.call_later(CLOSE_TIMEOUT, self._stream.abort)

    def _abort(self, reason: str) -> None:
        """Close at once; ``lost`` does the rest."""
        self._leaving = reason
        if self._stream is not None:
            self._stream.abort()

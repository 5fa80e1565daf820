"""What a sender of notifications says, and what it is told: nothing while all is well, one error packet, the end.

Source: Apple, "Binary Provider API": after an error packet the gateway closes, and has discarded everything behind the
notification that it names; with status 10 the named one is the last that was taken.

Rules: a notification is on disk before an error or an end can be told that would make the client believe so. What
comes while a burst is written makes the next one, and is not begun before: a burst that fails must not have others
behind it on disk. The client is not read while too much waits.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Final

from mcmt.errors import MessageError, SpoolError
from mcmt.intake import limits
from mcmt.intake.apns_gateway.burst import Burst, bursts
from mcmt.intake.apns_gateway.connection import Gateway, GatewayConnection
from mcmt.intake.apns_gateway.shown import show_received
from mcmt.wire.apns_binary import WORDS, Fault, Notification, NotificationParser, Status, error_packet

log = logging.getLogger(__name__)

_STATUSES: Mapping[str, Status] = MappingProxyType(
    {
        "5.1.1": Status.MISSING_TOKEN,
        "5.1.3": Status.INVALID_TOKEN,
        "5.1.6": Status.INVALID_TOKEN,
        "5.3.4": Status.PAYLOAD_SIZE,
        "5.5.4": Status.PROTOCOL_ERROR,
        # What is no JSON object with an aps is no payload. There is no status for it; this one is taken for final.
        "5.6.0": Status.MISSING_PAYLOAD,
    }
)
"""The refusals of a notification (RFC 3463), as the protocol can tell them; any other is PROCESSING_ERROR."""
_ENHANCED: Mapping[int, str] = MappingProxyType(
    {
        Status.MISSING_TOKEN: "5.1.1",
        Status.TOKEN_SIZE: "5.1.3",
        Status.PAYLOAD_SIZE: "5.3.4",
        Status.MISSING_PAYLOAD: "5.6.0",
    }
)
"""The statuses of the codec, as the reject log has them; any other is 5.5.2, a syntax error."""
_PRIORITIES: Final = frozenset({None, 5, 10})


class GatewaySession(GatewayConnection):
    """One client's connection to the gateway."""

    def __init__(self, gateway: Gateway, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(gateway, loop)
        self._parser = NotificationParser()
        self._unread = b""
        """What came and is not parsed: the intake's memory has no room for it."""
        self._queued = False
        """The memory will say when it has."""
        self._waiting: list[Notification] = []
        self._held = 0
        """Octets that count as held in the intake's memory."""
        self._kept: int | None = None
        """Identifier of the last notification that is on disk; None: there is none, or it has none."""
        self._draining = False
        self._task: asyncio.Task[None] | None = None

    # -- what comes ----------------------------------------------------------------------------------------------

    def _said(self, data: bytes) -> None:
        self._unread += data
        if not self._queued:
            self._read_on()

    def _read_on(self) -> None:
        self._queued = False
        if self._ended or self._draining:
            # What was not read was not taken: the client is told which was the last.
            self._unread = b""
        elif self._unread:
            if not self._gateway.memory.take(len(self._unread)):
                self._queued = True
                self._pause()
                self._gateway.memory.wait(self._read_on)
                return
            self._go_on()
            self._held += len(self._unread)
            came = self._parser.receive(self._unread)
            if (trace := self._trace()) is not None:
                show_received(trace, came, self._parser.fault)
            self._waiting += came
            self._unread = b""
        if self._held > limits.GATEWAY_INPUT:
            self._pause()
        if self._task is None:
            if self._waiting:
                self._task = self._loop.create_task(self._work(), name="gateway session")
            else:
                self._worked_off()

    def _pause(self) -> None:
        if not self._gone and not self._ended and not self._wire.is_closing():
            self._wire.pause_reading()

    def _go_on(self) -> None:
        if not self._gone and not self._ended and not self._wire.is_closing():
            self._wire.resume_reading()

    def _came_to_end(self) -> None:
        if self._task is None and not self._queued:
            self._worked_off()

    def _busy(self) -> bool:
        return self._task is not None or self._queued

    # -- what is kept --------------------------------------------------------------------------------------------

    async def _work(self) -> None:
        try:
            while self._waiting and not self._ended:
                waiting, self._waiting = self._waiting, []
                octets, self._held = self._held, 0
                try:
                    good = await self._keep(waiting)
                finally:
                    self._gateway.memory.give_back(octets)
                if not good:
                    break
                if not self._queued:
                    self._go_on()
        except Exception:
            log.exception("%s: a fault of ours; what came since is not kept", self._who)
            self._ended = True
            self.abort()
        finally:
            self._task = None
            self._since = self._gateway.clock.monotonic()
        self._worked_off()

    async def _keep(self, notifications: Sequence[Notification]) -> bool:
        """Have them kept, in order; False: one was not, nor what stands behind it, and the client is told."""
        for burst in bursts(notifications, self._gateway.most):
            try:
                await self._receive(burst)
            except MessageError as reason:
                if len(burst.notifications) == 1:
                    self._refuse(burst.notifications[0], reason)
                    return False
                # One of them is at fault: what stands before it is kept, and nothing behind it.
                half = len(burst.notifications) // 2
                if not await self._keep(burst.notifications[:half]):
                    return False
                if not await self._keep(burst.notifications[half:]):
                    return False
            except SpoolError as error:
                self._gateway.reception.tell_not_kept(self._connection_id, self._peer, error)
                await self._pause_before_the_end()
                self._shut_down()
                return False
        return True

    async def _receive(self, burst: Burst) -> None:
        unknown = {each.priority for each in burst.notifications} - _PRIORITIES
        if unknown:
            raise MessageError(554, "5.5.4", f"a priority of {unknown.pop()}, and 5 and 10 are known")
        await self._gateway.reception.receive_parts(self._envelope(), burst.parts, burst.size)
        self._kept = burst.notifications[-1].identifier

    async def _pause_before_the_end(self) -> None:
        over = asyncio.Event()
        self._gateway.clock.call_later(limits.GATEWAY_PAUSE, over.set)
        await over.wait()

    # -- what is told --------------------------------------------------------------------------------------------

    def _worked_off(self) -> None:
        """Nothing waits: end, if there is a reason to."""
        if self._ended or self._gone:
            self._finish()
        elif self._parser.fault is not None:
            self._tell_fault(self._parser.fault)
        elif self._draining:
            self._shut_down()
        elif self._all_came:
            self._end(b"")

    def _finish(self) -> None:
        self._gateway.memory.give_back(self._held)
        self._held = 0
        self._waiting.clear()
        self._unread = b""
        if self._gone:
            self._leave()

    def _tell_fault(self, fault: Fault) -> None:
        enhanced = _ENHANCED.get(fault.status, "5.5.2")
        self._reject(fault.status, fault.identifier, MessageError(554, enhanced, fault.text))

    def _refuse(self, notification: Notification, reason: MessageError) -> None:
        if reason.code < 500:
            self._shut_down()
            return
        status = _STATUSES.get(reason.enhanced, Status.PROCESSING_ERROR)
        self._reject(status, notification.identifier, reason)

    def _reject(self, status: int, identifier: int | None, reason: MessageError) -> None:
        named = "" if identifier is None else f", identifier {identifier}"
        told = f"told: {status} {WORDS[status]}{named}" if named else "told nothing: it has no identifier"
        rejection = MessageError(reason.code, reason.enhanced, f"{reason.text} ({told})")
        self._gateway.reception.reject(self._envelope(), "notification", rejection)
        if (trace := self._trace()) is not None:
            trace.tell("sent", "error packet" if named else "the end", rejection.text)
        # Command 0 has no identifier: a packet would name some other notification.
        self._end(b"" if identifier is None else error_packet(status, identifier))
        self._finish()

    def _shut_down(self) -> None:
        """Tell which notification was the last that was taken; of none there is nothing to tell."""
        if (trace := self._trace()) is not None:
            last = f"{Status.SHUTDOWN:d} {WORDS[Status.SHUTDOWN]}, identifier {self._kept}"
            trace.tell("sent", *(("the end",) if self._kept is None else ("error packet", last)))
        self._end(b"" if self._kept is None else error_packet(Status.SHUTDOWN, self._kept))
        self._finish()

    def _time_is_over(self) -> None:
        self._shut_down()

    def drain(self) -> None:
        """Keep what was read, say what was the last of it, and end."""
        self._draining = True
        if not self._domain:
            self.abort()
        elif self._task is None:
            self._read_on()

"""The feedback service: who connects is given every device token of its domain that is gone, and the end.

Source: Apple, "The Feedback Service" (Binary Provider API). Tuples follow one another without a count; the list is
cleared by reading it.

Rules: a list is cleared when its reader has all of it, and the end of it, and has closed after that: one that is killed
before is reset by its kernel, or closes before the end. It gets every token again.
"""

from __future__ import annotations

import asyncio
import fcntl
import logging
import struct
import termios
from typing import Final

from mcmt.errors import SpoolError
from mcmt.intake.apns_gateway.connection import Gateway, GatewayConnection
from mcmt.wire.apns_binary import feedback_tuple

log = logging.getLogger(__name__)

_PAGE: Final = 1000
_LATEST: Final = 2**32 - 1
"""The last second that a tuple can name."""


class FeedbackSession(GatewayConnection):
    """One client's connection to the feedback service."""

    def __init__(self, gateway: Gateway, loop: asyncio.AbstractEventLoop) -> None:
        super().__init__(gateway, loop)
        self.linger = gateway.settings.idle_timeout
        self._task: asyncio.Task[None] | None = None
        self._room = asyncio.Event()
        """The client reads what it is sent."""
        self._room.set()
        self._over = asyncio.Event()
        """The client has closed, or the connection is lost."""
        self._has_all = False

    def _known(self) -> None:
        self._task = self._loop.create_task(self._tell(), name="feedback session")

    def _busy(self) -> bool:
        return False

    def _time_is_over(self) -> None:
        # The client does not read.
        self._wire.abort()

    def pause_writing(self) -> None:
        """The client has more than it reads."""
        self._room.clear()

    def resume_writing(self) -> None:
        """It has read some of it."""
        self._since = self._gateway.clock.monotonic()
        self._room.set()

    def eof_received(self) -> bool:
        """The client has closed: after our end, with nothing of it unacknowledged, it has all."""
        if self._ended:
            descriptor = self._wire.get_extra_info("socket").fileno()
            (unacknowledged,) = struct.unpack("i", fcntl.ioctl(descriptor, termios.TIOCOUTQ, bytes(4)))
            self._has_all = not unacknowledged and not self._wire.get_write_buffer_size()
        self._over.set()
        return super().eof_received()

    def _came_to_end(self) -> None:
        self._over.set()
        self._room.set()
        if self._gone and self._task is None:
            self._leave()

    def drain(self) -> None:
        """What was not told is told after the start."""
        self.abort()

    async def _tell(self) -> None:
        try:
            await self._tell_all(self._domain)
        except SpoolError as error:
            log.error("%s: the feedback of %s cannot be given: %s", self._who, self._domain, error)
            self.abort()
        except Exception:
            log.exception("%s: a fault of ours", self._who)
            self.abort()
        finally:
            self._task = None
        if self._gone:
            self._leave()

    async def _tell_all(self, domain: str) -> None:
        tokens = self._gateway.gone_tokens
        if tokens is None:
            self._end(b"")
            return
        told, through = 0, 0
        while gone := await asyncio.to_thread(tokens.unread, domain, through, _PAGE):
            # A token that is no whole bytes came by mail, and no sender of frames knows it.
            tuples = [
                feedback_tuple(min(int(each.since), _LATEST), bytes.fromhex(each.token))
                for each in gone
                if not len(each.token) % 2
            ]
            told, through = told + len(tuples), gone[-1].number
            if self._all_came:
                return
            octets = b"".join(tuples)
            if (trace := self._trace()) is not None:
                trace.tell("sent", "feedback", f"{len(tuples)} device tokens", octets=len(octets))
            self._tls.send(octets)
            self._flush()
            await self._room.wait()
        self._end(b"")
        await self._over.wait()
        if not through:
            return
        if self._has_all:
            await asyncio.to_thread(tokens.told, domain, through)
            log.info("%s: %d device tokens of %s told", self._who, told, domain)
        else:
            log.warning("%s: ended before it had all %d device tokens of %s: they stay", self._who, told, domain)

"""The way from a door to the spool, the same for every door: compose the message, keep it, then say its batch id.

Rules: ``receive`` returns only when the message and all its deliveries are on disk; it holds nothing itself.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Final

from mcmt.channel.port import Channel
from mcmt.clock import Clock
from mcmt.config.made_settings import MadeDomain
from mcmt.config.settings import DomainSettings, Settings
from mcmt.errors import MessageError, SpoolError
from mcmt.intake.compose import NOW, Composed, McmtReception, Schedule, compose, open_message, stanza_of
from mcmt.intake.rejections import Rejections
from mcmt.intake.reminder import Reminder
from mcmt.intake.suppression import Suppression
from mcmt.message.address import domain_of
from mcmt.message.event import Event, Kind
from mcmt.message.identity import new_batch_id
from mcmt.message.mime import ParsedMessage, context_variables
from mcmt.message.model import Envelope, Headers, Part
from mcmt.message.trace_context import VARIABLE as TRACEPARENT
from mcmt.message.trace_context import kept
from mcmt.spool.port import GoneTokens, Keeper
from mcmt.wire.trace import Tracing

log = logging.getLogger(__name__)

LARGE: Final = 64 * 1024
"""Octets past which a message is taken apart on a thread."""
MANY: Final = 100
"""Recipients past which it is, however small."""


class Reception:
    """What every door shares: the settings, the channels, the spool, the ids, and who watches."""

    def __init__(
        self,
        settings: Settings,
        channels: Mapping[str, Channel],
        spool: Keeper,
        clock: Clock,
        random_bits: Callable[[int], int],
        gone_tokens: GoneTokens | None = None,
        tracing: Tracing | None = None,
    ) -> None:
        """*gone_tokens*: those that nothing is sent to, where a stanza says so. *tracing*: who watches a domain."""
        self.tracing = tracing or Tracing(clock)
        self._suppression = None if gone_tokens is None else Suppression(gone_tokens, clock)
        self._settings = settings
        self._channels = channels
        self._spool = spool
        self._clock = clock
        # An id has to be unique, not secret: a generator seeded once from the system's randomness gives the 42 bits for
        # 0.7 us where the system's own call takes 1.3 to 3 us a message. It belongs to this process: a copy that fork
        # made would give the same ids again.
        self._random_bits = Random(random_bits(256)).getrandbits  # noqa: S311 - see above
        # What a large message costs is not waited for by the others. Measured beside messages of 10,000 device tokens
        # (8 ms each): a request each 0.3 ms had its answer within 1.2 ms (p99) with a thread, within 5.6 ms with the
        # same work cut in three between turns of the loop, within 7.1 ms in one piece; the CPU was the same. One
        # thread: what taking apart needs for a moment is needed for one message at a time (memory.py).
        self._thread = ThreadPoolExecutor(1, "mcmt-intake")
        self._rejections = Rejections(spool.record, clock)
        self._not_kept = Reminder(clock)

    def reload(self, settings: Settings) -> None:
        """Other settings hold for what is received from now on, and for what is kept from now on."""
        self._settings = settings

    def stanza_of(self, recipient: str) -> DomainSettings:
        """The stanza that routes *recipient*. Raises MessageError 550 5.1.2 where there is none."""
        return stanza_of(self._settings, domain_of(recipient))

    def made(self, domain: str) -> MadeDomain | None:
        """The domain of that name, if it was made for an app."""
        return self._settings.made.get(domain)

    async def receive(
        self, envelope: Envelope, data: bytes, mcmt_reception: McmtReception, schedule: Schedule = NOW
    ) -> str:
        """Keep the message; return its batch id when it is on disk. Raises MessageError, SpoolError: nothing kept."""
        composed = await self.composed(envelope, data, mcmt_reception, schedule)
        await self._spool.accept(*composed)
        return composed.message.batch_id

    async def receive_parts(self, envelope: Envelope, parts: Sequence[Part], size: int) -> str:
        """``receive`` for what did not come as a message, but as *parts* of *size* octets together."""
        return await self.keep(await self.composed_parts(envelope, parts, size))

    async def keep(self, composed: Composed) -> str:
        """Keep what was composed; return its batch id when it is on disk. Raises SpoolError: nothing kept."""
        await self._spool.accept(*composed)
        return composed.message.batch_id

    async def composed(
        self, envelope: Envelope, data: bytes, mcmt_reception: McmtReception, schedule: Schedule = NOW
    ) -> Composed:
        """What is to be kept of a message. Raises MessageError."""
        now = self._clock.time()
        batch_id = new_batch_id(now, self._random_bits)
        if len(data) > LARGE or len(envelope.forward_paths) > MANY:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, self._open, batch_id, now, envelope, data, mcmt_reception, schedule
            )
        return self._open(batch_id, now, envelope, data, mcmt_reception, schedule)

    async def composed_parts(
        self,
        envelope: Envelope,
        parts: Sequence[Part],
        size: int,
        headers: Headers = (),
        schedule: Schedule = NOW,
    ) -> Composed:
        """``composed`` of parts; *headers*: what would be the message's own fields."""
        now = self._clock.time()
        batch_id = new_batch_id(now, self._random_bits)
        if size > LARGE or len(envelope.forward_paths) > MANY:
            return await asyncio.get_running_loop().run_in_executor(
                self._thread, self._join, batch_id, now, envelope, tuple(parts), size, headers, schedule
            )
        return self._join(batch_id, now, envelope, tuple(parts), size, headers, schedule)

    def _join(
        self,
        batch_id: str,
        now: float,
        envelope: Envelope,
        parts: tuple[Part, ...],
        size: int,
        headers: Headers,
        schedule: Schedule,
    ) -> Composed:
        block = "".join([f"{name}: {value}\r\n" for name, value in headers]).encode()
        parsed = ParsedMessage(block, headers, True, parts)
        context = _context(envelope, headers)
        return compose(
            self._settings,
            self._channels,
            envelope,
            b"",
            parsed,
            context,
            "allow",
            batch_id,
            now,
            size,
            self._suppression,
            schedule,
        )

    def _open(
        self,
        batch_id: str,
        now: float,
        envelope: Envelope,
        data: bytes,
        mcmt_reception: McmtReception,
        schedule: Schedule,
    ) -> Composed:
        parsed = open_message(data, mcmt_reception)
        context = _context(envelope, parsed.headers)
        return compose(
            self._settings,
            self._channels,
            envelope,
            data,
            parsed,
            context,
            mcmt_reception,
            batch_id,
            now,
            len(data),
            self._suppression,
            schedule,
        )

    def tell_not_kept(self, connection_id: str, peer: str, error: SpoolError) -> None:
        """Tell the operator, now and then, that the spool does not take what clients bring."""
        if times := self._not_kept.count():
            log.error("%d messages not kept, the last one of %s %s: %s", times, connection_id, peer, error)

    def reject(self, envelope: Envelope, phase: str, reason: MessageError) -> None:
        """Have a refusal written into the ledger, without waiting. *phase*: the SMTP command, or the door's word."""
        recipients = envelope.forward_paths
        recipient = recipients[0] if len(recipients) == 1 else ""
        self._rejections.add(
            Event(
                kind=Kind.REJECTION,
                time=self._clock.time(),
                domain=domain_of(recipient) if recipient else "",
                sender=envelope.reverse_path,
                recipient=recipient,
                remote_address=envelope.peer,
                code=str(reason.code),
                text=f"{reason.enhanced} {reason.text}",
                connection_id=envelope.connection_id,
                phase=phase,
                protocol=envelope.protocol,
                user=envelope.user,
            )
        )

    async def aclose(self) -> None:
        """Write the refusals that are still waiting. Call it when the doors are closed and the spool is not."""
        await self._rejections.aclose()
        self._thread.shutdown()


def _context(envelope: Envelope, headers: Headers) -> dict[str, str]:
    variables = context_variables(headers)
    if envelope.traceparent and (trace := kept(envelope.traceparent)):
        # Of the request and of the message the request is nearer: whoever made the message may have sent it long ago.
        variables[TRACEPARENT] = trace
    return variables

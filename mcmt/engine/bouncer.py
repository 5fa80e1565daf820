"""Makes the reports that senders are owed, and hands each to the spool as a message of its own.

Rules:
* A report and the failures that it tells change places in one transaction: exactly one report tells a failure,
  whenever the process is killed.
* It is routed by the return path's domain like any mail, comes from the null sender, expires like mail, and is never
  reported on itself: the failures of a message from the null sender are owed to nobody (RFC 5321 6.1).
* One that has no route ends in one line of the main log, and its failures are let go.
* Nothing gathers in memory: a page of reports at a time, a bounded number of failures in each.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence

from mcmt.channel.port import Channel, Target, report_terms
from mcmt.clock import Clock
from mcmt.config.settings import DomainSettings, Settings
from mcmt.engine.verdict import lateness
from mcmt.errors import MessageError, SpoolError
from mcmt.message.address import domain_of
from mcmt.message.dsn import Original, compose_report
from mcmt.message.event import Event, Kind
from mcmt.message.failure import Failure
from mcmt.message.header_fields import find_end
from mcmt.message.identity import new_batch_id
from mcmt.message.model import Delivery, Envelope, Message, NewDelivery, Part
from mcmt.spool.port import OwedReport, Spool

log = logging.getLogger(__name__)

PAGE = 100
"""Reports read and made at a time."""
PROTOCOL = "internal"
"""The door through which a report enters: the protocol of its reception in the main log (Momentum's word)."""

_WHOLE = "message/rfc822"


class _Undeliverable(Exception):  # noqa: N818 - an outcome, seen in this file alone
    """There is no way to the return path; the text says why."""


class Bouncer:
    """What senders are owed, made into mail."""

    def __init__(
        self,
        settings: Settings,
        spool: Spool,
        channels: Mapping[str, Channel],
        clock: Clock,
        random_bits: Callable[[int], int],
    ) -> None:
        self._settings = settings
        self._spool = spool
        self._channels = channels
        self._terms = {name: report_terms(name, channel) for name, channel in channels.items()}
        self._clock = clock
        self._random_bits = random_bits
        self._task: asyncio.Task[None] | None = None
        self._draining = False
        self._told = False

    def reload(self, settings: Settings) -> None:
        """Other settings hold."""
        self._settings = settings

    def tick(self) -> None:
        """See whether reports are due, unless that is under way."""
        if self._task is None and not self._draining:
            self._task = asyncio.get_running_loop().create_task(self._run(), name="bouncer")

    async def drain(self) -> None:
        """Finish what was begun, begin nothing more."""
        self._draining = True
        if self._task is not None:
            await asyncio.wait([self._task])

    async def _run(self) -> None:
        try:
            await self._warn()
            while not self._draining:
                owed = await self._spool.pull_reports(self._clock.time(), PAGE)
                made = []
                for one in owed:
                    made.append(asyncio.create_task(self._report(one), name="bounce"))
                    # One report may list many failures: others have their turn before the next one is composed.
                    await asyncio.sleep(0)
                failed = [
                    result
                    for result in await asyncio.gather(*made, return_exceptions=True)
                    if isinstance(result, BaseException)
                ]
                if failed:
                    raise failed[0]
                self._told = False
                if not owed:
                    return
        except SpoolError as error:
            if not self._told:
                log.error("bounces wait for the spool: %s", error)
                self._told = True
        finally:
            self._task = None

    async def _warn(self) -> None:
        """Have those that want to hear of delays be owed a report of what is late now."""
        while not self._draining:
            now = self._clock.time()
            late = await self._spool.pull_late(now, PAGE)
            if late:
                await self._spool.warn({row: self._lateness(one, now) for row, one in late.items()})
            if len(late) < PAGE:
                return

    def _lateness(self, delivery: Delivery | None, now: float) -> Failure | None:
        settings = None if delivery is None else self._settings.domain(delivery.domain)
        return None if delivery is None or settings is None else lateness(delivery, settings, now)

    async def _report(self, owed: OwedReport) -> None:
        now = self._clock.time()
        batch_id = new_batch_id(now, self._random_bits)
        try:
            message, deliveries, event = self._compose(owed, batch_id, now)
        except _Undeliverable as error:
            await self._give_up(owed, batch_id, now, str(error))
        except Exception as error:
            log.exception("the bounce for %s cannot be made", owed.sender.batch_id)
            await self._give_up(owed, batch_id, now, f"internal error: {error!r}")
        else:
            await self._spool.report(owed, message, deliveries, [event])

    def _compose(self, owed: OwedReport, batch_id: str, now: float) -> tuple[Message, Sequence[NewDelivery], Event]:
        """The report as a message, with its delivery and its reception. Raises _Undeliverable."""
        hostname = self._settings.hostname
        stanza, channel = self._route(owed.return_path)
        about, block = owed.sender, owed.header_block
        # With RET=FULL the whole message was kept in place of its fields, if it was small enough.
        end, _ = find_end(block, 0, len(block)) if about.ret == "FULL" else (len(block), 0)
        body = block[end:] if end < len(block) else None
        content = compose_report(
            Original(about.batch_id, about.received, block[:end], body, about.envid, owed.release, owed.deliver_by),
            owed.failures,
            owed.count,
            return_path=owed.return_path,
            terms=self._terms,
            hostname=hostname,
            now=now,
            message_id=f"{batch_id}@{hostname}",
            boundary=batch_id,
            others=owed.others,
        )
        try:
            reading = channel.read(Part(_WHOLE, (), content), owed.return_path, {}, stanza.options)
        except MessageError as error:
            raise _Undeliverable(error.text) from error
        # Where an original's id stands in place of the session's, the ledger says what a report is about.
        envelope = Envelope("", (owed.return_path,), connection_id=owed.sender.batch_id, protocol=PROTOCOL)
        end, _ = find_end(content, 0, len(content))
        message = Message(batch_id, now, envelope, content[:end], {}, (reading.part,), len(content))
        domain = domain_of(owed.return_path)
        deliveries = [
            NewDelivery(
                number, domain, owed.return_path, target.token, 0, _expires(target, now, stanza.message_expiration)
            )
            for number, target in enumerate(reading.targets, 1)
        ]
        return message, deliveries, self._received(owed, message, stanza, len(deliveries))

    def _route(self, return_path: str) -> tuple[DomainSettings, Channel]:
        domain = domain_of(return_path)
        stanza = self._settings.domain(domain)
        if stanza is None:
            raise _Undeliverable(f'no stanza routes {domain}; one named "*" would')
        channel = self._channels[stanza.delivery_method]
        if channel.MEDIA_TYPES:
            raise _Undeliverable(f"{domain} is routed to the channel {stanza.delivery_method}, which carries no mail")
        return stanza, channel

    def _received(self, owed: OwedReport, message: Message, stanza: DomainSettings, count: int) -> Event:
        return Event(
            kind=Kind.RECEPTION,
            time=message.received,
            id=f"{message.batch_id}-1",
            batch_id=message.batch_id,
            channel=stanza.delivery_method,
            domain=domain_of(owed.return_path),
            recipient=owed.return_path,
            size=message.size,
            deliveries=count,
            connection_id=message.envelope.connection_id,
            protocol=PROTOCOL,
        )

    async def _give_up(self, owed: OwedReport, batch_id: str, now: float, reason: str) -> None:
        """The one line that an undeliverable report ends in; no channel's log has it, for no channel had it."""
        text = f"5.4.4 [internal] bounce undeliverable: {reason} (failures of {owed.sender.batch_id}: {owed.count})"
        event = Event(
            kind=Kind.PERMANENT,
            time=now,
            id=f"{batch_id}-1",
            batch_id=batch_id,
            domain=domain_of(owed.return_path),
            recipient=owed.return_path,
            code="554",
            text=text,
            connection_id=owed.sender.batch_id,
            protocol=PROTOCOL,
        )
        await self._spool.report(owed, None, (), [event])


def _expires(target: Target, now: float, lifetime: float) -> float:
    end = now + lifetime
    return end if target.expires is None else min(end, target.expires)

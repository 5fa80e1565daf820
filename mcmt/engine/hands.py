"""What an operator does to deliveries that he has selected: ended, held, released, tried now, sent another way.

Rules:
* What is on the wire is left alone: its answer decides. What is only ready is taken out of its queue.
* A page of deliveries is one transaction, with its final lines and the reports that are owed: all of it, or nothing.
* Whatever happens to whoever asked, a page that was begun is done to its end.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from typing import Literal

import msgspec

from mcmt.channel.port import Channel
from mcmt.config.patterns import is_pattern
from mcmt.config.settings import DomainSettings, Settings
from mcmt.engine.queue import DomainQueue
from mcmt.engine.shared import Shared
from mcmt.engine.verdict import Verdict, judge, storable
from mcmt.errors import ControlError, SpoolError
from mcmt.message.event import Event, Kind
from mcmt.message.model import Delivery
from mcmt.message.status import Disposition, Outcome
from mcmt.spool.port import Change

Verb = Literal["retry", "hold", "release", "bounce", "delete", "reroute"]
_TOLD: Mapping[Verb, str] = {"hold": "held", "release": "released", "reroute": "rerouted"}
"""The news in the main log, of verbs after which no delivery has a line of its own yet."""
MAX_REASON = 200
"""Characters of a reason that go into a line and a report."""


class Work(msgspec.Struct, frozen=True):
    """What is to be done to the deliveries that are selected."""

    verb: Verb
    reason: str = ""
    to: str = ""
    """``reroute``: the domain."""
    said: str = "manually failed"
    """``bounce``, ``delete``: what the final line and the report begin with."""
    first: bool = True
    """It is the first page: a route that is backed off is tried once for all of them."""


class Handled(msgspec.Struct, frozen=True):
    """What became of some deliveries."""

    done: int = 0
    busy: int = 0
    """Left alone: they are on the wire, and their answers decide."""
    ended: int = 0
    """They had ended, or changed, before their turn came."""
    unfit: int = 0
    """Left alone: the domain that they were to go through has another channel."""


class Hands:
    """Carries out work, for one engine."""

    def __init__(
        self,
        settings: Settings,
        channels: Mapping[str, Channel],
        shared: Shared,
        queue_of: Callable[[str], DomainQueue | None],
    ) -> None:
        self._settings = settings
        self._channels = channels
        self._shared = shared
        self._queue_of = queue_of
        self._tasks: set[asyncio.Task[Handled]] = set()

    def reload(self, settings: Settings) -> None:
        """Other settings hold."""
        self._settings = settings

    async def carry_out(self, work: Work, chosen: Mapping[int, str]) -> Handled:
        """Carry out *work* on the rows *chosen*, each with the domain it had. Raises SpoolError, ControlError."""
        task = asyncio.get_running_loop().create_task(self._carry_out(work, chosen), name="by hand")
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return await asyncio.shield(task)

    async def drain(self) -> None:
        """Finish what was begun."""
        if self._tasks:
            await asyncio.wait(tuple(self._tasks))

    async def _carry_out(self, work: Work, chosen: Mapping[int, str]) -> Handled:
        target = self._target(work)
        spool = self._shared.spool
        taken = await spool.take(chosen)
        found = list(taken.deliveries)
        for domain in sorted(set(chosen.values())):
            if (queue := self._queue_of(domain)) is not None:
                found += queue.hand_over(chosen)
        busy = taken.busy - (len(found) - len(taken.deliveries))
        fit = found if target is None else [one for one in found if self._fits(one, work.to, target)]
        try:
            await self._do(work, fit)
        except SpoolError:
            self._put_back(found)
            raise
        if len(fit) < len(found):
            rows = {one.row for one in fit}
            self._put_back([one for one in found if one.row not in rows])
        self._wake(work, {one.domain for one in fit})
        return Handled(len(fit), busy, len(chosen) - len(found) - busy, len(found) - len(fit))

    async def _do(self, work: Work, deliveries: Sequence[Delivery]) -> None:
        if not deliveries:
            return
        shared, now = self._shared, self._shared.clock.time()
        if work.verb == "bounce" or work.verb == "delete":
            verdicts = [self._end(work, one, now) for one in deliveries]
            events = [event for verdict in verdicts for event in verdict.events]
            await shared.spool.settle([verdict.settlement for verdict in verdicts], events)
            return
        change = Change(work.verb, shared.steady.now(), work.to)
        told = _TOLD.get(work.verb)
        events = []
        if told:
            for domain, count in Counter(one.domain for one in deliveries).items():
                text = f"by hand: {count} {'delivery' if count == 1 else 'deliveries'}"
                text += f" to {work.to}" * bool(work.to) + f": {_one_line(work.reason)}" * bool(work.reason)
                events.append(Event(kind=Kind.ROUTE, time=now, domain=domain, phase=told, text=text))
        await shared.spool.change([one.row for one in deliveries], change, events)

    def _end(self, work: Work, delivery: Delivery, now: float) -> Verdict:
        text = f"5.7.0 [internal] {work.said}" + f": {_one_line(work.reason)}" * bool(work.reason)
        outcome = Outcome(disposition=Disposition.PERMANENT, code="554", text=text)
        settings = self._settings.domain(delivery.domain) or DomainSettings(
            name=delivery.domain, delivery_method="", routes=(), options=None
        )
        verdict = judge(delivery, outcome, settings, now, random=lambda: 0.0)
        if work.verb == "delete":
            return Verdict(msgspec.structs.replace(verdict.settlement, failure=None), verdict.events)
        return verdict

    def _target(self, work: Work) -> DomainSettings | None:
        if work.verb != "reroute":
            return None
        target = self._settings.domain(work.to)
        if target is None or is_pattern(work.to):
            raise ControlError(f"there is no stanza for {work.to} under domain: in {self._settings.file}")
        return target

    def _fits(self, delivery: Delivery, to: str, target: DomainSettings) -> bool:
        """Whether the channel of *target* is the one that the delivery was made for."""
        if delivery.domain == to:
            return False
        source = self._settings.domain(delivery.domain)
        if source is not None:
            return source.delivery_method == target.delivery_method
        renders = self._channels[target.delivery_method].MEDIA_TYPES
        return delivery.part.media_type in renders if renders else "@" in delivery.token

    def _put_back(self, deliveries: Sequence[Delivery]) -> None:
        self._shared.spool.release([one.row for one in deliveries])
        for domain in {one.domain for one in deliveries}:
            if (queue := self._queue_of(domain)) is not None:
                queue.due()

    def _wake(self, work: Work, domains: set[str]) -> None:
        match work.verb:
            case "retry" | "release":
                wanted = domains
            case "reroute":
                wanted = {work.to} if domains else set()
            case _:
                wanted = set()
        for domain in wanted:
            if (queue := self._queue_of(domain)) is not None:
                queue.due(try_route=work.verb == "retry" and work.first)


def _one_line(reason: str) -> str:
    """What may stand in a line of a log and in a report."""
    return storable(" ".join(reason.split()))[:MAX_REASON]

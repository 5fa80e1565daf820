"""An engine on a real spool, with one channel and two domains, for tests of what a gateway may do to it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from mcmt.channel.port import Channel
from mcmt.clock import Clock, SystemClock
from mcmt.config.patterns import patterns_among
from mcmt.config.settings import DomainSettings, EventLogSettings, Settings, SpoolSettings
from mcmt.engine.engine import Engine
from mcmt.engine.news import Tell, tell_nobody
from mcmt.engine.rulings import Shaping
from mcmt.message.event import Event, Kind
from mcmt.message.identity import new_batch_id
from mcmt.message.model import Envelope, Headers, Message, NewDelivery, Part
from mcmt.message.route import parse_route
from mcmt.options import OptionsModel
from mcmt.spool.sqlite import SqliteSpool
from mcmt.spool.state import StateStore


class Bench:
    """An engine, its spool, and the channel that it speaks through."""

    def __init__(
        self,
        folder: Path,
        channel: Channel,
        *,
        routes: tuple[str, ...] = ("test://gateway",),
        options: OptionsModel | None = None,
        others: Mapping[str, Mapping[str, Any]] | None = None,
        clock: Clock | None = None,
        channels: Mapping[str, Channel] | None = None,
        tell: Tell = tell_nobody,
        shaping: Callable[[Settings, StateStore], Shaping] | None = None,
        **changes: Any,
    ) -> None:
        """*changes* are settings of the domain push.example.com; *others*: more domains, and what differs there.

        *channels*: more of them, by name. *tell*: other engines. *shaping*: who counts what rules match.
        """
        fields: dict[str, Any] = {
            "delivery_method": "test",
            "routes": tuple(map(parse_route, routes)),
            "options": options or OptionsModel(),
            "retry_interval": 0.05,
            "max_retry_interval": 0.4,
            # Bounces have tests of their own; elsewhere every failure would be followed by another one's line.
            "generate_bounces": False,
            **changes,
        }
        self.channel = channel
        self.channels = {"test": channel, **(channels or {})}
        self.folder = folder
        self.settings = Settings(
            file=folder / "mcmt.yaml",
            hostname="mx.example.com",
            workers=1,
            spool=SpoolSettings(path=folder / "spool"),
            listen=(),
            domains={
                name: DomainSettings(name=name, **{**fields, **differences})
                for name, differences in {"push.example.com": {}, **(others or {})}.items()
            },
            patterns=patterns_among(others or {}),
            channel_loggers=(),
            mainlog=(EventLogSettings(name="ec_logger.main", channel=None, logfile=folder / "mainlog.ec"),),
            rejectlog=(),
            control_socket=folder / "control.sock",
        )
        self.clock = clock or SystemClock()
        self.tell = tell
        self.shaping = shaping

    async def __aenter__(self) -> Bench:
        self.spool = await SqliteSpool.open(self.settings.spool.path)
        self.state = StateStore.open(self.settings.spool.path)
        self.engine = Engine(
            self.settings,
            self.spool,
            self.channels,
            self.state.scope,
            self.clock,
            lambda: 0.0,
            tell=self.tell,
            shaping=self.shaping(self.settings, self.state) if self.shaping else None,
        )
        await self.engine.start()
        return self

    async def __aexit__(self, *exception: object) -> None:
        await self.engine.drain(0.2)
        await self.spool.close()
        self.state.close()

    async def accept(
        self,
        count: int = 1,
        domain: str = "push.example.com",
        life: float = 3600.0,
        content: bytes = b"{}",
        headers: Headers = (),
        token: Callable[[int], str] = "{:064x}".format,
        sender: str = "app@example.com",
        header_block: bytes = b"",
        media_type: str = "message/vnd.test",
        delay: float = 0.0,
        priority: int = 0,
        collapse: bytes = b"",
    ) -> str:
        """One message with *count* deliveries; its batch id."""
        now = self.clock.time()
        batch_id = new_batch_id(now, lambda bits: time.monotonic_ns() & ((1 << bits) - 1))
        message = Message(
            batch_id=batch_id,
            received=now,
            envelope=Envelope(sender, (f"user@{domain}",)),
            header_block=header_block,
            context={},
            parts=(Part(media_type, headers, content),),
            size=len(content),
        )
        deliveries = [
            NewDelivery(
                number=number,
                domain=domain,
                recipient=f"user@{domain}",
                token=token(number),
                part=0,
                expires=now + life,
                due=now + delay if delay else 0.0,
                priority=priority,
                collapse=collapse,
            )
            for number in range(1, count + 1)
        ]
        await self.spool.accept(message, deliveries, [])
        return batch_id

    async def events(self, *kinds: Kind) -> list[Event]:
        """What the outbox holds of these kinds, in order."""
        rows = await self.spool.read_outbox(0, 100_000)
        return [event for row in rows for event in row.events if event.kind in kinds]

    async def wait_for_events(self, count: int, *kinds: Kind, within: float = 10.0) -> list[Event]:
        """The events, when there are at least *count* of them."""
        async with asyncio.timeout(within):
            while len(found := await self.events(*kinds)) < count:
                await asyncio.sleep(0.01)
        return found

    async def wait_until(self, condition: Callable[[], bool], within: float = 10.0) -> None:
        async with asyncio.timeout(within):
            while not condition():
                await asyncio.sleep(0.005)

    async def left(self) -> int:
        """Deliveries still in the spool."""
        return sum(backlog.deliveries for backlog in await self.spool.backlog())

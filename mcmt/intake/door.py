"""What the sessions of a listener share, and who may connect and submit through it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, Final, NamedTuple, Protocol

from mcmt.clock import Clock
from mcmt.config.settings import IntakeSettings, ListenSettings
from mcmt.errors import MessageError
from mcmt.intake import limits
from mcmt.intake.logins import Logins
from mcmt.intake.memory import IntakeMemory
from mcmt.intake.reception import Reception
from mcmt.intake.reminder import Reminder
from mcmt.intake.tls import CertificateFiles
from mcmt.wire.trace import Tracing

log = logging.getLogger(__name__)

# What one subscriber has of IPv6 addresses (RFC 6177): as many as he likes in 64 bits.
_IPV6_SUBSCRIBER: Final = 64


class Stoppable(Protocol):
    """A session, as its listener sees it."""

    def drain(self) -> None:
        """Finish the message that is being received, if one is, and end."""

    def abort(self) -> None:
        """End now."""


class Admission(Protocol):
    """Who may have a session, and for how many it holds."""

    def admit(self, address: str) -> MessageError | None:
        """One more, from *address* (``client_of``; empty: a proxy will tell); or what it is told when it is one too
        many."""

    async def move(self, address: str, to: str) -> MessageError | None:
        """One that was admitted from *address* counts for *to* from now on; or what it is told when it is one too many
        there: then it counts as before."""

    def left(self, address: str) -> None:
        """One that was admitted has gone."""


class SessionLimits:
    """How many sessions there may be, in all and from one client."""

    def __init__(self, settings: IntakeSettings, clock: Clock) -> None:
        self.settings = settings
        self._per_address: Counter[str] = Counter()
        self._reminder = Reminder(clock)
        self.count = 0

    def admit(self, address: str) -> MessageError | None:
        """See Admission."""
        settings = self.settings
        if self.count >= settings.max_connections:
            # RFC 3463: X.3.2, the system is not accepting network messages.
            text = f"{settings.max_connections} connections are open, no more are taken (max_connections)"
            return self._turn_away(address, "4.3.2", text)
        if address and (refusal := self._one_too_many(address)):
            return refusal
        self.count += 1
        self._per_address[address] += 1
        return None

    async def move(self, address: str, to: str) -> MessageError | None:
        """See Admission."""
        return self.moved(address, to)

    def moved(self, address: str, to: str) -> MessageError | None:
        """See Admission, ``move``."""
        if address != to:
            if refusal := self._one_too_many(to):
                return refusal
            self._per_address[to] += 1
            self._left(address)
        return None

    def left(self, address: str) -> None:
        """See Admission."""
        self.count -= 1
        self._left(address)

    def _left(self, address: str) -> None:
        self._per_address[address] -= 1
        if not self._per_address[address]:
            del self._per_address[address]

    def _one_too_many(self, address: str) -> MessageError | None:
        most = self.settings.max_connections_per_address
        if self._per_address[address] < most:
            return None
        text = f"{most} connections are open from your address, no more are taken (max_connections_per_address)"
        return self._turn_away(address, "4.7.0", text)

    def _turn_away(self, address: str, enhanced: str, text: str) -> MessageError:
        if times := self._reminder.count():
            log.warning("%d connections turned away, the last one from %s: %s", times, address, text)
        return MessageError(421, enhanced, f"{text}; try again later")


class Entrance(Protocol):
    """Where a session begins and ends."""

    def admit(self, session: Stoppable, address: str) -> MessageError | None:
        """Take one more, from *address* (``client_of``); or what it is told when it is one too many."""

    async def move(self, session: Stoppable, to: str) -> MessageError | None:
        """See Admission."""

    def discard(self, session: Stoppable) -> None:
        """It has gone, or was never in."""


class Sessions:
    """The sessions over all addresses of the listener; an Entrance."""

    def __init__(self, admission: Admission) -> None:
        self._admission = admission
        self._members: dict[Stoppable, tuple[Admission, str]] = {}
        self.on_empty: Callable[[], None] | None = None
        """Called when the last one has gone."""

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Stoppable]:
        return iter(tuple(self._members))

    def admit(self, session: Stoppable, address: str, admission: Admission | None = None) -> MessageError | None:
        """See Entrance. *admission*: asked in place of everybody's."""
        admission = admission or self._admission
        refusal = admission.admit(address)
        if refusal is None:
            self._members[session] = admission, address
        return refusal

    async def move(self, session: Stoppable, to: str) -> MessageError | None:
        """See Entrance."""
        if session not in self._members:
            return None
        admission, address = self._members[session]
        refusal = await admission.move(address, to)
        if refusal is None and session in self._members:
            self._members[session] = admission, to
        return refusal

    def through(self, admission: Admission) -> Entrance:
        """For a connection with an admission of its own: another process has counted it."""
        return _Through(self, admission)

    async def emptied(self, limit: float, clock: Clock) -> None:
        """Return when all have gone, or after *limit* seconds."""
        if not self._members:
            return
        done = asyncio.Event()
        self.on_empty = done.set
        timer = clock.call_later(limit, done.set)
        await done.wait()
        timer.cancel()

    async def drain(self, limit: float, linger: float, clock: Clock) -> None:
        """Have every session end: by itself within *limit* seconds, and then at once. *linger*: what abort may leave
        open for its own timer to end, seconds."""
        for session in self:
            session.drain()
        await self.emptied(limit, clock)
        for session in self:
            session.abort()
        await self.emptied(2 * linger, clock)

    def discard(self, session: Stoppable) -> None:
        """See Entrance."""
        admission, address = self._members.pop(session, (None, ""))
        if admission is None:
            return
        admission.left(address)
        if not self._members and self.on_empty is not None:
            self.on_empty()


class _Through(NamedTuple):
    sessions: Sessions
    admission: Admission

    def admit(self, session: Stoppable, address: str) -> MessageError | None:
        return self.sessions.admit(session, address, self.admission)

    async def move(self, session: Stoppable, to: str) -> MessageError | None:
        return await self.sessions.move(session, to)

    def discard(self, session: Stoppable) -> None:
        self.sessions.discard(session)


class Door(NamedTuple):
    """One listening address, as its sessions know it."""

    hostname: str
    listen: ListenSettings
    intake: IntakeSettings
    reception: Reception
    clock: Clock
    random_bits: Callable[[int], int]
    sessions: Entrance
    memory: IntakeMemory
    certificate: CertificateFiles | None
    """Offers STARTTLS."""
    logins: Logins | None
    """Offers AUTH, once there is TLS."""
    extensions: bytes
    """The answer to EHLO in plain text."""
    extensions_in_tls: bytes
    template: Mapping[str, Any]
    """What aiosmtpd's constructor gives an object (mcmt/intake/session.py)."""
    tracing: Tracing
    """Who watches a domain."""
    headless: Reminder
    """Counts connections dropped for want of a header of the PROXY protocol."""

    @property
    def tick(self) -> float:
        """How often a session looks at the clock: the shortest time that it could have to notice."""
        return min(self.listen.idle_timeout, self.listen.data_timeout, limits.DATA_GRACE)


def client_of(peer: str) -> str:
    """Whom an IP address stands for where clients are counted: itself, and of IPv6 its network of 64 bits."""
    try:
        address = IPv6Address(peer) if ":" in peer else None
    except ValueError:
        address = None
    if address is None:
        return peer
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(IPv6Network((int(address), _IPV6_SUBSCRIBER), strict=False))


def is_listed(peer: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    """Whether *networks* have the address *peer*. An IPv4 one inside an IPv6 one (RFC 4291 2.5.5.2) counts as both."""
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any(address in network or (mapped is not None and mapped in network) for network in networks)

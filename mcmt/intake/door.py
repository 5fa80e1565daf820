"""What the sessions of a listener share, and who may submit through it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Network, IPv6Address, IPv6Network, ip_address
from typing import Any, NamedTuple, Protocol

from mcmt.clock import Clock
from mcmt.config.settings import ListenSettings
from mcmt.intake.reception import Reception


class Stoppable(Protocol):
    """A session, as its listener sees it."""

    def drain(self) -> None:
        """Finish the message that is being received, if one is, and end."""

    def abort(self) -> None:
        """End now."""


class Sessions:
    """The sessions of one listener, over all its addresses."""

    def __init__(self) -> None:
        self._members: set[Stoppable] = set()
        self.on_empty: Callable[[], None] | None = None
        """Called when the last one has gone."""

    def __len__(self) -> int:
        return len(self._members)

    def __iter__(self) -> Iterator[Stoppable]:
        return iter(tuple(self._members))

    def add(self, session: Stoppable) -> None:
        """One more."""
        self._members.add(session)

    def discard(self, session: Stoppable) -> None:
        """It has gone, or was never in."""
        if session in self._members:
            self._members.discard(session)
            if not self._members and self.on_empty is not None:
                self.on_empty()


class Door(NamedTuple):
    """One listening address, as its sessions know it."""

    hostname: str
    listen: ListenSettings
    reception: Reception
    clock: Clock
    random_bits: Callable[[int], int]
    sessions: Sessions
    template: Mapping[str, Any]
    """What aiosmtpd's constructor gives an object (mcmt/intake/session.py)."""


def may_relay(peer: str, networks: tuple[IPv4Network | IPv6Network, ...]) -> bool:
    """Whether a client may submit. An IPv4 address inside an IPv6 one (RFC 4291 2.5.5.2) counts as both."""
    try:
        address = ip_address(peer)
    except ValueError:
        return False
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return any(address in network or (mapped is not None and mapped in network) for network in networks)

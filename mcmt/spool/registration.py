"""Registrations of devices that are pushed to by XMPP servers: what one is, and what a table of them does.

A server knows a device by the node and the secret that its app was given here; the device token stays with us.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

import msgspec

DEVICES: Final = 20
"""Registrations of one owner, at most."""


class Registration(msgspec.Struct, frozen=True, kw_only=True, gc=False):
    """One device of one user."""

    service: str
    """The JID of the component that it is registered with."""
    node: str
    """What the user's server publishes to."""
    owner: str
    """The user's bare JID."""
    device: str
    """What the user calls the device: one registration each."""
    token: str
    """The device token, lower case."""
    secret: str = ""
    """What the user's server shows; empty: nothing."""
    registered: float = 0.0
    """When it was registered last, seconds since the epoch."""
    number: int = 0
    """Grows with every new one."""


class Registrations(Protocol):
    """All of them: one table for the machine.

    Blocking; from any thread of any process of the engine; all may raise SpoolError."""

    def find(self, service: str, node: str) -> Registration | None:
        """The one of that node."""

    def of_owner(self, service: str, owner: str) -> Sequence[Registration]:
        """Those of a user, oldest first."""

    def put(self, registration: Registration) -> Registration | None:
        """Keep it; what is kept now, on disk: of a device that is registered already with the node and the secret that
        it has. None: the owner has DEVICES already, or the node is another's."""

    def remove(self, service: str, node: str = "", owner: str = "", device: str = "") -> int:
        """Let go of those that are what is given; how many it were. On disk when this returns."""

    def counts(self) -> Mapping[str, int]:
        """How many there are, by service."""

    def page(self, service: str, after: int, limit: int) -> Sequence[Registration]:
        """Up to *limit* with numbers past *after*, of *service*, or with "" of all, by number."""

"""How a component stands with its XMPP server, for those who look on."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec


class Attachment(msgspec.Struct, frozen=True, kw_only=True):
    """One component."""

    jid: str
    place: str
    """Host and port of the XMPP server."""
    connected: bool
    """The server has accepted it."""
    reason: str = ""
    """Why not, where it is not."""
    registrations: int | None = None
    """Devices that are registered with it; None: not counted."""


Watch = Callable[[Sequence[Attachment]], None]
"""Told of all components of the process whenever one has changed."""

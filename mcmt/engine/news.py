"""What the engines of one machine tell each other, so that what one has learned of a route holds for all.

A route that one has found at fault is asked by that one alone; the others wait for its word, and a little longer than
it waits itself, should it die. What speaks for and against a route's credential (mismatch_guard.py) counts together.

Rules: news may come late, twice or never: each engine finds out by itself what nobody tells it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import msgspec

Kind = Literal["suspended", "probe", "resumed", "accepted", "refused"]
"""``suspended``, ``probe``, ``resumed``: of a route's fault. ``accepted``: the gateway took a delivery of the domain;
``refused``: it refused a device token in a way that may be the credential's fault."""


class News(msgspec.Struct, frozen=True, tag="route"):
    """One thing that an engine has learned."""

    kind: Kind
    domain: str
    route: str = ""
    text: str = ""
    """The reason; of ``refused`` the token."""


Tell = Callable[[News], None]


def tell_nobody(_news: News) -> None:
    """The news of an engine that has the machine to itself."""

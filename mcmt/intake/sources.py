"""What jobs are fetched from, as ``mcmt status`` tells it."""

from __future__ import annotations

import msgspec


class SourceStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One queue on another server that this engine takes from."""

    kind: str
    """What is spoken there: ``beanstalkd``."""
    address: str
    name: str
    """Of the queue: a tube."""
    domain: str
    """Where its jobs go."""
    state: str
    """``connected``, ``connecting``, ``waiting`` (until the next attempt), or ``holding`` (the spool takes nothing)."""
    reason: str = ""
    """Why it is not connected, or nothing is taken."""
    reserved: int = 0
    """Jobs that are ours at this moment."""
    taken: int = 0
    """Jobs kept since the start."""
    repeated: int = 0
    """Jobs that came again after they were kept, and were deleted."""
    buried: int = 0
    """Jobs set aside since the start."""


def is_connected(source: SourceStatus) -> bool:
    """Whether the server gives jobs, or would if they were taken."""
    return source.state in ("connected", "holding")

"""One domain over all shards: what each of them says of it, put together."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from mcmt.control.protocol import DomainStatus
from mcmt.control.station import Seen

_GRAVITY = ("idle", "up", "no stanza", "throttled", "down", "curfew")
"""States of a domain, the one that is told last where shards differ; past them, why it is suspended."""


def by_domain(seen: Sequence[Seen]) -> list[DomainStatus]:
    """Each domain over all shards, by name."""
    parts: dict[str, list[DomainStatus]] = {}
    for one in seen:
        for domain in one.domains:
            parts.setdefault(domain.domain, []).append(domain)
    return [merge(parts[name]) for name in sorted(parts)]


def merge(parts: Sequence[DomainStatus]) -> DomainStatus:
    """One domain over all shards: counts together, the state of the one that fares worst."""
    if len(parts) == 1:
        return parts[0]

    def gravity(part: DomainStatus) -> tuple[int, bool]:
        # A shard in which nothing is due has no reason at hand.
        return _GRAVITY.index(part.state) if part.state in _GRAVITY else len(_GRAVITY), bool(part.reason)

    worst = max(parts, key=gravity)
    return msgspec.structs.replace(
        worst,
        connections=sum(part.connections for part in parts),
        in_flight=sum(part.in_flight for part in parts),
        ready=sum(part.ready for part in parts),
        held=sum(part.held for part in parts),
        queued=sum(part.queued for part in parts),
        on_hold=sum(part.on_hold for part in parts),
        high=sum(part.high for part in parts),
        bulk=sum(part.bulk for part in parts),
        rules=max((part.rules for part in parts), key=len),
        oldest=max((part.oldest for part in parts if part.oldest is not None), default=None),
        next_due=min((part.next_due for part in parts if part.next_due is not None), default=None),
    )

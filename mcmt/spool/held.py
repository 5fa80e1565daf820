"""Held deliveries: kept, and not sent until somebody lets them go.

A held delivery has a due time past all others, with the one that it had before inside it. So the index of due times
keeps pulls from it and counts it, it is never moved into another table, and its end of life is found as any other's.

Rules: pure; what is written here is read by later versions.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

from mcmt.errors import NotOut
from mcmt.spool.away import Away
from mcmt.spool.port import Change
from mcmt.spool.rows import due_at

HELD = 2**62 + 1
"""Due times from here on, in microseconds, are those of held deliveries; no other can be so late (rows.py)."""
_LATEST = 2**61


class Move(NamedTuple):
    """A delivery, and when it is due and whose it is after a change."""

    row: int
    due: int
    domain: str


def moves(change: Change, rows: Iterable[int], out: Mapping[int, Away]) -> list[Move]:
    """What a change does to deliveries that are out; nothing to those for which there is nothing to change."""
    now = due_at(change.now)
    found = []
    for row in rows:
        if row not in out:
            raise NotOut(row)
        away = out[row]
        due = due_after(change, away.due, now)
        if due is not None:
            found.append(Move(row, due, change.domain or away.domain))
    return found


def is_held(due: int) -> bool:
    """Whether a due time is that of a held delivery."""
    return due >= HELD


def due_before(due: int) -> int:
    """The due time without the hold."""
    return due - HELD if due >= HELD else due


def due_after(change: Change, due: int, now: int) -> int | None:
    """The due time after a change, in microseconds; None where there is nothing to change. *now*: the change's."""
    match change.verb:
        case "hold":
            return None if is_held(due) else HELD + min(due, _LATEST)
        case "release":
            return due_before(due) if is_held(due) else None
        case "retry":
            return None if is_held(due) or due <= now else now
        case "reroute":
            return due

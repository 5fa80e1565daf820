"""Where a message stands, as its sender is told: a page of its deliveries, each with what became of it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Final

import msgspec

from mcmt.spool.port import Entry
from mcmt.spool.standing import Ended, Standing

PAGE: Final = 1000
"""Deliveries of one answer."""


def tell(standing: Standing, limit: int) -> bytes:
    """The JSON of up to *limit* deliveries; ``next`` is there where more follow."""
    known = standing.known
    told = [(one.number, _ended(known.batch_id, one)) for one in standing.ended]
    told += [(int(one.id.rpartition("-")[2]), _pending(one)) for one in standing.pending]
    told.sort(key=lambda pair: pair[0])
    answer: dict[str, object] = {
        "id": known.batch_id,
        "received": _time(known.received),
        "total": known.deliveries,
        "deliveries": [one for _, one in told[:limit]],
    }
    if len(told) > limit:
        answer["next"] = f"/v1/messages/{known.batch_id}?after={told[limit - 1][0]}&limit={limit}"
    return msgspec.json.encode(answer)


def _ended(batch_id: str, one: Ended) -> dict[str, object]:
    return {
        "id": f"{batch_id}-{one.number}",
        "to": one.recipient,
        "token": one.token,
        "state": "delivered" if one.delivered else "failed",
        "time": _time(one.time),
        "code": one.code,
        "text": one.text,
        "remote_id": one.remote_id,
    }


def _pending(one: Entry) -> dict[str, object]:
    told: dict[str, object] = {
        "id": one.id,
        "to": one.recipient,
        "token": one.token,
        "state": "sending" if one.active else "waiting",
        "attempts": one.attempts,
        "expires": _time(one.expires),
    }
    if one.due:
        told["due"] = _time(one.due)
    if one.last:
        told["last"] = one.last
    return told


def _time(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")

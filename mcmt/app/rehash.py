"""Since when the keys of messages belong to the workers that they belong to (mcmt/workers/tracking.py).

Which worker has a key follows from their number: when that changes, a key from before may be in any shard, until it is
forgotten.
"""

from __future__ import annotations

import msgspec

from mcmt.spool.state import Scope

SCOPE = "workers"
"""Of the state store."""
_KEY = "count"


class _Count(msgspec.Struct, frozen=True):
    workers: int
    since: float


def rehashed(state: Scope, workers: int, now: float, *, begun: bool) -> float:
    """When the number of workers became *workers*, seconds since the epoch; 0.0: it was never another.

    *begun*: the folder has shards already. Keeps what it tells. Raises SpoolError.
    """
    kept = state.get(_KEY)
    last = None if kept is None else msgspec.json.decode(kept, type=_Count)
    if last is not None and last.workers == workers:
        return last.since
    since = now if begun else 0.0
    state.put(_KEY, msgspec.json.encode(_Count(workers, since)))
    return since

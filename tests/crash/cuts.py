"""The power fails at many moments of one run: each state that is left is recovered and held against the 250s."""

from __future__ import annotations

import random
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from tests.crash.disk import Disk
from tests.crash.examination import Found, examine


class Cut(NamedTuple):
    """One moment."""

    record: int
    promised: int
    """Messages that had got a 250."""
    found: Found


def cut(disk: Disk, config: Path, count: int, seed: int, after: int = 0) -> Iterator[Cut]:
    """Have the power fail at *count* random records of the journal past *after*, and after the last.

    The engine must have ended. What is on the disk afterwards is one of the states.
    """
    draw = random.Random(seed)
    records = disk.records()
    moments = sorted(draw.sample(range(after, len(records)), count))
    done = 0
    for moment in (*moments, len(records)):
        disk.replay(records[done:moment], draw)
        done = moment
        disk.restore(disk.left(draw))
        yield Cut(moment, len(disk.notes), examine(config, disk.notes))

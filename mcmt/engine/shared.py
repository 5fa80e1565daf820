"""What the queues of one engine share."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mcmt.clock import Clock
from mcmt.engine.allowance import Allowances
from mcmt.engine.news import Tell, tell_nobody
from mcmt.engine.residency import Residency
from mcmt.engine.settler import Settler
from mcmt.engine.steady_time import SteadyTime
from mcmt.spool.port import Spool


class Shared(msgspec.Struct, frozen=True):
    """The collaborators of every queue."""

    spool: Spool
    settler: Settler
    residency: Residency
    clock: Clock
    steady: SteadyTime
    random: Callable[[], float]
    allowances: Allowances
    tell: Tell = tell_nobody
    """The other engines of the machine."""

"""What the queues of one engine share."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from mcmt.clock import Clock
from mcmt.engine.allowance import Allowances
from mcmt.engine.news import Tell, tell_nobody
from mcmt.engine.residency import Residency
from mcmt.engine.rule_watch import RuleWatch
from mcmt.engine.settler import Settler
from mcmt.engine.steady_time import SteadyTime
from mcmt.spool.port import Spool
from mcmt.wire.trace import Trace, Tracing


class Shared(msgspec.Struct, frozen=True):
    """The collaborators of every queue."""

    spool: Spool
    settler: Settler
    residency: Residency
    clock: Clock
    steady: SteadyTime
    random: Callable[[], float]
    allowances: Allowances
    rules: RuleWatch
    tell: Tell = tell_nobody
    """The other engines of the machine."""
    tracing: Tracing | None = None
    """Who watches what is said on connections."""

    def trace(self, domain: str) -> Trace | None:
        """What a connection of *domain* tells what is said on it; None when nobody watches."""
        return None if self.tracing is None else self.tracing.trace(domain)

"""What the control socket says of a shaping rule that is in force at a domain."""

from __future__ import annotations

import msgspec

from mcmt.config.rules import Rule
from mcmt.engine.rulings import Ruling


class RuleStatus(msgspec.Struct, frozen=True, kw_only=True):
    """One rule that is in force at a domain."""

    rule: str
    effect: str
    """What it does."""
    reason: str
    since: float
    """Seconds since the epoch."""
    until: float | None = None
    """Likewise; None: until the domain is resumed."""
    options: tuple[str, ...] = ()
    """What it sets; of several rules that set an option the first one holds."""


def rule_status(ruling: Ruling, rule: Rule) -> RuleStatus:
    """Of *rule*, in force as *ruling* says."""
    return RuleStatus(
        rule=rule.name,
        effect=rule.effect,
        reason=ruling.reason,
        since=ruling.since,
        until=ruling.until or None,
        options=tuple(option for option, _ in rule.values),
    )

"""Why the queue of a domain sends nothing, where it does not."""

from __future__ import annotations

from mcmt.config.settings import DomainSettings
from mcmt.engine.pace import Pace
from mcmt.engine.route_health import RouteHealth


class Halts:
    """What holds one queue back."""

    def __init__(self, settings: DomainSettings) -> None:
        self.settings = settings
        self.by_hand = ""
        """Why an operator has suspended the domain; empty when none has."""
        self.by_rule = ""
        """Why a rule has; empty when none has."""
        self.homeless = False
        """No stanza serves the domain any more."""
        self.draining = False

    @property
    def held_back(self) -> bool:
        """Nothing is sent until somebody changes that: what is ready goes back to the spool."""
        return self.homeless or bool(self.by_hand or self.by_rule) or self.settings.suspend_delivery

    @property
    def stopped(self) -> bool:
        """Nothing is sent."""
        return self.draining or self.held_back

    def state(self, health: RouteHealth, pace: Pace) -> tuple[str, str]:
        """What ``mcmt status`` says of the domain, and why it is so; *health* of the route that is used now."""
        reason = self.by_hand or self.by_rule or health.fault or health.down
        if self.homeless:
            return "no stanza", reason
        if self.by_hand:
            return "suspended by hand", reason
        if self.by_rule:
            return "suspended by a rule", reason
        if self.settings.suspend_delivery:
            return "suspended by suspend_delivery", reason
        if health.fault:
            return "suspended by a route fault", reason
        if pace.quiet:
            return "curfew", str(pace.quiet)
        if health.down:
            return "down", reason
        return ("throttled", pace.throttled) if pace.throttled else ("up", reason)

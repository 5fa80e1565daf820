"""The throttles of a configuration: which bucket each domain draws on.

A throttle is inherited by reference, as Momentum's are: all domains that have it from one stanza share one bucket,
whatever the stanza is. One in a domain's own stanza is the domain's alone; one of ``"*"`` or of an expression is shared
by all domains that the stanza serves.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from mcmt.config.rate import Rate
from mcmt.config.settings import DomainSettings, Settings

MESSAGES: Final = "outbound_throttle_messages"
CONNECTIONS: Final = "outbound_throttle_connections"


def throttle_of(domain: DomainSettings, option: str) -> str:
    """The name of the bucket that *domain* draws on for *option*; empty: it has no such limit."""
    if getattr(domain, option) is None:
        return ""
    return "\n".join((option, *domain.scopes.get(option, ("domain", domain.name))))


def shown_throttle(domain: DomainSettings, option: str) -> str:
    """For people: the limit, and where it stands."""
    kind, *names = domain.scopes.get(option, ("domain", domain.name)) or ("",)
    where = {
        "": " of all domains",
        "domain_group": f" of the group {''.join(names)}",
        "rule": f" by rule {''.join(names[1:])}",
    }.get(kind, "")
    return f"{option} {getattr(domain, option)}{where}"


def throttles(settings: Settings) -> Mapping[str, Rate]:
    """Every bucket's rate, by name."""
    found: dict[str, Rate] = {}
    for domain in settings.domains.values():
        found |= rates_of(domain)
    return found


def rates_of(domain: DomainSettings) -> Mapping[str, Rate]:
    """The rates of the buckets that *domain* draws on, by name."""
    limits = (MESSAGES, domain.outbound_throttle_messages), (CONNECTIONS, domain.outbound_throttle_connections)
    return {throttle_of(domain, option): rate for option, rate in limits if rate is not None}

"""A domain's settings while rules are in force: what they set in place of what the stanza says.

Where two of them set one option, the rule that stands first in the file holds.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Any, Final

import msgspec

from mcmt.config.settings import DomainSettings

CONNECTIONS: Final = "max_outbound_connections"


def shaped(settings: DomainSettings, domain: str, in_force: Collection[str]) -> DomainSettings:
    """*settings* of *domain* with what the rules of these names set. A throttle of theirs is the domain's alone."""
    values: dict[str, Any] = {}
    scopes = dict(settings.scopes)
    for rule in settings.rules:
        if rule.name in in_force:
            for option, value in rule.values:
                if option not in values:
                    values[option] = value
                    scopes[option] = ("rule", domain, rule.name)
    return msgspec.structs.replace(settings, scopes=scopes, **values) if values else settings


def pool_of(settings: DomainSettings, domain: str) -> str:
    """The name under which *domain* borrows connections: its stanza's, or its own while a rule limits them."""
    ruled = settings.scopes.get(CONNECTIONS, ())[:1] == ("rule",)
    return f"{settings.name}\n{domain}" if ruled else settings.name

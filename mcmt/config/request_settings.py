"""The settings of the doors for clients of older push servers: a part of settings.py, through which the rest of the
code knows them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal

import msgspec

from mcmt.config.made_settings import MakeDomains


class PyapnsSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One address for clients of pyapns."""

    host: str | None
    """None: every address, IPv4 and IPv6."""
    port: int
    """0: chosen by the system, for tests."""
    production: Mapping[str, str] = {}
    """The domain of each app that is provisioned for ``production``, by its app id."""
    sandbox: Mapping[str, str] = {}
    """The same for ``sandbox``."""
    make_domains: MakeDomains | None = None
    """For apps that have none there; None: none is made."""
    return_path: str = ""
    """Who hears of failures; empty: nobody."""
    max_message_size: int = 10 * 1024**2
    """Of a request's body."""
    idle_timeout: float = 60.0
    """For one whole request, and between two of them."""

    def domain_of(self, app_id: str, environment: Literal["sandbox", "production"]) -> str:
        """The domain of an app; empty: it has none."""
        return (self.production if environment == "production" else self.sandbox).get(app_id, "")

    def served(self) -> frozenset[str]:
        """The domains that clients of this address push to."""
        return frozenset((*self.production.values(), *self.sandbox.values()))


class PropellerSettings(msgspec.Struct, frozen=True, kw_only=True):
    """One address for clients of propeller-apns."""

    host: str | None
    """None: every address, IPv4 and IPv6."""
    port: int
    """0: chosen by the system, for tests."""
    auth_token: str
    """What every client shows."""
    topics: Mapping[str, str]
    """The domain of each topic that clients push to."""
    return_path: str = ""
    """Who hears of failures; empty: nobody."""
    max_message_size: int = 64 * 1024
    """Of a request's body."""
    idle_timeout: float = 60.0
    """For one whole request, and between two of them."""

    def domain_of(self, topic: str) -> str:
        """The domain of a topic; empty: it has none."""
        return self.topics.get(topic, "")

    def served(self) -> frozenset[str]:
        """The domains that clients of this address push to."""
        return frozenset(self.topics.values())

"""What the configuration needs to know of a channel: the module that mcmt/channel/port.py describes, seen from here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Protocol

from mcmt.message.route import Route


class LoggerSchema(Protocol):
    """A channel's notification log: the stanza's name, the default file and the default formats."""

    @property
    def stanza(self) -> str:
        """``apn_logger``"""

    @property
    def logfile(self) -> str:
        """Relative to the configuration file."""

    @property
    def delivery(self) -> str:
        """Format of a D line, as the following are of T, P and M lines."""

    @property
    def tempfail(self) -> str: ...  # noqa: D102 - see delivery

    @property
    def permfail(self) -> str: ...  # noqa: D102 - see delivery

    @property
    def heartbeat(self) -> str: ...  # noqa: D102 - see delivery


class FindingSchema(Protocol):
    """What a channel found out about its options."""

    @property
    def option(self) -> str:
        """The option's name, or nothing where it is about the domain."""

    @property
    def text(self) -> str:
        """What was found."""

    @property
    def fault(self) -> bool:
        """The engine could not deliver with it."""

    @property
    def warning(self) -> bool:
        """It works and is probably not meant."""


class NeedsSchema(Protocol):
    """What a channel needs of the engine's own options (mcmt.channel.port.Needs)."""

    @property
    def longest_silence(self) -> float:
        """Seconds: ``idle_timeout`` is longer."""

    @property
    def unanswered(self) -> int:
        """Deliveries that one connection may hold."""

    @property
    def own_domain(self) -> str:
        """An option that speaks of one domain."""


class ChannelSchema(Protocol):
    """A channel's module, as far as its options go."""

    @property
    def Options(self) -> Any:  # noqa: N802 - the port's name
        """Subclass of mcmt.options.OptionsModel."""

    @property
    def MEDIA_TYPES(self) -> frozenset[str]:  # noqa: N802 - the port's name
        """Parts of an MCMT message that it renders; empty: it takes any message."""

    @property
    def SCHEMES(self) -> frozenset[str]:  # noqa: N802 - the port's name
        """Schemes of its routes."""

    @property
    def LOGGER(self) -> LoggerSchema | None:  # noqa: N802 - the port's name
        """Its notification log, if it has one."""

    def check(self, options: Any, routes: Sequence[Route]) -> Sequence[FindingSchema]:
        """Open what the options name and say what was found. Never raises."""


def needs_of(channel: ChannelSchema, options: Any, routes: Sequence[Route]) -> NeedsSchema | None:
    """What *channel* needs of the engine's options; None of one that does not export ``needs``."""
    needs = getattr(channel, "needs", None)
    return None if needs is None else needs(options, routes)


Channels = Mapping[str, ChannelSchema]
"""By name: the values of ``delivery_method``."""

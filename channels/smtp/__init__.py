"""The channel ``smtp``: hands mail to a smarthost.

Routes are ``smtp://host[:port]``, port 25 when not given; MX is not looked up. It takes the whole message, or the
``message/rfc822`` part of an MCMT message. The folder by what it knows: options (the domain's), opening (look-up, TCP,
EHLO, STARTTLS), connection (the session), transaction and verdicts (the dialogue, and what its replies mean), outgoing
(what is sent), content and reencode (the message made to fit the server).
"""

from __future__ import annotations

from collections.abc import Mapping

from mcmt.channel.port import LoggerDefaults, Reading, Report, State, Target
from mcmt.clock import Clock
from mcmt.message.model import Part
from mcmt.message.route import Route

from .connection import SmtpConnection
from .opening import open_session
from .options import Options, check

__all__ = ["LOGGER", "MEDIA_TYPES", "SCHEMES", "Options", "check", "connect", "read"]

MEDIA_TYPES: frozenset[str] = frozenset()
SCHEMES = frozenset({"smtp"})
LOGGER: LoggerDefaults | None = None
"""As at Momentum, mail is in the main log."""


def read(part: Part, recipient: str, context: Mapping[str, str], options: Options) -> Reading:  # noqa: ARG001 - the port's
    """One delivery, to the recipient itself."""
    return Reading(part, (Target(recipient, None),))


async def connect(route: Route, options: Options, report: Report, clock: Clock, state: State) -> SmtpConnection:  # noqa: ARG001 - the port's
    """Open a session. Raises ConnectError or RouteFaultError."""
    return await open_session(route, options, report, clock)

"""Whether bounces have a way: they are mail to the senders of what failed, routed like any mail."""

from __future__ import annotations

from collections.abc import Mapping

from mcmt.config.channel_schema import Channels
from mcmt.config.faults import Checker
from mcmt.config.settings import DomainSettings


def check_bounce_routes(checker: Checker, channels: Channels, domains: Mapping[str, DomainSettings]) -> None:
    """Warn where no domain carries mail; where only some do, say which return paths have a route."""
    if not any(domain.generate_bounces for domain in domains.values()):
        return
    mail = [name for name, domain in domains.items() if not channels[domain.delivery_method].MEDIA_TYPES]
    if not mail:
        checker.warn(
            ("domain",),
            "no route for bounces: no domain carries mail, so no sender is told of a failure; add a domain for the "
            'senders\' addresses, or "*" for every other domain, or set generate_bounces: false',
            key=True,
        )
    elif "*" not in mail:
        checker.find(("domain",), f'bounces have a route only to {", ".join(mail)}: there is no "*" that carries mail')

"""Tells the news of a domain's routes: to the operator, to the ledger, and to the other engines of the machine."""

from __future__ import annotations

import logging
from typing import cast, get_args

from mcmt.config.settings import DomainSettings
from mcmt.engine.news import Kind as NewsKind
from mcmt.engine.news import News
from mcmt.engine.shared import Shared
from mcmt.engine.verdict import storable
from mcmt.message.event import Event, Kind

log = logging.getLogger(__name__)

_FOR_OTHERS = frozenset(get_args(NewsKind))


class Herald:
    """Of one domain."""

    def __init__(self, domain: str, settings: DomainSettings, shared: Shared) -> None:
        self._domain = domain
        self._settings = settings
        self._shared = shared

    def tell(self, route: str, news: str, reason: str) -> None:
        """*news* in one word: down, up, suspended, probe, resumed."""
        reason = storable(reason)
        if news in _FOR_OTHERS:
            self._shared.tell(News(cast(NewsKind, news), self._domain, route, reason))
        log.warning("%s: route %s is %s: %s", self._domain, route, news, reason)
        self._shared.settler.record(
            Event(
                kind=Kind.ROUTE,
                time=self._shared.clock.time(),
                channel=self._settings.delivery_method,
                domain=self._domain,
                phase=news,
                text=f"{route}: {reason}",
            )
        )

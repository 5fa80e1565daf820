"""Which events a webhook is sent, and as what: the JSON of ``format: json`` (mcmt/eventlog/jsonline.py) with two names
before it, ``event_id`` and ``kind``.

| kind | of the events |
|---|---|
| received, delivered, transient, permanent, rejected, quarantined | R, D, T, P, J, Q |
| token | G: a device token is gone, invalid, or registered again |
| alert | N with the news ``alert`` |
| route | N with any other news: down, up, suspended, resumed ... |

An event belongs to its domain, a rejection to its recipient's. Where domains are chosen, what belongs to none is not
sent.

Rules: pure, and the same for the same event each time; called in the event log's thread. Never raises.
"""

from __future__ import annotations

import msgspec

from mcmt.config.patterns import OTHERS, patterns_among
from mcmt.config.webhook_settings import WebhookSettings
from mcmt.eventlog.jsonline import compile_json, compile_token_json
from mcmt.eventlog.ledger import WORDS
from mcmt.eventlog.tokens import compile_tokens
from mcmt.message.event import Event, Kind

_ALERT = "alert"
_KINDS = {kind: WORDS[kind.value] for kind in Kind if kind.value in WORDS} | {Kind.TOKEN: "token"}


class Selection:
    """Of one webhook."""

    def __init__(self, settings: WebhookSettings) -> None:
        self._kinds = frozenset(settings.events)
        domains = settings.domains
        self._domains = None if domains is None else frozenset(domains)
        self._patterns = patterns_among(domains or ())
        self._hide_tokens = compile_tokens(settings.token_log)
        self._event = compile_json()
        self._token = compile_token_json()

    def line(self, event: Event, event_id: str) -> bytes | None:
        """The event as JSON; None: it is not for this webhook. *event_id*: letters, digits, dashes."""
        kind = _kind(event)
        if kind not in self._kinds or not self._takes(event):
            return None
        try:
            shown = event if self._hide_tokens is None else self._hide_tokens(event)
            text = (self._token if event.kind is Kind.TOKEN else self._event)(shown)
            return f'{{"event_id":"{event_id}","kind":"{kind}",{text[1:]}'.encode()
        except Exception as error:  # one event that cannot be rendered must not stop the log
            told = {"event_id": event_id, "kind": kind, "type": event.kind.value, "time": event.time}
            return msgspec.json.encode(told | {"text": f"[internal] cannot be rendered: {type(error).__name__}"})

    def _takes(self, event: Event) -> bool:
        if self._domains is None:
            return True
        domain = event.domain
        if event.kind is Kind.REJECTION:
            domain = event.recipient.rpartition("@")[2].lower()
        return bool(domain) and (domain in self._domains or self._patterns.stanza_of(domain) != OTHERS)


def _kind(event: Event) -> str:
    if event.kind is Kind.ROUTE and event.phase == _ALERT:
        return _ALERT
    return _KINDS.get(event.kind, "")

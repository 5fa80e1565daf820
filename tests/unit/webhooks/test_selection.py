"""Which events a webhook is sent, and what they look like."""

from __future__ import annotations

import json
from typing import Any

import pytest

from mcmt.config.webhook_settings import WebhookSettings
from mcmt.message.event import Event, Kind
from mcmt.webhooks.selection import Selection
from tests.support.webhook_receiver import SECRET

TOKEN = "ab" * 32
ALL = ("received", "delivered", "transient", "permanent", "rejected", "token", "route", "alert", "quarantined")


def told(event: Event, **options: Any) -> dict[str, Any] | None:
    settings = WebhookSettings(name="a", url="https://x/", secret=(SECRET,), **{"events": ALL, **options})
    line = Selection(settings).line(event, "0-17-3")
    return None if line is None else json.loads(line)


def event(kind: Kind = Kind.DELIVERY, **fields: Any) -> Event:
    return Event(kind=kind, time=1.5, **{"domain": "a.example.com", **fields})


@pytest.mark.parametrize(
    ("kind", "phase", "word"),
    [
        (Kind.RECEPTION, "", "received"),
        (Kind.DELIVERY, "", "delivered"),
        (Kind.TRANSIENT, "", "transient"),
        (Kind.PERMANENT, "", "permanent"),
        (Kind.ROUTE, "suspended", "route"),
        (Kind.ROUTE, "alert", "alert"),
        (Kind.QUARANTINE, "", "quarantined"),
        (Kind.TOKEN, "gone", "token"),
    ],
)
def test_each_kind_has_its_word_and_is_sent_when_it_is_asked_for(kind: Kind, phase: str, word: str) -> None:
    found = told(event(kind, phase=phase, id="d-1"), events=(word,))
    assert found is not None
    assert (found["event_id"], found["kind"], found["type"], found["time"]) == ("0-17-3", word, kind.value, 1.5)
    assert told(event(kind, phase=phase), events=tuple(each for each in ALL if each != word)) is None


def test_a_heartbeat_is_sent_to_nobody() -> None:
    assert told(Event(kind=Kind.HEARTBEAT, time=1.0, channel="a")) is None


@pytest.mark.parametrize(
    ("domains", "taken"),
    [
        (None, True),
        (("a.example.com",), True),
        (("/^A[.]/",), True),
        (("b.example.com", "/^b[.]/"), False),
    ],
)
def test_domains_are_chosen_by_name_and_by_expression(domains: tuple[str, ...] | None, taken: bool) -> None:
    assert (told(event(), domains=domains) is not None) is taken


def test_a_rejection_is_its_recipients_and_what_is_of_no_domain_is_sent_to_those_who_take_all() -> None:
    rejection = event(Kind.REJECTION, domain="", recipient="x@A.example.com")
    assert told(rejection, domains=("a.example.com",)) is not None
    assert told(rejection, domains=("b.example.com",)) is None
    alert = event(Kind.ROUTE, phase="alert", domain="")
    assert told(alert, domains=("a.example.com",)) is None
    assert told(alert) is not None


@pytest.mark.parametrize("token_log", ["masked", "hash", "none"])
@pytest.mark.parametrize("kind", [Kind.DELIVERY, Kind.TOKEN])
def test_tokens_are_hidden_as_token_log_says(token_log: str, kind: Kind) -> None:
    found = told(event(kind, token=TOKEN, recipient=f"{TOKEN}@a.example.com"), token_log=token_log)
    assert TOKEN not in json.dumps(found)


def test_octets_that_are_not_utf_8_and_line_ends_are_json_all_the_same() -> None:
    found = told(event(text="a\udcff\u2028\n", recipient='"\udc80"@a.example.com'))
    assert found is not None
    assert found["text"] == "a\\xFF\u2028\n"


def test_what_cannot_be_rendered_is_told_of(monkeypatch: pytest.MonkeyPatch) -> None:
    broken = Event(kind=Kind.DELIVERY, time=1.5, domain="a.example.com", queued="soon")  # type: ignore[arg-type]
    found = told(broken)
    assert found is not None
    assert (found["kind"], found["text"]) == ("delivered", "[internal] cannot be rendered: TypeError")

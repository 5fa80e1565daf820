"""What a throttle's option means, and whose bucket it is."""

from __future__ import annotations

import jsonschema
import pytest
from pydantic import TypeAdapter

from mcmt.config.explain import explain
from mcmt.config.rate import Rate, parse_rate
from mcmt.config.shaping import RateText
from mcmt.config.throttle import CONNECTIONS, MESSAGES, shown_throttle, throttle_of, throttles
from tests.unit.config.support import LISTENER, SPOOL, Configuration

HEAD = SPOOL + LISTENER
SINK = 'delivery_method: discard, routes: ["discard://sink"]'


@pytest.mark.parametrize(
    ("written", "count", "period"),
    [
        (100, 100, 1.0),
        ("100", 100, 1.0),
        ("100/1", 100, 1.0),
        ("100/60", 100, 60.0),
        ("7/0.5", 7, 0.5),
        ("100/s", 100, 1.0),
        ("5000/min", 5000, 60.0),
        ("5000 / 5 min", 5000, 300.0),
        ("20/h", 20, 3600.0),
        ("1000/day", 1000, 86400.0),
    ],
)
def test_a_rate_is_momentums_or_has_a_unit(written: object, count: int, period: float) -> None:
    assert parse_rate(written) == Rate(count, period)
    assert parse_rate(str(Rate(count, period))) == Rate(count, period), "as it is shown it can be written"


@pytest.mark.parametrize(
    "written", ["100", "5/60", "5 / 60", "7/0.5", "7/0.5s", "5/ 5 min", "1000/day", "5/", "5/ ", "\u0663/s", "1.5", "x"]
)
def test_an_editor_takes_what_is_taken_here(written: str) -> None:
    try:
        parse_rate(written)
    except ValueError:
        taken = False
    else:
        taken = True
    schema = TypeAdapter(RateText).json_schema()
    assert jsonschema.Draft202012Validator(schema).is_valid(written) is taken


@pytest.mark.parametrize("written", [0, "0", "0/60"])
def test_nought_is_no_limit(written: object) -> None:
    assert parse_rate(written) is None


def test_what_is_no_rate_is_a_fault_with_its_place(configuration: Configuration) -> None:
    for wrong in ("fast", "-1", "1.5", "true", "1/", "1/0", "1/x", "[1]", "9999999999", "99999999/s"):
        text = f"{HEAD}domain:\n  a.example.com: {{{SINK},\n    outbound_throttle_messages: {wrong}}}\n"
        (fault,) = configuration.faults(text)
        assert ":5:33: domain.a.example.com.outbound_throttle_messages: " in fault, fault
        assert "rate" in fault, wrong


def test_a_throttle_is_shared_by_all_that_have_it_from_one_stanza(configuration: Configuration) -> None:
    text = f"""\
{HEAD}
outbound_throttle_messages: 100/s
domain_group:
  apps:
    members: [a.example.com, b.example.com, c.example.com]
    outbound_throttle_messages: 50/s
domain:
  a.example.com: {{{SINK}}}
  b.example.com: {{{SINK}}}
  c.example.com: {{{SINK}, outbound_throttle_messages: 10/s, outbound_throttle_connections: 1/min}}
  d.example.com: {{{SINK}}}
  e.example.com: {{{SINK}}}
  free.example.com: {{{SINK}, outbound_throttle_messages: null}}
  unlimited.example.com: {{{SINK}, outbound_throttle_messages: 0}}
  "/x/": {{{SINK}, outbound_throttle_messages: 3}}
"""
    loaded = configuration.load(text)
    domains = loaded.settings.domains
    bucket = {name.partition(".")[0]: throttle_of(domain, MESSAGES) for name, domain in domains.items()}
    assert bucket["a"] == bucket["b"]
    assert bucket["d"] == bucket["e"]
    assert len({bucket[name] for name in ("a", "c", "d", "/x/")}) == 4
    assert bucket["free"] == bucket["unlimited"] == ""
    rates = throttles(loaded.settings)
    assert {name: str(rates[bucket[name]]) for name in ("a", "c", "d", "/x/")} == {
        "a": "50/1",
        "c": "10/1",
        "d": "100/1",
        "/x/": "3/1",
    }
    assert rates[throttle_of(domains["c.example.com"], CONNECTIONS)] == Rate(1, 60.0)
    assert shown_throttle(domains["a.example.com"], MESSAGES) == "outbound_throttle_messages 50/1 of the group apps"
    assert shown_throttle(domains["d.example.com"], MESSAGES) == "outbound_throttle_messages 100/1 of all domains"
    assert shown_throttle(domains["c.example.com"], MESSAGES) == "outbound_throttle_messages 10/1"
    explained = explain(loaded, "a.example.com")
    assert explained is not None
    (option,) = [one for one in explained.options if one.option == MESSAGES]
    assert (option.value, option.scope) == ("50/1", "group apps")

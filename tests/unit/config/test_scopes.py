"""Top level < group < domain; expressions after exact names, in their order, and then "*"."""

from __future__ import annotations

import pytest

from mcmt.config.patterns import Patterns
from tests.unit.config.support import LISTENER, SPOOL, Configuration

HEAD = SPOOL + LISTENER
SINK = 'delivery_method: discard, routes: ["discard://sink"]'


def test_what_is_nearer_to_the_domain_holds(configuration: Configuration) -> None:
    text = f"""\
{HEAD}
retry_interval: 10
idle_timeout: 20
connect_timeout: 5
domain_group:
  apps:
    members: [a.example.com, b.example.com, C.Example.com.]
    {SINK.replace(", routes", chr(10) + "    routes")}
    idle_timeout: 30
    connect_timeout: 6
domain:
  a.example.com: {{connect_timeout: 7}}
  other.example.com: {{{SINK}}}
"""
    settings = configuration.load(text).settings
    values = {
        name: (domain.retry_interval, domain.idle_timeout, domain.connect_timeout)
        for name, domain in settings.domains.items()
    }
    assert values == {
        "a.example.com": (10, 30, 7),
        "other.example.com": (10, 20, 5),
        "b.example.com": (10, 30, 6),
        "c.example.com": (10, 30, 6),
    }
    assert [domain.name for domain in settings.domains.values()] == list(settings.domains)


def test_each_option_knows_the_stanza_that_it_comes_from(configuration: Configuration) -> None:
    text = f"""\
{HEAD}
retry_interval: 10
domain_group: {{apps: {{members: [a.example.com], {SINK}, idle_timeout: 30}}}}
domain: {{a.example.com: {{connect_timeout: 7}}, "/x/": {{{SINK}}}}}
"""
    domains = configuration.load(text).settings.domains
    group = ("domain_group", "apps")
    assert domains["a.example.com"].scopes == {
        "retry_interval": (),
        "delivery_method": group,
        "routes": group,
        "idle_timeout": group,
        "connect_timeout": ("domain", "a.example.com"),
    }
    assert domains["/x/"].scopes["routes"] == ("domain", "/x/")


def test_a_limit_of_a_group_holds_for_each_member_by_itself(configuration: Configuration) -> None:
    text = f"""\
{HEAD}domain_group: {{apps: {{members: [a.example.com, b.example.com], {SINK}, max_outbound_connections: 3}}}}
"""
    settings = configuration.load(text).settings
    # Connections are lent by the stanza's name.
    assert {settings.connections_of(stanza) for stanza in ("a.example.com", "b.example.com")} == {3}


def test_null_takes_back_what_a_group_or_the_top_level_gives(configuration: Configuration) -> None:
    text = f"""\
{HEAD}
retry_interval: 10
domain_group:
  apps: {{members: [a.example.com, b.example.com], {SINK}, idle_timeout: 77, retry_interval: null}}
domain: {{a.example.com: {{idle_timeout: null}}}}
"""
    domains = configuration.load(text).settings.domains
    assert [each.idle_timeout for each in domains.values()] == [300, 77]
    assert [each.retry_interval for each in domains.values()] == [30, 30]
    text = f"{HEAD}domain_group: {{apps: {{members: [a.example.com], {SINK}, idle_timeout: }}}}\n"
    assert configuration.fault(text).endswith(
        "domain_group.apps.idle_timeout: has no value; give it one or remove the line"
    )


@pytest.mark.parametrize(
    ("group", "fault"),
    [
        ("members: [a, b], idle_timeout: x", "domain_group.apps.idle_timeout: expected a duration"),
        ("members: []", "domain_group.apps.members: needs at least 1 of them, got []"),
        ("idle_timeout: 3", "domain_group.apps.members: is missing"),
        ("members: [a, 'a b']", "domain_group.apps.members.1: expected a domain name"),
        ("members: ['*']", "domain_group.apps.members.0: a group has domains; an expression, or *, is a stanza"),
        ("members: ['/a/']", "domain_group.apps.members.0: a group has domains; an expression"),
        ("members: [a, A]", "domain_group.apps.members.1: is in the group apps already"),
        ("members: [a], apn_topic: x", "domain_group.apps.apn_topic: is not an option here; it is one of the ch"),
        ("members: [a], idle_timeuot: 3", "domain_group.apps.idle_timeuot: unknown option; did you mean idle_t"),
        ("members: [own], idle_timeout: x", "domain_group.apps.idle_timeout: expected a duration"),
        ("members: [own], idle_timeuot: 3", "domain_group.apps.idle_timeuot: unknown option; did you mean idle_t"),
    ],
)
def test_a_fault_of_a_group_is_told_once_and_at_its_place(configuration: Configuration, group: str, fault: str) -> None:
    text = f"{HEAD}domain: {{own: {{{SINK}, idle_timeout: 9}}}}\n\ndomain_group: {{apps: {{{group}, {SINK}}}}}\n"
    faults = configuration.faults(text.replace("\n\n", "\n"))
    assert len(faults) == 1
    assert faults[0].startswith("mcmt.yaml:4:")
    assert f": {fault}" in faults[0]


def test_exact_before_expression_in_order_before_every_other(configuration: Configuration) -> None:
    text = f"""\
{HEAD}
domain_group: {{apps: {{members: [apn.group.example.com], {SINK}}}}}
domain:
  "*": {{{SINK}}}
  "/^apn\\\\./": {{{SINK}, max_outbound_connections: 2}}
  "/EXAMPLE/": {{{SINK}}}
  apn.exact.example.com: {{{SINK}}}
"""
    settings = configuration.load(text).settings

    def stanza(domain: str) -> str:
        found = settings.domain(domain)
        assert found is not None
        return found.name

    assert stanza("apn.exact.example.com") == "apn.exact.example.com"
    assert stanza("apn.group.example.com") == "apn.group.example.com"
    assert stanza("apn.any.example.com") == stanza("apn.net") == r"/^apn\./"
    assert stanza("my-apn.example.com") == "/EXAMPLE/"  # anywhere, and whatever the case
    assert stanza("elsewhere.net") == stanza("x" * 300 + "example") == "*"
    assert settings.connections_of(r"/^apn\./") == 2


def test_without_a_stanza_for_every_other_domain_what_matches_nothing_has_none(configuration: Configuration) -> None:
    settings = configuration.load(f'{HEAD}domain: {{"/^a/": {{{SINK}}}}}\n').settings
    assert settings.domain("b.example.com") is None
    assert settings.domain("a.example.com") is settings.domains["/^a/"]


@pytest.mark.parametrize(("name", "fault"), [("/[/", "not a regular expression: "), ("//", "expected an expression")])
def test_an_expression_that_is_none_is_a_fault(configuration: Configuration, name: str, fault: str) -> None:
    text = f"{HEAD}domain: {{d.example.com: {{{SINK}}}, '{name}': {{{SINK}}}}}\n"
    assert fault in configuration.faults(text)[0]


def test_what_was_looked_up_is_remembered_within_bounds() -> None:
    """Clients choose the domains: what they choose must neither be matched anew for each recipient nor be kept."""
    patterns = Patterns(["/^a/"])
    for number in range(10_000):
        assert patterns.stanza_of(f"a{number}") == "/^a/"
        patterns.stanza_of("a0")
    remembered = patterns._remembered.cache_info()
    assert remembered.currsize < 5000
    assert remembered.hits >= 9_999

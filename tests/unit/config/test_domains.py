"""A domain has the engine's options and its channel's, over the defaults at top level."""

from __future__ import annotations

import pytest

from mcmt.config.settings import DomainSettings
from mcmt.message.route import Route
from tests.unit.config.support import LISTENER, SPOOL, Configuration

HEAD = SPOOL + LISTENER
SINK = 'delivery_method: discard, routes: ["discard://sink"]'


def domain(configuration: Configuration, options: str, top: str = "") -> DomainSettings:
    text = f"{HEAD}{top}domain: {{d.example.com: {{{SINK}, {options}}}}}\n"
    return configuration.load(text).settings.domains["d.example.com"]


def test_what_is_not_given_has_the_default_of_the_settings(configuration: Configuration) -> None:
    settings = domain(configuration, "")
    route = Route("discard", "sink")
    assert settings == DomainSettings(
        name="d.example.com",
        delivery_method="discard",
        routes=(route,),
        options=settings.options,
        scopes=settings.scopes,
    )


def test_top_level_is_the_default_and_the_stanza_overrides_it(configuration: Configuration) -> None:
    text = f"""\
{HEAD}
idle_timeout: 1m
max_outbound_connections: 5
delivery_method: discard
routes: ["discard://sink"]
domain:
  a.example.com: {{}}
  b.example.com: {{idle_timeout: 7, routes: ["discard://other"]}}
  c.example.com:
"""
    domains = configuration.load(text).settings.domains

    assert [each.idle_timeout for each in domains.values()] == [60.0, 7.0, 60.0]
    assert [each.max_outbound_connections for each in domains.values()] == [5, 5, 5]
    assert [str(each.routes[0]) for each in domains.values()] == [
        "discard://sink",
        "discard://other",
        "discard://sink",
    ]


def test_null_takes_a_default_back(configuration: Configuration) -> None:
    assert domain(configuration, "idle_timeout: null", "idle_timeout: 60\n").idle_timeout == 300.0
    assert configuration.fault(f"{HEAD}domain: {{d.example.com: {{{SINK}, idle_timeout: }}}}\n").endswith(
        "domain.d.example.com.idle_timeout: has no value; give it one or remove the line"
    )


def test_a_default_of_a_channel_is_taken_by_the_domains_of_that_channel(configuration: Configuration) -> None:
    text = f"""\
{HEAD}
apn_topic: com.example.app
tls_verify: ca
domain:
  d.example.com: {{{SINK}}}
  a.example.com: {{delivery_method: apn, routes: ["apn://localhost:2197"]}}
"""
    domains = configuration.load(text, open_files=False).settings.domains

    assert domains["a.example.com"].options.apn_topic == "com.example.app"
    assert domains["a.example.com"].options.tls_verify == "ca"
    assert not hasattr(domains["d.example.com"].options, "apn_topic")


def test_a_faulty_default_is_one_fault_at_its_own_place_however_many_domains_take_it(
    configuration: Configuration,
) -> None:
    text = f"{HEAD}retry_interval: soon\ndomain:\n  a.example.com: {{{SINK}}}\n  b.example.com: {{{SINK}}}\n"
    assert configuration.fault(text) == (
        "mcmt.yaml:3:17: retry_interval: "
        "expected a duration such as 30, 30s or 500ms (a bare number counts in s), got 'soon'"
    )


def test_a_faulty_default_is_a_fault_even_when_no_domain_takes_it(configuration: Configuration) -> None:
    text = f"{HEAD}apn_expiry: soon\nidle_timeout: 0\ndomain: {{a.example.com: {{{SINK}, idle_timeout: 5}}}}\n"
    assert configuration.faults(text) == [
        "mcmt.yaml:3:13: apn_expiry: "
        "expected a duration such as 30, 30s or 500ms (a bare number counts in s), got 'soon'",
        "mcmt.yaml:4:15: idle_timeout: must be more than 0, got 0",
    ]


@pytest.mark.parametrize(
    ("option", "fault"),
    [
        (
            "apn_topic: x",
            "apn_topic: is not an option here; it is one of the channel apn, and delivery_method is discard",
        ),
        ("retry_intervall: 1", "retry_intervall: unknown option; did you mean retry_interval?"),
        (
            "relay_hosts: []",
            "relay_hosts: is not an option here; it belongs to an address below esmtp_listener.listen",
        ),
        ("generate_bounces: maybe", "generate_bounces: expected true or false, got 'maybe'"),
        (
            "max_retries: -1",
            "max_retries: expected auto (until the message expires), none (the same) or a whole number",
        ),
        ("max_outbound_connections: 0", "max_outbound_connections: must be at least 1, got 0"),
        ("message_expiration: 22:22", "message_expiration: expected a duration such as 30, 30s or 500ms (a bare"),
        ("suspend_delivery: maybe", "suspend_delivery: expected true or false, got 'maybe'"),
        ("ambiguous: drop", "ambiguous: expected 'retry' or 'fail', got 'drop'"),
        (
            "retry_interval: 1h, max_retry_interval: 10m",
            "max_retry_interval: max_retry_interval (600 s) is less than retry_interval (3600 s)",
        ),
    ],
)
def test_an_option_that_cannot_be_meant_is_a_fault(configuration: Configuration, option: str, fault: str) -> None:
    found = configuration.fault(f"{HEAD}domain: {{d.example.com: {{{SINK}, {option}}}}}\n")
    assert f": domain.d.example.com.{fault}" in found


@pytest.mark.parametrize(("written", "meant"), [("auto", None), ("none", None), ("0", 0), ("5", 5)])
def test_retries_are_counted_or_last_until_expiry(
    configuration: Configuration, written: str, meant: int | None
) -> None:
    assert domain(configuration, f"max_retries: {written}").max_retries == meant


@pytest.mark.parametrize(("written", "meant"), [("yes", True), ("off", False), ("true", True)])
def test_a_switch_takes_yamls_words(configuration: Configuration, written: str, meant: bool) -> None:
    assert domain(configuration, f"suspend_delivery: {written}").suspend_delivery is meant


@pytest.mark.parametrize("word", ["no", "off", '"no"'])
def test_a_word_that_yaml_takes_for_a_boolean_is_meant_where_a_word_is_wanted(
    configuration: Configuration, word: str
) -> None:
    text = f'{HEAD}domain: {{a: {{delivery_method: apn, routes: ["apn://localhost"], tls_verify: {word}}}}}\n'
    assert configuration.load(text, open_files=False).settings.domains["a"].options.tls_verify == "no"


def test_a_long_retry_interval_raises_the_limit_that_nobody_set(configuration: Configuration) -> None:
    assert domain(configuration, "retry_interval: 1200").max_retry_interval == 1200.0
    assert domain(configuration, "retry_interval: 10").max_retry_interval == 900.0


def test_domain_names_are_compared_as_routing_does(configuration: Configuration) -> None:
    text = f"{HEAD}domain:\n  D.Example.com: {{{SINK}}}\n"
    assert list(configuration.load(text).settings.domains) == ["d.example.com"]
    assert configuration.fault(text + f"  d.example.com.: {{{SINK}}}\n") == (
        "mcmt.yaml:5:3: domain.d.example.com.: is the same domain as D.Example.com; keep one of the two"
    )
    assert "mcmt.yaml:5:3" in configuration.fault(text + f'  "a b": {{{SINK}}}\n')
    # Norway is no boolean.
    assert "no" in configuration.load(text + f"  no: {{{SINK}}}\n").settings.domains


def test_a_domain_needs_a_channel_and_a_route(configuration: Configuration) -> None:
    assert configuration.faults(f"{HEAD}domain:\n  a.example.com: {{}}\n") == [
        "mcmt.yaml:4:3: domain.a.example.com.delivery_method: is missing",
        "mcmt.yaml:4:3: domain.a.example.com.routes: is missing",
    ]


def test_a_route_to_apples_old_gateway_goes_to_its_successor_with_a_warning(configuration: Configuration) -> None:
    text = f"""\
{HEAD}domain:
  a.example.com:
    delivery_method: apn
    routes: ["apn://gateway.push.apple.com?port=2195", "apn://gateway.sandbox.push.apple.com:2195"]
"""
    loaded = configuration.load(text, open_files=False)

    assert [str(route) for route in loaded.settings.domains["a.example.com"].routes] == [
        "apn://api.push.apple.com:443",
        "apn://api.sandbox.push.apple.com:443",
    ]
    retired = [str(warning).partition("mcmt.yaml")[2] for warning in loaded.warnings if "switched off" in warning.text]
    assert retired == [
        ":6:14: domain.a.example.com.routes.0: "
        "gateway.push.apple.com has been switched off; its deliveries go to api.push.apple.com:443",
        ":6:56: domain.a.example.com.routes.1: "
        "gateway.sandbox.push.apple.com has been switched off; its deliveries go to api.sandbox.push.apple.com:443",
    ]


BINARY = """domain:
  a.example.com:
    delivery_method: apn
    routes: ["apn://gateway.push.apple.com:2195?protocol=binary"]
"""


def test_the_binary_protocol_is_not_silently_replaced(configuration: Configuration) -> None:
    loaded = configuration.load(HEAD + BINARY, open_files=False)

    (route,) = loaded.settings.domains["a.example.com"].routes
    assert str(route) == "apn://gateway.push.apple.com:2195?protocol=binary"


def test_a_channel_that_waits_for_silence_has_room_for_what_it_waits_for(configuration: Configuration) -> None:
    def resident(text: str) -> int:
        return configuration.load(text, open_files=False).settings.domains["a.example.com"].max_resident_active_queue

    assert resident(HEAD + BINARY) == 20_000
    assert resident(f"{HEAD}{BINARY}    apn_window: 500\n") == 3000
    assert resident(f"{HEAD}{BINARY}    max_resident_active_queue: 70\n") == 70
    assert resident(f"{HEAD}{BINARY}".replace("?protocol=binary", "?protocol=http2")) == 3000


def test_idle_timeout_is_longer_than_the_silence_that_means_delivered(configuration: Configuration) -> None:
    told = "idle_timeout (4 s) has to be longer than delivery_response_timeout (5 s)"
    faults = configuration.faults(f"{HEAD}{BINARY}    idle_timeout: 4\n")
    assert f"mcmt.yaml:7:19: domain.a.example.com.idle_timeout: {told}" in faults
    faults = configuration.faults(f"{HEAD}idle_timeout: 4\n{BINARY}")
    assert f"mcmt.yaml:3:15: idle_timeout: {told}" in faults
    loaded = configuration.load(f"{HEAD}{BINARY}    idle_timeout: 6\n", open_files=False)
    assert loaded.settings.domains["a.example.com"].idle_timeout == 6


def test_a_drain_that_does_not_wait_for_silence_is_a_warning(configuration: Configuration) -> None:
    def told(text: str) -> list[str]:
        warnings = configuration.load(text, open_files=False).warnings
        return [warning.text for warning in warnings if "drain_timeout" in warning.text]

    (warning,) = told(f"{HEAD}drain_timeout: 3\n{BINARY}")
    assert warning.startswith("drain_timeout (3 s) is less than delivery_response_timeout (5 s): ")
    assert told(f"{HEAD}drain_timeout: 5\n{BINARY}") == []


def test_options_of_an_older_configuration_that_do_nothing_are_warnings(configuration: Configuration) -> None:
    text = f"""\
{HEAD}domain:
  a.example.com:
    delivery_method: apn
    routes: ["apn://localhost"]
    tls: "required"
    generate_bounces: false
apn_logger: {{one: }}
"""
    (warning,) = configuration.load(text, open_files=False).warnings
    assert ":7:5: domain.a.example.com.tls: has no effect: " in str(warning)


def test_what_a_channel_finds_comes_out_with_the_place_of_its_option(
    configuration: Configuration,
) -> None:
    text = f"""\
{HEAD}domain:
  a.example.com:
    delivery_method: apn
    routes: ["apn://localhost"]
    apn_key_id: SHORT
    tls_verify: no
"""
    assert configuration.faults(text) == [
        "mcmt.yaml:4:3: domain.a.example.com.apn_team_id: is missing: a provider token names its key and its team",
        "mcmt.yaml:7:17: domain.a.example.com.apn_key_id: expected 10 capital letters and digits, got 'SHORT'",
        "mcmt.yaml:7:17: domain.a.example.com.apn_key_id: needs apn_auth_key, Apple's .p8 file",
    ]


def test_an_internationalised_domain_is_known_by_its_a_label(configuration: Configuration) -> None:
    text = 'domain: {Bücher.example: {delivery_method: discard, routes: ["discard://sink"]}}\n'
    settings = configuration.load(SPOOL + LISTENER + text).settings
    assert list(settings.domains) == ["xn--bcher-kva.example"]
    twice = text[:-2] + ', xn--bcher-kva.example: {delivery_method: discard, routes: ["discard://sink"]}}\n'
    assert configuration.fault(SPOOL + LISTENER + twice).endswith(
        "is the same domain as Bücher.example; keep one of the two"
    )


def test_a_channels_own_name_is_the_files_hostname_unless_it_has_one(configuration: Configuration) -> None:
    """Else a machine whose name has no dot would greet mail servers by its address."""
    text = (
        "hostname: mx.example.com\n" + HEAD + "domain:\n"
        '  "*": {delivery_method: smtp, routes: ["smtp://localhost"]}\n'
        '  a.example: {delivery_method: smtp, routes: ["smtp://localhost"], helo_name: out.example.com}\n'
    )
    domains = configuration.load(text).settings.domains
    names = {name: getattr(domain.options, "helo_name", None) for name, domain in domains.items()}
    assert names == {"*": "mx.example.com", "a.example": "out.example.com"}


def test_a_feedback_service_belongs_to_one_domain_and_its_options_are_named_as_its_own(
    configuration: Configuration,
) -> None:
    text = f"""\
{HEAD}
delivery_method: apn
routes: ["apn://localhost"]
domain_group:
  all: {{members: [c.example.com], feedback: {{route: "apn-feedback://localhost"}}}}
domain:
  "*":
    feedback: {{route: "apn-feedback://localhost"}}
  a.example.com:
    feedback: {{rout: 1, route: "apn-feedback://localhost", interval: 0}}
  b.example.com:
    feedback: often
  D.example.com:
    feedback: {{route: "apn-feedback://localhost"}}
"""
    faults = [fault.partition(": domain")[2] for fault in configuration.faults(text) if ".feedback" in fault]
    assert sorted(faults) == [
        ".*.feedback: speaks of one domain's tokens: give it in that domain's own stanza",
        ".a.example.com.feedback.interval: must be more than 0, got 0",
        ".a.example.com.feedback.rout: unknown option; did you mean route?",
        ".b.example.com.feedback: expected options below it, as name: value lines, got 'often'",
        "_group.all.feedback: speaks of one domain's tokens: give it in that domain's own stanza",
    ]

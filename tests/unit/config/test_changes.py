"""What a configuration that is read again changes, and what it cannot change while the engine runs."""

from __future__ import annotations

from mcmt.config.changes import Changes, DomainChange, changes_between
from tests.unit.config.support import LISTENER, SPOOL, Configuration

SINK = 'delivery_method: discard, routes: ["discard://sink"]'
DOMAINS = f"domain: {{a.example.com: {{{SINK}}}, b.example.com: {{{SINK}}}}}\n"


def changes(configuration: Configuration, before: str, now: str) -> Changes:
    running = configuration.load(before).settings
    return changes_between(running, configuration.load(now).settings)


def test_the_same_file_changes_nothing(configuration: Configuration) -> None:
    text = SPOOL + LISTENER + DOMAINS
    found = changes(configuration, text, text)
    assert (found.domains, found.options, found.restart) == ((), (), ())
    assert found.settings == configuration.load(text).settings


def test_what_is_inherited_changes_every_domain_that_inherits_it(configuration: Configuration) -> None:
    own = DOMAINS.replace(f"b.example.com: {{{SINK}", f"b.example.com: {{{SINK}, idle_timeout: 30")
    found = changes(configuration, SPOOL + LISTENER + own, SPOOL + LISTENER + own + "idle_timeout: 20\n")
    assert found.domains == (DomainChange("a.example.com", "changed", ("idle_timeout",)),)


def test_what_needs_a_restart_stays_as_it_was_and_is_named(configuration: Configuration) -> None:
    before = SPOOL + LISTENER + DOMAINS
    now = before.replace("path: spool", "path: other") + "workers: 2\nmonitor: {max_metric_domains: 7}\n"
    found = changes(configuration, before, now)
    assert found.restart == ("workers", "spool", "control", "monitor", "ec_logger.default.mainlog")
    running = configuration.load(before).settings
    assert found.settings == running
    assert changes_between(found.settings, configuration.load(now).settings).restart == found.restart


def test_an_address_that_is_bound_takes_its_options_and_another_one_needs_a_restart(
    configuration: Configuration,
) -> None:
    def listener(addresses: str) -> str:
        return f"{SPOOL}{DOMAINS}esmtp_listener: {{listen: {{{addresses}}}}}\n"

    found = changes(
        configuration,
        listener('"127.0.0.1:2525": {}, "127.0.0.1:2526": {}'),
        listener('"[::1]:2527": {}, "127.0.0.1:2525": {max_errors: 7}'),
    )
    assert found.options == ('esmtp_listener.listen."127.0.0.1:2525".max_errors',)
    assert found.restart == ('esmtp_listener.listen."127.0.0.1:2526"', 'esmtp_listener.listen."[::1]:2527"')
    assert [(one.port, one.max_errors) for one in found.settings.listen] == [(2525, 7), (2526, 20)]


def test_the_order_of_expressions_is_a_change(configuration: Configuration) -> None:
    head = SPOOL + LISTENER + "domain:\n"
    one, two = f'  "/^a/": {{{SINK}}}\n', f'  "/b$/": {{{SINK}}}\n'
    found = changes(configuration, head + one + two, head + two + one)
    assert found.options == ("domain",)
    assert found.settings.domain("ab").name == "/b$/"  # type: ignore[union-attr] # it is there


def test_doors_take_their_options_and_what_they_are_bound_to_needs_a_restart(configuration: Configuration) -> None:
    common = (
        SPOOL + LISTENER + "apn_topic: com.example.app\ntls_certificate: client.pem\n"
        'domain: {p.example.com: {delivery_method: apn, routes: ["apn://localhost:9"], generate_bounces: false}}\n'
    )
    before = (
        common
        + f"""
apns_gateway:
  listen:
    "127.0.0.1:2195": {{tls_certificate: one.pem, client_ca: ca.pem, domain: p.example.com, feedback: "127.0.0.1:2196"}}
pyapns: {{listen: {{"127.0.0.1:7077": {{sandbox: {{app: p.example.com}}}}}}}}
propeller: {{listen: {{"127.0.0.1:5000": {{auth_token: one, topics: {{a: p.example.com}}}}}}}}
beanstalkd: {{connect: {{"127.0.0.1:11300": {{tubes: {{a: p.example.com}}}}}}}}
http_listener:
  listen: {{"127.0.0.1:8025": {{tls_certificate: one.pem}}, "127.0.0.1:8026": {{}}}}
  tokens: {{stays: {{hash: "sha256:{"0" * 64}"}}, goes: {{hash: "sha256:{"1" * 64}"}}}}
"""
    )
    now = (
        common
        + f"""
apns_gateway:
  listen:
    "127.0.0.1:2195": {{tls_certificate: two.pem, client_ca: ca.pem, domain: p.example.com, feedback: "127.0.0.1:2197"}}
pyapns: {{listen: {{"127.0.0.1:7077": {{production: {{app: p.example.com}}}}}}}}
propeller: {{listen: {{"127.0.0.1:5001": {{auth_token: one, topics: {{a: p.example.com}}}}}}}}
beanstalkd: {{connect: {{"127.0.0.1:11301": {{tubes: {{a: p.example.com}}}}}}}}
http_listener:
  status_retention: 2d
  listen: {{"127.0.0.1:8025": {{idle_timeout: 7}}, "127.0.0.1:8026": {{}}}}
  tokens: {{stays: {{hash: "sha256:{"0" * 64}"}}, comes: {{hash: "sha256:{"1" * 64}"}}}}
"""
    )
    running = configuration.load(before, open_files=False).settings
    found = changes_between(running, configuration.load(now, open_files=False).settings)
    assert found.options == (
        'apns_gateway.listen."127.0.0.1:2195".tls_certificate',
        'pyapns.listen."127.0.0.1:7077".production',
        'pyapns.listen."127.0.0.1:7077".sandbox',
        'http_listener.listen."127.0.0.1:8025".idle_timeout',
        "http_listener.status_retention",
        "http_listener.tokens.goes",
        "http_listener.tokens.comes",
        'beanstalkd.connect."127.0.0.1:11300"',
        'beanstalkd.connect."127.0.0.1:11301"',
    )
    assert found.restart == (
        'apns_gateway.listen."127.0.0.1:2195".feedback',
        'propeller.listen."127.0.0.1:5000"',
        'propeller.listen."127.0.0.1:5001"',
        'http_listener.listen."127.0.0.1:8025".tls_certificate',
    )
    assert found.settings.addresses == running.addresses
    assert found.settings.http.listen[0].tls_certificate is not None
    assert found.settings.http.listen[0].idle_timeout == 7
    assert {one.name for one in found.settings.http.tokens.values()} == {"stays", "comes"}

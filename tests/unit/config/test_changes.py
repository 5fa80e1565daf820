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
    assert found.restart == ("workers", "spool", "control", "monitor", "ec_logger.default")
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

"""The ``webhook`` stanza."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcmt.config.changes import changes_between
from tests.unit.config.support import LISTENER, SPOOL, Configuration

SECRET = "whsec_MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY="
SINK = 'delivery_method: discard, routes: ["discard://sink"]'
DOMAINS = f"""
domain:
  a.example.com: {{{SINK}}}
  b.example.com: {{{SINK}}}
  "/^x[.]/": {{{SINK}}}
domain_group: {{apps: {{members: [B.example.com.]}}}}
"""


def hook(options: str, name: str = "shop") -> str:
    return f"{SPOOL}{LISTENER}{DOMAINS}webhook: {{{name}: {{{options}}}}}\n"


def good(options: str = "", url: str = "https://hooks.example.com/in") -> str:
    return hook(f'url: "{url}", secret: {SECRET}, {options}')


def test_without_the_stanza_there_are_none(configuration: Configuration) -> None:
    assert configuration.load(f"{SPOOL}{LISTENER}{DOMAINS}").settings.webhooks == ()


def test_every_option_arrives(configuration: Configuration) -> None:
    text = hook(
        f'url: "https://[::1]:8443/in?x=y", secret: [{SECRET}, {SECRET}], events: [rejected], groups: [apps], '
        'domains: [A.example.com., x.example.com, "/^c[.]/"], token_log: none, batch_size: 5, batch_wait: 10ms, '
        "timeout: 3, retry_interval: 1m, max_retry_interval: 1h, max_queue_size: 2MB"
    )
    (one,) = configuration.load(text).settings.webhooks
    assert (one.name, one.url, one.secret, one.events) == (
        *("shop", "https://[::1]:8443/in?x=y", (SECRET, SECRET), ("rejected",)),
    )
    assert one.domains == ("a.example.com", "x.example.com", "/^c[.]/", "b.example.com")
    assert (one.token_log, one.batch_size, one.batch_wait, one.timeout) == ("none", 5, 0.01, 3.0)
    assert (one.retry_interval, one.max_retry_interval, one.max_queue_size) == (60.0, 3600.0, 2 * 1024**2)


def test_by_default_it_takes_final_outcomes_tokens_and_alerts_of_all_domains(configuration: Configuration) -> None:
    (one,) = configuration.load(good()).settings.webhooks
    assert (one.events, one.domains) == (("delivered", "permanent", "token", "alert"), None)


def test_a_secret_may_stand_in_a_file(configuration: Configuration, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text(SECRET + "\n")
    (tmp_path / "secret").chmod(0o600)
    (one,) = configuration.load(hook('url: "https://x.example.com/", secret: !file secret')).settings.webhooks
    assert one.secret == (SECRET,)
    several = hook(f'url: "https://x.example.com/", secret: [!file secret, {SECRET}]')
    (one,) = configuration.load(several).settings.webhooks
    assert one.secret == (SECRET, SECRET)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (good(url="ftp://hooks.example.com"), "expected a URL such as"),
        (good(url="https:///in"), "expected a URL such as"),
        (good(url="https://x.example.com:99999/"), "expected a URL such as"),
        (good(url="https://x.example.com/a b"), "expected a URL such as"),
        (good(url="https://x.example.com/a\\r\\nX: y"), "expected a URL such as"),
        (good(url="https://x.example.com/#a"), "has a user or a fragment"),
        (hook(f"secret: {SECRET}"), "webhook.shop.url: is missing"),
        (hook('url: "https://x.example.com/"'), "webhook.shop.secret: is missing"),
        (hook('url: "https://x.example.com/", secret: []'), "needs at least 1 of them"),
        (good("events: delivered"), "expected a list such as [a, b]"),
        (good("events: [opened]"), "expected 'received', 'delivered'"),
        (good("domains: [c.example.com]"), "there is no domain c.example.com"),
        (good('domains: ["/[/"]'), "not a regular expression"),
        (good("groups: [none]"), "there is no group none below domain_group"),
        (good("tls_ca: none.pem"), "none.pem cannot be read: No such file or directory"),
        (good("tls_ca: mcmt.yaml"), "mcmt.yaml holds no certificate (PEM)"),
        (good("retry_interval: 10m"), "is less than retry_interval"),
        (good("max_queue_size: 1KB"), "must be at least 1048576"),
        (hook(f'url: "https://x.example.com/", secret: {SECRET}', name='"a.b"'), "expected a name of up to 64 letters"),
    ],
)
def test_what_is_wrong_is_told_with_its_place(configuration: Configuration, text: str, fault: str) -> None:
    assert fault in configuration.fault(text)


@pytest.mark.parametrize("secret", ["918273", "whsec_918273", "whsec_91827391827391827391827391827391827!", "[918273]"])
def test_neither_the_secret_nor_the_url_is_shown_whatever_is_wrong_with_it(
    configuration: Configuration, secret: str
) -> None:
    faults = configuration.faults(hook(f'url: "https://user:h4sl0@x.example.com/918273", secret: {secret}'))
    assert faults
    assert not any("918273" in fault or "h4sl0" in fault for fault in faults)


@pytest.mark.parametrize(("url", "warned"), [("http://x.example.com/", True), ("http://127.0.0.1:1/", False)])
def test_http_to_another_machine_is_a_warning(configuration: Configuration, url: str, warned: bool) -> None:
    assert any("use https" in each for each in configuration.warnings(good(url=url))) is warned


def test_a_reload_names_what_changes_and_needs_no_restart(configuration: Configuration) -> None:
    before = configuration.load(good()).settings
    found = changes_between(before, configuration.load(good("timeout: 3")).settings)
    assert (found.options, found.restart) == (("webhook.shop.timeout",), ())
    assert found.settings.webhooks[0].timeout == 3.0
    found = changes_between(before, configuration.load(good().replace("shop", "other")).settings)
    assert found.options == ("webhook.shop", "webhook.other")

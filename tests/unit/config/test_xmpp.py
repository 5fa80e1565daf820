"""``xmpp_component``."""

from __future__ import annotations

import pytest

from tests.unit.config.support import LISTENER, SPOOL, Configuration
from tests.unit.config.test_gateways import DOMAINS

GIVEN = "jid: Push.Example.com, secret: s3cret, domain: A.example.com."


def component(options: str = GIVEN, address: str = '"127.0.0.1:5347"') -> str:
    return f"{SPOOL}{LISTENER}{DOMAINS}xmpp_component: {{{address}: {{{options}}}}}\n"


def test_without_the_stanza_there_is_none(configuration: Configuration) -> None:
    assert configuration.load(f"{SPOOL}{LISTENER}{DOMAINS}", open_files=False).settings.xmpp == ()


def test_every_option_arrives(configuration: Configuration) -> None:
    (short,) = configuration.load(component(), open_files=False).settings.xmpp
    assert (short.jid, short.place, short.domain) == ("push.example.com", "127.0.0.1:5347", "a.example.com")
    # Whose component push.example.com is.
    assert short.serves("example.com")
    assert not short.serves("example.net")
    more = (
        'apps: {chat: a.example.com}, servers: [Example.net], alert_title: "{sender} {count}", alert_body: "{body}", '
        'badge: true, sound: "", mutable_content: true, return_path: push@example.com, max_stanza_size: 64KB'
    )
    (long,) = configuration.load(component(f"{GIVEN}, {more}", '"[::1]:5347"'), open_files=False).settings.xmpp
    assert (long.place, dict(long.apps), set(long.servers)) == (
        "[::1]:5347",
        {"chat": "a.example.com"},
        {"example.net"},
    )
    assert (long.alert_title, long.alert_body, long.badge, long.sound) == ("{sender} {count}", "{body}", True, "")
    assert (long.mutable_content, long.return_path, long.max_stanza_size) == (True, "push@example.com", 65536)


def test_serving_everyone_is_warned_of(configuration: Configuration) -> None:
    loaded = configuration.load(component(f'{GIVEN}, servers: ["*"]'), open_files=False)
    assert loaded.settings.xmpp[0].serves("anyone.example.net")
    assert any("users of every XMPP server" in str(warning) for warning in loaded.warnings)


@pytest.mark.parametrize("given", ["918273", "[s3cr3t-918273]", "{s3cr3t: 918273}", "918273.5"])
def test_the_secret_is_not_shown_whatever_is_wrong_with_it(configuration: Configuration, given: str) -> None:
    text = component(f"jid: push.example.com, secret: {given}, domain: a.example.com")
    faults = [fault for fault in configuration.faults(text) if "xmpp" in fault]
    assert len(faults) == 1
    assert "918273" not in faults[0]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (component("jid: push.example.com, secret: s"), "domain"),
        (component("jid: push.example.com, secret: s, domain: b.example.com"), "there is no domain b.example.com"),
        (component("jid: push.example.com, secret: s, domain: d.example.com"), "which takes no push"),
        (component(f"{GIVEN}, apps: {{x: b.example.com}}"), "there is no domain b.example.com"),
        (component("jid: push, secret: s, domain: a.example.com"), "name the XMPP domains that are served"),
        (component("jid: a b, secret: s, domain: a.example.com"), "expected a host name"),
        (component(f"{GIVEN}, alert_body: '{{text}}'"), "there is no {text}; there are {body}, {count}, {sender}"),
        (component(f"{GIVEN}, alert_body: {'x' * 201}"), "at most 200 characters"),
        (component(f"{GIVEN}, return_path: x"), "expected a mail address"),
        (component(f"{GIVEN}, max_stanza_size: 1GB"), "would never fit"),
        (component(GIVEN, '":5347"'), "the XMPP server's address and port"),
        (component(GIVEN, '"5347"'), "expected an address and a port"),
        (f"{SPOOL}{LISTENER}{DOMAINS}xmpp_component: {{}}\n", "there is no XMPP server"),
        (f"{SPOOL}{LISTENER}{DOMAINS}xmpp_component: {{jid: x}}\n", "belongs to an XMPP server below"),
    ],
)
def test_what_is_wrong_is_said(configuration: Configuration, text: str, fault: str) -> None:
    assert any(fault in found for found in configuration.faults(text)), configuration.faults(text)

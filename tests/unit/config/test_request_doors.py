"""Addresses for clients of pyapns and propeller-apns."""

from __future__ import annotations

import pytest

from mcmt.config.settings import AddressSettings
from tests.unit.config.support import LISTENER, SPOOL, Configuration
from tests.unit.config.test_gateways import DOMAINS


def doors(pyapns: str = "", propeller: str = "") -> str:
    text = f"{SPOOL}{LISTENER}{DOMAINS}"
    if pyapns:
        text += f"pyapns: {{listen: {{{pyapns}}}}}\n"
    if propeller:
        text += f"propeller: {{listen: {{{propeller}}}}}\n"
    return text


def test_without_the_stanzas_there_are_none(configuration: Configuration) -> None:
    settings = configuration.load(doors(), open_files=False).settings
    assert (settings.pyapns, settings.propeller) == ((), ())
    assert [address.word for address in settings.addresses] == ["SMTP"]


def test_every_option_arrives(configuration: Configuration) -> None:
    settings = configuration.load(
        doors(
            '"127.0.0.1:7077": {production: {app: A.example.com.}, sandbox: {"sandbox:x": a.example.com}, '
            "return_path: push@example.com, max_message_size: 1MB, idle_timeout: 5m}",
            '"127.0.0.1:8080": {auth_token: secret, topics: {com.example.app: a.example.com}}',
        ),
        open_files=False,
    ).settings
    (pyapns,), (propeller,) = settings.pyapns, settings.propeller
    assert (pyapns.domain_of("app", "production"), pyapns.domain_of("app", "sandbox")) == ("a.example.com", "")
    assert pyapns.domain_of("sandbox:x", "sandbox") == "a.example.com"
    assert (pyapns.return_path, pyapns.max_message_size, pyapns.idle_timeout) == ("push@example.com", 1024**2, 300.0)
    assert (propeller.auth_token, propeller.domain_of("com.example.app")) == ("secret", "a.example.com")
    assert settings.addresses[1:] == (
        AddressSettings("127.0.0.1", 7077, "pyapns.listen", "pyapns"),
        AddressSettings("127.0.0.1", 8080, "propeller.listen", "propeller"),
    )


@pytest.mark.parametrize("given", ["918273", "[s3cr3t-918273]", "{s3cr3t: 918273}", "918273.5"])
def test_the_auth_token_is_not_shown_whatever_is_wrong_with_it(configuration: Configuration, given: str) -> None:
    entry = f'"127.0.0.1:8080": {{auth_token: {given}, topics: {{t: a.example.com}}}}'
    faults = [fault for fault in configuration.faults(doors(propeller=entry)) if "propeller" in fault]
    assert len(faults) == 1
    assert "918273" not in faults[0]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (doors('"127.0.0.1:7077": {}'), "no app has a domain; name some in production or sandbox"),
        (doors('"127.0.0.1:7077": {sandbox: {app: b.example.com}}'), "there is no domain b.example.com to push to"),
        (doors('"127.0.0.1:7077": {sandbox: {app: d.example.com}}'), "which takes no push"),
        (doors('"7077": {sandbox: {app: a.example.com}}'), "expected an address and a port"),
        (doors('"127.0.0.1:7077": {sandbox: {app: a.example.com}, return_path: x}'), "expected a mail address"),
        (doors('"127.0.0.1:7077": {sandbox: {app: a.example.com}, max_message_size: 1GB}'), "would never fit"),
        (
            doors(
                '"127.0.0.1:7077": {sandbox: {app: a.example.com}}',
                '"127.0.0.1:7077": {auth_token: x, topics: {t: a.example.com}}',
            ),
            "already takes this address and port",
        ),
        (doors(propeller='"127.0.0.1:8080": {topics: {t: a.example.com}}'), "auth_token"),
        (doors() + "pyapns: {}\n", "there is no address to listen on"),
        (doors() + "pyapns: {production: {a: b}}\n", "it belongs to an address below pyapns.listen"),
    ],
)
def test_what_is_wrong_is_said(configuration: Configuration, text: str, fault: str) -> None:
    assert any(fault in found for found in configuration.faults(text)), configuration.faults(text)

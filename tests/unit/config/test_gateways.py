"""Addresses on which senders of the binary protocol are served."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcmt.channel.port import Finding
from mcmt.config.load import load
from mcmt.config.settings import AddressSettings
from mcmt.errors import ConfigError
from tests.unit.config.support import LISTENER, SPOOL, Configuration

DOMAINS = (
    "generate_bounces: false\n"
    'domain:\n  a.example.com: {delivery_method: apn, routes: ["apn://localhost"]}\n'
    '  d.example.com: {delivery_method: discard, routes: ["discard://sink"]}\n'
    "apn_logger: {one: {}}\n"
)
NEEDED = "tls_certificate: cert.pem, client_ca: ca.pem"


def gateway(entries: str) -> str:
    return f"{SPOOL}{LISTENER}{DOMAINS}apns_gateway: {{listen: {{{entries}}}}}\n"


def one(options: str) -> str:
    return gateway(f'"127.0.0.1:2195": {{{NEEDED}, {options}}}')


def faults(configuration: Configuration, text: str) -> list[str]:
    """Of the gateway; the domain has no credential either."""
    return [fault for fault in configuration.faults(text) if "apns_gateway" in fault]


def test_without_the_stanza_there_is_none(configuration: Configuration) -> None:
    settings = configuration.load(SPOOL + LISTENER + DOMAINS, open_files=False).settings
    assert settings.gateways == ()
    assert [address.word for address in settings.addresses] == ["SMTP"]


def test_every_option_arrives(configuration: Configuration) -> None:
    entry = one(
        'tls_key: key.pem, domain: A.example.com., feedback: "[::1]:2196", '
        "return_path: push@example.com, idle_timeout: 5m"
    )
    settings = configuration.load(entry, open_files=False).settings
    (found,) = settings.gateways
    assert (found.host, found.port, found.feedback) == ("127.0.0.1", 2195, ("::1", 2196))
    assert (found.domain, found.domains, found.served()) == ("a.example.com", {}, frozenset({"a.example.com"}))
    assert found.client_ca == configuration.folder / "ca.pem"
    assert found.tls_key == configuration.folder / "key.pem"
    assert (found.return_path, found.idle_timeout) == ("push@example.com", 300.0)
    assert settings.addresses[1:] == (
        AddressSettings("127.0.0.1", 2195, "apns_gateway.listen", "apns gateway"),
        AddressSettings("::1", 2196, "apns_gateway.listen", "apns feedback"),
    )


def test_a_fingerprint_is_taken_as_openssl_writes_it(configuration: Configuration) -> None:
    written = ":".join(["AB"] * 32)
    (found,) = configuration.load(
        one(f'domains: {{"{written}": a.example.com, com.example.app: a.example.com}}'), open_files=False
    ).settings.gateways
    assert found.domains == {"ab" * 32: "a.example.com", "com.example.app": "a.example.com"}


@pytest.mark.parametrize(
    ("options", "text"),
    [
        ("idle_timeout: 5m", "give one of domain (every client's) and domains (by client)"),
        ("domain: a.example.com, domains: {x: a.example.com}", "give one of domain (every client's) and domains"),
        ("domain: b.example.com", "domain: there is no domain b.example.com to push to"),
        ("domains: {x: b.example.com}", "domains.x: there is no domain b.example.com to push to"),
        ("domain: d.example.com", "domain: d.example.com has delivery_method: discard, which takes no push"),
        ("domain: a.example.com, feedback: here", "feedback: expected an address and a port"),
        ('domain: a.example.com, feedback: "127.0.0.1:2525"', "feedback: 127.0.0.1:2525 of esmtp_listener already"),
        ('domain: a.example.com, feedback: "127.0.0.1:2195"', "feedback: 127.0.0.1:2195 already takes this address"),
        ("domain: a.example.com, return_path: nobody", "return_path: expected a mail address"),
        (f"domains: {{{'ab' * 32}: a.example.com, {'AB' * 32}: a.example.com}}", "this client is there already"),
        ("domain: a.example.com, users_file: users", "users_file: unknown option"),
    ],
)
def test_what_cannot_be_meant_is_a_fault(configuration: Configuration, options: str, text: str) -> None:
    (fault,) = faults(configuration, one(options))
    assert text in fault


def test_all_faults_are_found_in_one_run(configuration: Configuration) -> None:
    text = gateway('"127.0.0.1:2525": {}, "nowhere": {tls_certificate: 5, client_ca: ca.pem, domain: x}')
    found = faults(configuration, text)
    assert [fault.partition(": ")[2].partition(": ")[0].removeprefix("apns_gateway.listen.") for fault in found] == [
        "127.0.0.1:2525",
        "127.0.0.1:2525.client_ca",
        "127.0.0.1:2525.tls_certificate",
        "nowhere",
        "nowhere.tls_certificate",
    ]
    assert found[0].startswith("mcmt.yaml:")


def test_an_empty_stanza_and_an_option_beside_listen_are_faults(configuration: Configuration) -> None:
    found = faults(configuration, f"{SPOOL}{LISTENER}{DOMAINS}apns_gateway: {{domain: a.example.com}}\n")
    assert [fault.partition("apns_gateway")[2] for fault in found] == [
        '.listen: there is no address to listen on; add one such as "127.0.0.1:2195": {...}',
        ".domain: is not an option here; it belongs to an address below apns_gateway.listen",
    ]


def test_too_little_memory_for_one_read_is_a_fault(configuration: Configuration) -> None:
    listener = 'esmtp_listener: {max_intake_bytes: 600KB, listen: {"127.0.0.1:25": {max_message_size: 100KB}}}\n'
    text = one("domain: a.example.com").replace(LISTENER, listener)
    (fault,) = faults(configuration, text)
    assert "max_intake_bytes, and there are 614400" in fault


def test_what_is_found_in_the_files_stands_at_their_options(configuration: Configuration, tmp_path: Path) -> None:
    file = tmp_path / "gateway.yaml"
    file.write_text(one("domain: a.example.com"))
    with pytest.raises(ConfigError) as caught:
        load(
            file,
            configuration.channels,
            check_gateway=lambda gateway: [Finding("client_ca", f"{gateway.client_ca.name} is none", fault=True)],
            full_hostname=lambda: "host.example.com",
        )
    assert any(str(each).endswith("2195.client_ca: ca.pem is none") for each in caught.value.faults)

"""Addresses on which mail is taken, and who may submit there."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from mcmt.channel.port import Finding
from mcmt.config.listeners import parse_address
from mcmt.config.settings import ListenSettings
from tests.unit.config.support import DOMAIN, SPOOL, Configuration

APN = 'domain: {a.example.com: {delivery_method: apn, routes: ["apn://localhost"]}}\napn_logger: {one: {}}\n'


def listen(entries: str) -> str:
    return f"{SPOOL}{DOMAIN}esmtp_listener: {{listen: {{{entries}}}}}\n"


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [
        ("127.0.0.1:2525", "127.0.0.1", 2525),
        ("[::1]:2525", "::1", 2525),
        ("[0:0:0:0:0:0:0:1]:25", "::1", 25),
        (":2525", None, 2525),
        ("localhost:0", "localhost", 0),
        ("MX.example.com:25", "mx.example.com", 25),
    ],
)
def test_an_address_is_a_host_and_a_port(text: str, host: str | None, port: int) -> None:
    assert parse_address(text) == (host, port)


@pytest.mark.parametrize(
    "text",
    ["2525", "127.0.0.1", "::1:25", "[::1]", "[::g]:25", "1.2.3:25", "1.2.3.400:25", ":65536", "*:25", "a b:1", ""],
)
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"expected an address|is not an IPv"):
        parse_address(text)


def test_by_default_only_this_machine_may_submit_and_mcmt_is_plain_mail(configuration: Configuration) -> None:
    (entry,) = configuration.load(listen('"127.0.0.1:2525": {}')).settings.listen

    assert entry.relay_hosts == (ip_network("127.0.0.0/8"), ip_network("::1/128"))
    assert entry.mcmt_reception == "passthru"
    assert entry.max_message_size == 10 * 1024 * 1024


def test_an_empty_entry_has_the_defaults(configuration: Configuration) -> None:
    text = f'{SPOOL}{DOMAIN}esmtp_listener:\n  listen:\n    "127.0.0.1:2525":\n    "[::1]:2525":\n'
    assert [entry.host for entry in configuration.load(text).settings.listen] == ["127.0.0.1", "::1"]


@pytest.mark.parametrize(
    ("first", "second"),
    [
        ("127.0.0.1:25", "0.0.0.0:25"),
        (":25", "127.0.0.1:25"),
        ("[::1]:25", "[0::1]:25"),
        ("[::]:25", "[::1]:25"),
        ("mx:25", "MX:25"),
    ],
)
def test_two_entries_for_one_address_are_a_fault(configuration: Configuration, first: str, second: str) -> None:
    assert configuration.fault(listen(f'"{first}": {{}}, "{second}": {{}}')).endswith(
        f"esmtp_listener.listen.{second}: {first} already takes this address and port; keep one of the two"
    )


@pytest.mark.parametrize(
    ("first", "second"),
    [("127.0.0.1:25", "[::1]:25"), ("127.0.0.1:25", "127.0.0.2:25"), (":25", ":26"), ("127.0.0.1:0", ":0")],
)
def test_entries_that_differ_stand_side_by_side(configuration: Configuration, first: str, second: str) -> None:
    assert len(configuration.load(listen(f'"{first}": {{}}, "{second}": {{}}')).settings.listen) == 2


def test_an_option_beside_listen_says_where_it_belongs(configuration: Configuration) -> None:
    text = f'{SPOOL}{DOMAIN}esmtp_listener:\n  mcmt_reception: allow\n  listen: {{"127.0.0.1:25": {{}}}}\n'
    assert configuration.fault(text) == (
        "mcmt.yaml:4:3: esmtp_listener.mcmt_reception: "
        "is not an option here; it belongs to an address below esmtp_listener.listen"
    )


def test_a_push_domain_behind_a_passthru_listener_is_a_warning(configuration: Configuration) -> None:
    listener = 'esmtp_listener: {listen: {"127.0.0.1:25": {}, "127.0.0.1:26": {mcmt_reception: allow}}}\n'
    text = f"generate_bounces: false\n{SPOOL}{APN}{listener}"
    (warning,) = configuration.load(text, open_files=False).warnings
    assert "listen.127.0.0.1:25.mcmt_reception: is passthru" in str(warning)
    assert "554 5.6.1" in str(warning)


def test_a_channel_that_takes_plain_mail_needs_no_mcmt(configuration: Configuration) -> None:
    assert configuration.warnings(listen('"127.0.0.1:25": {}')) == []


def test_an_open_and_a_closed_door_are_warnings(configuration: Configuration) -> None:
    (everyone,) = configuration.warnings(listen('"127.0.0.1:25": {relay_hosts: ["0.0.0.0/0"]}'))
    assert everyone.endswith("relay_hosts: lets everyone submit mail without a password")
    for option in ("proxy_protocol", "authorized_xclient_hosts"):
        (anybody,) = configuration.warnings(listen(f'"127.0.0.1:25": {{{option}: ["::/0"]}}'))
        assert f"{option}: lets everyone say that he is somebody else" in anybody
    (nobody,) = configuration.warnings(listen('"127.0.0.1:25": {relay_hosts: []}'))
    assert nobody.endswith("relay_hosts: is empty and there is no users_file, so nobody may submit mail here")


def test_what_holds_over_all_addresses_stands_beside_them(configuration: Configuration) -> None:
    text = (
        f"{SPOOL}{DOMAIN}esmtp_listener:\n  max_connections: 7\n  max_intake_bytes: 64MB\n"
        '  auth_failure_window: 1h\n  listen: {"127.0.0.1:25": {idle_timeout: 1m, min_data_rate: 1KB}}\n'
    )
    settings = configuration.load(text).settings
    assert settings.intake.max_connections == 7
    assert settings.intake.max_intake_bytes == 64 * 1024**2
    assert settings.intake.auth_failure_window == 3600.0
    assert settings.intake.auth_failures_per_session == 3
    (entry,) = settings.listen
    assert (entry.idle_timeout, entry.min_data_rate) == (60.0, 1024)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("max_connections: 0", "max_connections: must be at least 1, got 0"),
        ("max_conections: 5", "max_conections: unknown option; did you mean max_connections?"),
        (
            "max_intake_bytes: 1MB",
            "max_message_size: a message of 10485760 bytes needs 31457280 bytes of memory, and "
            "esmtp_listener.max_intake_bytes is 1048576, so that it would never fit; change one",
        ),
    ],
)
def test_limits_that_cannot_be_meant(configuration: Configuration, text: str, fault: str) -> None:
    document = f'{SPOOL}{DOMAIN}esmtp_listener:\n  {text}\n  listen: {{"127.0.0.1:25": {{}}}}\n'
    assert configuration.fault(document).endswith(fault)


@pytest.mark.parametrize("option", ["tls_key: key.pem", "users_file: users", "require_tls: true"])
def test_what_needs_tls_says_so(configuration: Configuration, option: str) -> None:
    fault = configuration.fault(listen(f'"127.0.0.1:25": {{{option}}}'))
    assert f"listen.127.0.0.1:25.{option.partition(':')[0]}: needs tls_certificate" in fault


def test_a_limit_of_the_listener_in_an_address_says_where_it_belongs(configuration: Configuration) -> None:
    fault = configuration.fault(listen('"127.0.0.1:25": {max_conections_per_address: 5}'))
    assert "unknown option" in fault


def test_who_opens_the_files_of_an_address_is_asked_and_its_findings_have_places(configuration: Configuration) -> None:
    asked: list[ListenSettings] = []

    def check(entry: ListenSettings) -> list[Finding]:
        asked.append(entry)
        return [
            Finding("tls_certificate", "certificate of mx"),
            Finding("tls_key", "everyone may read it", warning=True),
            Finding("users_file", "cannot be read", fault=True),
        ]

    text = listen('"127.0.0.1:25": {tls_certificate: c.pem, users_file: users}')
    (fault,) = configuration.faults(text, check_listen=check)
    assert fault == "mcmt.yaml:3:80: esmtp_listener.listen.127.0.0.1:25.users_file: cannot be read"
    assert asked[0].tls_certificate == configuration.folder.resolve() / "c.pem"
    loaded = configuration.load(text, check_listen=lambda entry: check(entry)[:2])
    assert "certificate of mx" in [finding.text for finding in loaded.findings]
    assert "everyone may read it" in [warning.text for warning in loaded.warnings]
    asked.clear()
    configuration.load(text, check_listen=check, open_files=False)
    assert not asked


def test_a_users_file_is_a_way_in_without_relay_hosts(configuration: Configuration) -> None:
    text = listen('"127.0.0.1:25": {relay_hosts: [], tls_certificate: c.pem, users_file: users}')
    assert configuration.warnings(text) == []

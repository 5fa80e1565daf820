"""Domains made for apps: their names, and their files read with the configuration."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.config.explain import explain
from mcmt.config.made_domains import folder_of, record_of, with_record, without_record
from mcmt.config.made_settings import MadeDomain, made_name
from mcmt.config.schema import DOMAIN_NAME
from mcmt.message.address import routing_name
from tests.support.push_certificate import push_certificate
from tests.unit.config.support import LISTENER, SPOOL, Configuration

SUFFIX = "apps.example.com"
MADE = MadeDomain(
    app_id="myapp", environment="sandbox", suffix=SUFFIX, topic="com.example.app", certificate="ab" * 32, expires=2e9
)
NAME = f"myapp.sandbox.{SUFFIX}"


def text(making: str = f"suffix: {SUFFIX}", rest: str = "") -> str:
    return f'{SPOOL}{LISTENER}pyapns: {{listen: {{"127.0.0.1:7077": {{make_domains: {{{making}}}}}}}}}\n{rest}'


def keep(configuration: Configuration, made: MadeDomain = MADE) -> Path:
    folder = folder_of(configuration.folder / "spool")
    folder.mkdir(parents=True, exist_ok=True)
    (folder / made.record).write_bytes(record_of(made))
    (pem := folder / made.pem).write_text(push_certificate(made.topic))
    pem.chmod(0o600)
    return folder


def test_with_nothing_made_there_is_no_domain_and_that_is_no_fault(configuration: Configuration) -> None:
    settings = configuration.load(text()).settings
    assert (settings.domains, settings.made) == ({}, {})
    (door,) = settings.pyapns
    assert door.make_domains is not None
    assert (door.make_domains.suffix, door.make_domains.most) == (SUFFIX, 100)
    assert [str(route) for route in door.make_domains.routes("sandbox")] == ["apn://api.sandbox.push.apple.com"]
    assert [str(route) for route in door.make_domains.routes("production")] == ["apn://api.push.apple.com"]


def test_a_made_domain_is_a_stanza_as_any_other(configuration: Configuration) -> None:
    folder = keep(configuration)
    loaded = configuration.load(text())
    assert loaded.settings.made == {NAME: MADE}
    stanza = loaded.settings.domains[NAME]
    assert (stanza.delivery_method, [str(route) for route in stanza.routes]) == (
        "apn",
        ["apn://api.sandbox.push.apple.com"],
    )
    assert (stanza.options.tls_certificate, stanza.options.apn_topic) == (folder / MADE.pem, "com.example.app")
    assert any("com.example.app" in finding.text for finding in loaded.findings)
    explained = explain(loaded, NAME)
    assert explained is not None
    places = {one.option: one.place for one in explained.options}
    assert places["apn_topic"] == f"{folder / MADE.record}:1:1"


def test_its_group_its_own_stanza_and_todays_routes_hold_for_it(configuration: Configuration) -> None:
    keep(configuration)
    rest = (
        "apn_auth_key: AuthKey_ABC123DEFG.p8\napn_key_id: ABC123DEFG\napn_team_id: DEF123GHIJ\n"
        "domain_group: {made: {outbound_throttle_messages: 10/s, max_retries: 3, tls_key: other.pem}}\n"
        f"domain: {{{NAME}: {{max_retries: 5}}}}\n"
    )
    making = f'suffix: {SUFFIX}, domain_group: made, sandbox: ["apn://127.0.0.1:2197"]'
    stanza = configuration.load(text(making, rest)).settings.domains[NAME]
    assert stanza.max_retries == 5
    assert stanza.scopes["outbound_throttle_messages"] == ("domain_group", "made")
    assert [str(route) for route in stanza.routes] == ["apn://127.0.0.1:2197"]
    assert (stanza.options.apn_auth_key, stanza.options.tls_key) == (None, None)


def test_what_cannot_be_read_is_told_and_leaves_the_others(configuration: Configuration) -> None:
    folder = keep(configuration)
    (folder / "torn.json").write_text("{")
    (folder / "renamed.json").write_bytes(record_of(MADE))
    loaded = configuration.load(text())
    assert list(loaded.settings.made) == [NAME]
    told = [str(one) for one in loaded.warnings if "its app has no domain until it is provisioned again" in str(one)]
    assert [name for one in told for name in ("torn", "renamed") if f"{name}.json" in one] == ["renamed", "torn"]


def test_without_its_suffix_a_file_is_not_looked_at(configuration: Configuration) -> None:
    keep(configuration)
    assert configuration.load(text("suffix: other.example.com")).settings.domains == {}


def test_another_process_reads_the_same_with_and_without_a_record(configuration: Configuration) -> None:
    spool = configuration.folder / "spool"
    content = configuration.load(text()).content
    with_it = with_record(content, spool, MADE)
    loaded = configuration.load("no: configuration", content=with_it, open_files=False)
    assert list(loaded.settings.domains) == [NAME]
    without = without_record(with_it, spool, MADE)
    assert configuration.load("no: configuration", content=without, open_files=False).settings.made == {}
    assert "BEGIN" not in repr(with_it)


@pytest.mark.parametrize(
    ("making", "fault"),
    [
        ("most: 3", "is missing"),
        ("suffix: a b", "expected a domain of at most 100 characters"),
        (f"suffix: {'x' * 101}", "expected a domain of at most 100 characters"),
        (f"suffix: {SUFFIX}, most: 0", "must be at least 1"),
        (f"suffix: {SUFFIX}, most: 1001", "must be at most 1000"),
        (f"suffix: {SUFFIX}, domain_group: none", "there is no domain_group none; add it"),
        (f'suffix: {SUFFIX}, sandbox: ["smtp://mail.example.com"]', "expected a route such as apn://"),
        (f"suffix: {SUFFIX}, mots: 3", "did you mean most?"),
    ],
)
def test_what_is_wrong_with_it_is_said(configuration: Configuration, making: str, fault: str) -> None:
    assert fault in configuration.fault(text(making))


def test_two_addresses_may_share_a_suffix_and_then_all_of_it(configuration: Configuration) -> None:
    both = (
        '{SPOOL}{LISTENER}pyapns: {{listen: {{"127.0.0.1:7077": {{make_domains: {{suffix: {SUFFIX}}}}}, '
        '"[::1]:7077": {{make_domains: {{suffix: {SUFFIX}{more}}}}}}}}}\n'
    )
    names = {"SPOOL": SPOOL, "LISTENER": LISTENER, "SUFFIX": SUFFIX}
    assert len(configuration.load(both.format(more="", **names)).settings.pyapns) == 2
    assert "another address' suffix" in configuration.fault(both.format(more=", most: 3", **names))


@given(st.lists(st.text(min_size=1, max_size=255), min_size=2, max_size=5, unique=True))
def test_every_app_id_has_a_name_of_its_own_that_is_a_domain_and_a_files_name(app_ids: list[str]) -> None:
    names = [made_name(app_id, "production", "s" * 100) for app_id in app_ids]
    assert len(set(names)) == len(names)
    for name in names:
        assert DOMAIN_NAME.fullmatch(name)
        assert routing_name(name) == name
        assert len(name) < 200
        assert all(0 < len(label) <= 63 for label in name.removesuffix("s" * 100).strip(".").split("."))


@pytest.mark.parametrize(
    ("app_id", "name"),
    [
        ("myapp", "myapp"),
        ("com.example.app", "com.example.app"),
        ("MyApp", "myapp-" + "9f8a9ac1fdf3ed52"),
        ("../../etc", "etc-" + "d2bb9a6f1bb35c4b"),
        ("…", "app-" + "0"),
    ],
)
def test_a_name_can_be_read(app_id: str, name: str) -> None:
    made = made_name(app_id, "sandbox", SUFFIX)
    assert made.rpartition("-")[0] == name.rpartition("-")[0]
    assert made.endswith(f".sandbox.{SUFFIX}")
    if "-" not in name:
        assert made == f"{name}.sandbox.{SUFFIX}"


def test_a_name_that_looks_encoded_is_encoded_again() -> None:
    encoded = made_name("MyApp", "sandbox", SUFFIX).removesuffix(f".sandbox.{SUFFIX}")
    assert made_name(encoded, "sandbox", SUFFIX) != made_name("MyApp", "sandbox", SUFFIX)

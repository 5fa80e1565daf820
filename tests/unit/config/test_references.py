"""Text of an option may stand in a file or in the environment; what stands there is repeated nowhere."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcmt.errors import ConfigError
from tests.unit.config.support import LISTENER, SPOOL, Configuration

SINK = 'delivery_method: discard, routes: ["discard://sink"]'
HEAD = f"{SPOOL}{LISTENER}"
APN = 'delivery_method: apn, routes: ["apn://localhost"], tls_certificate: cert.pem'


@pytest.fixture
def secret(configuration: Configuration) -> Path:
    path = configuration.folder / "secret"
    path.touch(0o600)
    path.write_text("s3cr3t.example.com\n")
    return path


def test_text_stands_in_a_file_or_in_the_environment(
    configuration: Configuration, secret: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MCMT_TEST_TOPIC", "com.example.app")
    text = f"{HEAD}hostname: !file secret\ndomain: {{a: {{{APN}, apn_topic: !env MCMT_TEST_TOPIC}}}}\n"
    settings = configuration.load(text, open_files=False).settings
    assert settings.hostname == "s3cr3t.example.com"
    assert type(settings.hostname) is str
    assert settings.domains["a"].options.apn_topic == "com.example.app"
    text = f"{HEAD}domain: {{a: {{delivery_method: discard, routes: [!env MCMT_TEST_ROUTE]}}}}\n"
    monkeypatch.setenv("MCMT_TEST_ROUTE", "discard://sink")
    assert str(configuration.load(text).settings.domains["a"].routes[0]) == "discard://sink"


@pytest.mark.parametrize(
    ("value", "fault"),
    [
        ("!env MCMT_NONE", "there is no MCMT_NONE in the environment; set it where mcmt is started"),
        ("!file none", "!file none leads to nothing: No such file or directory"),
        ("!file .", "!file . leads to nothing: Is a directory"),
        ("!file empty", "!file empty leads to nothing: it is empty"),
        ("!file open", "!file open leads to nothing: everyone on this machine may read or change it: chmod 600"),
        ("!file latin", "is not UTF-8"),
        ("!file large", "!file large leads to nothing: it is larger than 65536 bytes"),
    ],
)
def test_a_reference_that_leads_nowhere_is_a_fault(configuration: Configuration, value: str, fault: str) -> None:
    for name, content in {"empty": b"\n", "open": b"x", "latin": b"\xe4", "large": b"x" * 70_000}.items():
        path = configuration.folder / name
        path.touch(0o644 if name == "open" else 0o600)
        path.write_bytes(content)
    faults = configuration.faults(f"{HEAD}hostname: {value}\ndomain: {{a: {{{SINK}}}}}\n")
    assert faults[0].startswith("mcmt.yaml:3:11: hostname: ")
    assert faults[0].endswith(fault)


def test_commands_that_only_ask_where_things_are_need_no_secrets(configuration: Configuration) -> None:
    text = f"{HEAD}domain: {{a: {{{APN}, apn_topic: !env MCMT_NONE, tls_key: !file none}}}}\n"
    assert configuration.load(text, open_files=False).settings.domains["a"].options.apn_topic is None


@pytest.mark.parametrize(
    "option",
    [
        "hostname",
        "workers",
        "retry_interval",
        "ambiguous",
        "delivery_method",
        "idle_timeout",
        "tls_verify",
        "helo_name",
    ],
)
def test_what_a_reference_leads_to_is_not_repeated(configuration: Configuration, secret: Path, option: str) -> None:
    secret.write_text("hunter2 hunter2")
    text = f"{HEAD}{option}: !file secret\ndomain:\n  a: {{routes: ['discard://sink']}}\n  b: {{{APN}}}\n"
    faults = configuration.faults(text)
    assert any(fault.startswith(f"mcmt.yaml:3:{len(option) + 3}: {option}: ") for fault in faults)
    assert not any("hunter2" in fault for fault in faults)


@pytest.mark.parametrize("open_files", [True, False])
def test_an_empty_text_in_a_list_is_not_taken_for_a_reference(configuration: Configuration, open_files: bool) -> None:
    text = f"{HEAD}domain: {{a: {{delivery_method: discard, routes: ['']}}}}\n"
    with pytest.raises(ConfigError, match="expected scheme://host"):
        configuration.load(text, open_files=open_files)


def test_a_name_cannot_be_a_reference(configuration: Configuration) -> None:
    assert configuration.faults(f"{HEAD}domain: {{a: {{{SINK}}}}}\n!env HOME: 3\n")[0].endswith(
        "a name cannot be a reference; write it out"
    )

"""The rules file and the credentials folder: what is written is found, what is wrong is named with its place."""

from __future__ import annotations

import contextlib
import ssl
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from hypothesis import given
from hypothesis import strategies as st

from mcmt.errors import ConfigError
from mcmt.simulator.action import Action, Goaway, Settings
from mcmt.simulator.credentials import Credentials, load_credentials, make_credentials
from mcmt.simulator.rules_file import read_rules
from mcmt.simulator.topic_extension import certificate_topics, decode_topics, encode_topics

from .conftest import MovedClock


def write(folder: Path, text: str) -> Path:
    path = folder / "rules.yaml"
    path.write_text(text)
    return path


def faults(path: Path) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        read_rules(path)
    return [str(fault).removeprefix(str(path)) for fault in caught.value.faults]


def test_every_field_of_a_rule_can_be_written(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """
rules:
  - {token: "aa*", topic: com.example.*, per: token, nth: [1, 3], first: 5, every: 1, answer: 410 Unregistered,
     timestamp: 1700000000000, retry_after: 5, delay: 200ms, slow: 1}
  - {answer: 500 InternalServerError, body: "<html>"}
  - {silent: true}
  - {reset: REFUSED_STREAM}
  - {answer: 200, reset_after_answer: 0}
  - {nth: 250, goaway: middle}
  - {goaway: {last: 7, code: 2, debug: '{"reason":"Shutdown"}'}}
  - {close: true}
  - {when: connect, settings: {max_concurrent_streams: 1, initial_window_size: 0, restore_after: 2s}}
""",
    )
    assert [rule.action() for rule in read_rules(path)] == [
        Action(410, "Unregistered", timestamp=1_700_000_000_000, retry_after=5, delay=0.2, slow=1.0),
        Action(500, "InternalServerError", body=b"<html>"),
        Action(silent=True),
        Action(reset=7),
        Action(reset_after_answer=0),
        Action(goaway=Goaway("middle")),
        Action(goaway=Goaway(7, 2, b'{"reason":"Shutdown"}')),
        Action(close=True),
        Action(settings=Settings(1, 0, 2.0)),
    ]


def test_every_fault_is_named_with_its_place_in_one_run(tmp_path: Path) -> None:
    path = write(
        tmp_path,
        """rules:
  - {token: "aa*", answer: 600}
  - nth: 0
    colour: blue
  - {reset: BROKEN}
  - {reset: 7, silent: true}
  - {goaway: {last: some}}
  - {when: connect, answer: 500 InternalServerError}
""",
    )
    assert faults(path) == [
        ":2:20: rules.0.answer: expected a status and a reason such as 410 Unregistered, or one of Apple's reasons",
        ":3:5: rules.1.nth: Input should be greater than or equal to 1",
        ":4:5: rules.1.colour: unknown option; docs/simulator.md lists them",
        ":5:6: rules.2.reset: expected an HTTP/2 error code by name or number, such as REFUSED_STREAM or 7",
        ":6:5: rules.3: silent and reset exclude each other: give one",
        ":7:15: rules.4.goaway.last: Input should be 'all', 'none' or 'middle', or: Input should be a valid integer",
        ":8:5: rules.5: when a client connects there is no request for answer",
    ]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("rules: [}", ":1:9: is not YAML"),
        ("rules: []\nrules: []\n", ":2:1: rules: is given twice; keep one"),
        ("rule: []\n", ":1:1: rule: unknown option"),
        ("- x\n", ":1:1:"),
        ("rules: !!python/object:os.system {}\n", ":1:8: is not YAML"),
        ("rules: [&a {token: *a}]\n", ":1:"),
    ],
)
def test_a_file_that_is_no_rules_file_is_refused(text: str, fault: str, tmp_path: Path) -> None:
    assert faults(write(tmp_path, text))[0].startswith(fault)


def test_an_absent_file_is_named_and_an_empty_one_is_no_rules(tmp_path: Path) -> None:
    assert faults(tmp_path / "none.yaml") == [": cannot be read: No such file or directory"]
    assert read_rules(write(tmp_path, "")) == ()


def test_the_credentials_verify_and_are_readable_to_their_owner_alone(credentials: Credentials) -> None:
    authority = x509.load_pem_x509_certificate(credentials.ca.read_bytes())
    for path in (credentials.client_certificate, credentials.server_certificate):
        x509.load_pem_x509_certificate(path.read_bytes()).verify_directly_issued_by(authority)
    keys = [*credentials.folder.glob("*.key"), *credentials.folder.glob("*.p8")]
    assert len(keys) == 5
    assert {path.stat().st_mode & 0o777 for path in keys} == {0o600}
    assert credentials.folder.stat().st_mode & 0o777 == 0o700
    ssl.create_default_context(cafile=str(credentials.ca)).load_cert_chain(
        credentials.client_certificate, credentials.client_key
    )
    serialization.load_pem_private_key(credentials.auth_key.read_bytes(), None)


def test_the_client_certificate_lists_its_topics_as_apples_do(credentials: Credentials) -> None:
    certificate = x509.load_pem_x509_certificate(credentials.client_certificate.read_bytes())
    (uid,) = certificate.subject.get_attributes_for_oid(x509.NameOID.USER_ID)
    assert uid.value == "com.example.app"
    assert certificate_topics(certificate) == tuple(
        f"com.example.{name}{suffix}" for name in ("app", "other") for suffix in ("", ".voip", ".complication")
    )


@given(st.lists(st.tuples(st.text(max_size=300), st.text(max_size=20)), max_size=20))
def test_topics_survive_their_encoding(pairs: list[tuple[str, str]]) -> None:
    assert decode_topics(encode_topics(pairs)) == tuple(topic for topic, _ in pairs)


@given(st.binary(max_size=60))
def test_junk_in_the_extension_is_a_value_error_and_nothing_else(junk: bytes) -> None:
    with contextlib.suppress(ValueError):
        decode_topics(junk)


def test_a_folder_is_used_again_and_an_expired_partial_or_foreign_one_is_refused(
    tmp_path: Path, clock: MovedClock
) -> None:
    made = make_credentials(tmp_path / "a", ["com.example.a"], clock)
    assert make_credentials(tmp_path / "a", ["com.example.a"], clock) == made == load_credentials(tmp_path / "a", clock)
    with pytest.raises(ConfigError, match=r"was made for com\.example\.a, not for com\.example\.b"):
        make_credentials(tmp_path / "a", ["com.example.b"], clock)
    clock.now += 826 * 86_400
    with pytest.raises(ConfigError, match="expired"):
        load_credentials(tmp_path / "a", clock)
    (tmp_path / "a" / "credentials.json").unlink()
    with pytest.raises(ConfigError, match="holds part of a set"):
        make_credentials(tmp_path / "a", clock=clock)
    with pytest.raises(ConfigError, match="No such file"):
        load_credentials(tmp_path / "none")
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match=r"exists|directory"):
        make_credentials(tmp_path / "file")

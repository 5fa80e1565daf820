"""The options of an smtp domain, and what a check finds out about them."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import BestAvailableEncryption, Encoding, PrivateFormat
from pydantic import ValidationError

from channels.smtp import MEDIA_TYPES, SCHEMES, Options, check, read
from mcmt.channel.port import Finding
from mcmt.message.model import Part
from mcmt.message.route import parse_route
from tests.support.manual_clock import ManualClock
from tests.support.tls import Certificates

REMOTE = "smtp://mail.example.net"


def findings(route: str = REMOTE, now: float | None = None, **options: Any) -> list[Finding]:
    model = Options.model_validate(options)
    clock = None if now is None else ManualClock(now)
    return list(check(model, [parse_route(route)], clock))


def faults(**options: Any) -> list[str]:
    return [f"{finding.option}: {finding.text}" for finding in findings(**options) if finding.fault]


def warnings(route: str = REMOTE, now: float | None = None, **options: Any) -> list[str]:
    return [f"{finding.option}: {finding.text}" for finding in findings(route, now, **options) if finding.warning]


def test_the_whole_message_goes_to_the_recipient_itself() -> None:
    part = Part("message/rfc822", (), b"x")
    reading = read(part, "u@example.org", {}, Options())
    assert reading.part is part
    assert [(target.token, target.expires) for target in reading.targets] == [("u@example.org", None)]
    assert not MEDIA_TYPES
    assert frozenset({"smtp"}) == SCHEMES


def test_yaml_reads_no_as_a_boolean_and_it_is_the_word_that_is_meant() -> None:
    assert Options.model_validate({"tls": False, "tls_verify": False}).tls == "no"


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("tls", "always"),
        ("tls_verify", "name"),
        ("helo_name", "mx example"),
        ("helo_name", "mx\r\nMAIL FROM:<>"),
        ("helo_name", ""),
        ("max_recipients_per_batch", 0),
        ("command_timeout", 0),
        ("data_timeout", "soon"),
        ("final_reply_timeout", -1),
        ("tls_cipher", "x"),
    ],
)
def test_what_is_no_value_is_a_fault(option: str, value: object) -> None:
    with pytest.raises(ValidationError):
        Options.model_validate({option: value})


@pytest.mark.parametrize("value", ["mx.example.com", "mx_1", "[192.0.2.1]", "[IPv6:::1]"])
def test_our_name_is_a_name_or_an_address_literal(value: str) -> None:
    assert Options(helo_name=value).helo_name == value


def test_mail_in_clear_over_the_network_is_a_warning_and_on_this_machine_it_is_not() -> None:
    (warning,) = warnings(tls="no")
    assert warning.startswith("tls: is no: mail to mail.example.net goes over the network in clear")
    for route in ("smtp://127.0.0.1:2525", "smtp://localhost", "smtp://[::1]:25"):
        assert not findings(route, tls="no")


def test_what_is_not_verified_is_told() -> None:
    (finding,) = findings()
    assert not finding.warning
    assert "mail.example.net is not verified" in finding.text
    (warning,) = warnings(tls="must", tls_verify="no")
    assert warning.startswith("tls_verify: is no")
    assert not findings(tls="must")


def test_options_that_have_no_effect_are_told(certificates: Certificates) -> None:
    assert warnings(tls_ca=certificates.ca) == ["tls_ca: has no effect while tls is may; must verifies the server"]
    assert "tls_ca: has no effect while tls_verify is no" in warnings(
        tls="must", tls_verify="no", tls_ca=certificates.ca
    )
    certificate: dict[str, Any] = {"tls_certificate": certificates.client, "tls_key": certificates.client_key}
    assert warnings("smtp://localhost", tls="no", **certificate) == ["tls_certificate: has no effect while tls is no"]


def test_files_that_cannot_be_used_are_faults_that_say_why(certificates: Certificates, tmp_path: Path) -> None:
    nowhere, empty = tmp_path / "nowhere.pem", tmp_path / "empty.pem"
    empty.write_bytes(b"")
    assert faults(tls="must", tls_ca=nowhere) == [f"tls_ca: {nowhere} cannot be read: No such file or directory"]
    assert faults(tls="must", tls_ca=empty) == [f"tls_ca: {empty} has no certificates in PEM"]
    assert faults(tls_certificate=nowhere) == [f"tls_certificate: {nowhere} cannot be read: No such file or directory"]
    assert faults(tls_certificate=certificates.client, tls_key=nowhere) == [
        f"tls_certificate: {nowhere} cannot be read: No such file or directory"
    ]
    (other_key,) = faults(tls_certificate=certificates.client, tls_key=certificates.server_key)
    assert other_key.startswith(f"tls_certificate: {certificates.client} and {certificates.server_key} cannot be used")
    assert faults(tls_key=certificates.client_key) == [
        "tls_key: needs tls_certificate, the certificate that it belongs to"
    ]


def test_a_key_that_everyone_may_read_is_a_fault(certificates: Certificates, tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    key.write_bytes(certificates.client_key.read_bytes())
    key.chmod(0o644)
    assert faults(tls_certificate=certificates.client, tls_key=key) == [
        f"tls_key: everyone on this machine may read {key}: chmod 600 {key}"
    ]


def test_a_key_with_a_passphrase_is_a_fault_and_nobody_is_asked_for_it(tmp_path: Path) -> None:
    key = tmp_path / "key.pem"
    locked = BestAvailableEncryption(b"secret")
    private = ec.generate_private_key(ec.SECP256R1())
    key.write_bytes(private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, locked))
    (fault,) = faults(tls_certificate=key)
    assert "without a passphrase" in fault


def test_a_certificate_that_ends_soon_is_a_warning(certificates: Certificates) -> None:
    certificate: dict[str, Any] = {"tls_certificate": certificates.client, "tls_key": certificates.client_key}
    (finding,) = findings("smtp://localhost", **certificate)
    days = int(finding.text.split()[2])
    end = time.time() + days * 86400
    assert warnings("smtp://localhost", end - 10 * 86400, **certificate)[0].startswith("tls_certificate: expires in 1")
    assert warnings("smtp://localhost", end + 10 * 86400, **certificate)[0].startswith("tls_certificate: expired ")


def test_a_route_has_no_options_but_its_port() -> None:
    (fault,) = [finding for finding in findings("smtp://mail.example.net?mx=yes") if finding.fault]
    assert fault.text == "smtp://mail.example.net has an unknown option mx; there is: port"


def test_giving_up_the_final_reply_early_is_a_warning() -> None:
    assert warnings("smtp://localhost", final_reply_timeout=30) == [
        "final_reply_timeout: is less than a minute: mail whose reply comes later is sent again"
    ]

"""What ``mcmt check`` finds out about the files of a listening address."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
import trustme

from mcmt.config.settings import GatewaySettings
from mcmt.intake.check import check_gateway, check_listen
from tests.unit.intake.conftest import cheap
from tests.unit.intake.server import make_listen
from tests.unit.intake.test_listener import HandClock


@pytest.fixture
def issued(tmp_path: Path) -> Path:
    """A certificate that ends in the year 2030, and its key, in one folder."""
    credential = trustme.CA().issue_cert("mx.example.com", not_after=datetime(2030, 1, 1, tzinfo=UTC))
    credential.cert_chain_pems[0].write_to_path(str(tmp_path / "cert.pem"))
    credential.private_key_pem.write_to_path(str(tmp_path / "key.pem"))
    (tmp_path / "key.pem").chmod(0o600)
    return tmp_path


def findings(folder: Path, days_before: float = 100, **options: Path) -> list[tuple[str, str, str]]:
    clock = HandClock()
    clock.now = (datetime(2030, 1, 1, tzinfo=UTC) - timedelta(days=days_before)).timestamp()
    options = {"tls_certificate": folder / "cert.pem", "tls_key": folder / "key.pem", **options}
    return [
        ("fault" if each.fault else "warning" if each.warning else "found", each.option, each.text)
        for each in check_listen(make_listen(**options), clock)
    ]


def test_the_certificate_is_told_with_its_subject_and_end(issued: Path) -> None:
    ((kind, option, text),) = findings(issued)
    assert (kind, option) == ("found", "tls_certificate")
    assert text.startswith("certificate of OU=Testing cert")
    assert text.endswith("for mx.example.com; valid until 2030-01-01, 100 days left")


@pytest.mark.parametrize(
    ("days", "warning"),
    [
        (30, None),
        (29, "expires in 29 days; have a new one made"),
        (-1, "has expired, and clients may refuse it; have a new one made"),
    ],
)
def test_one_that_ends_soon_or_has_ended_is_a_warning(issued: Path, days: float, warning: str | None) -> None:
    _, *rest = findings(issued, days)
    assert rest == ([("warning", "tls_certificate", warning)] if warning else [])


def test_a_key_that_everyone_may_read_is_a_fault(issued: Path) -> None:
    key = issued / "key.pem"
    key.chmod(0o644)
    assert findings(issued)[-1] == (
        "fault",
        "tls_key",
        f"everyone on this machine may read {key}: chmod 600 {key}",
    )


def test_what_cannot_be_used_is_a_fault(issued: Path) -> None:
    key, certificate = issued / "key.pem", issued / "cert.pem"
    ((kind, option, text),) = findings(issued, tls_key=issued / "absent")
    assert (kind, option) == ("fault", "tls_key")
    assert text == f"{issued / 'absent'} cannot be read: No such file or directory"
    trustme.CA().issue_cert("x").private_key_pem.write_to_path(str(issued / "other.pem"))
    ((kind, option, text),) = findings(issued, tls_key=issued / "other.pem")
    assert text == (
        f"{certificate} and the key in {issued / 'other.pem'} cannot be used: the key is not that of the certificate"
    )
    openssl = shutil.which("openssl")
    assert openssl
    locked = issued / "locked.pem"
    subprocess.run(
        [openssl, "pkey", "-in", key, "-aes256", "-passout", "pass:x", "-out", locked], check=True, capture_output=True
    )
    ((kind, option, text),) = findings(issued, tls_key=locked)
    assert kind == "fault"
    assert "protected by a passphrase; remove it with: openssl pkey" in text
    certificate.write_text("junk")
    ((kind, option, text),) = findings(issued)
    assert (kind, option) == ("fault", "tls_certificate")
    assert "is not PEM" in text


def test_users_are_counted_and_a_file_that_everyone_may_read_is_a_fault(issued: Path) -> None:
    users = issued / "users"
    users.write_text(f"one:{cheap('x')}\ntwo:{cheap('x')}\n")
    users.chmod(0o600)
    assert findings(issued, users_file=users)[1:] == [("found", "users_file", "2 users")]
    users.chmod(0o644)
    assert findings(issued, users_file=users)[2] == (
        "fault",
        "users_file",
        f"everyone on this machine may read {users}: chmod 600 {users}",
    )
    users.write_text("")
    assert ("warning", "users_file", f"{users} has no users; add one with: mcmt passwd NAME") in findings(
        issued, users_file=users
    )
    users.write_text("junk\n")
    kind, option, text = findings(issued, users_file=users)[1]
    assert (kind, option) == ("fault", "users_file")
    assert text.startswith(f"{users}:1: expected scrypt")


def test_an_address_without_files_has_nothing_to_tell() -> None:
    assert check_listen(make_listen()) == ()


def test_of_a_gateway_the_certificate_and_the_authorities_are_looked_into(issued: Path) -> None:
    clients = issued / "clients.pem"
    authority = trustme.CA()
    authority.cert_pem.write_to_path(str(clients))
    authority.cert_pem.write_to_path(str(clients), append=True)
    trustme.CA().cert_pem.write_to_path(str(clients), append=True)

    def told() -> list[tuple[str, bool, str]]:
        gateway = GatewaySettings(
            host=None,
            port=0,
            tls_certificate=issued / "cert.pem",
            tls_key=issued / "key.pem",
            client_ca=clients,
            domain="apn.example.com",
        )
        return [(each.option, each.fault, each.text) for each in check_gateway(gateway)]

    certificate, authorities = told()
    assert certificate[:2] == ("tls_certificate", False)
    assert authorities == ("client_ca", False, "clients of 2 certificates")
    clients.write_text("junk")
    assert told()[1][:2] == ("client_ca", True)
    clients.unlink()
    assert told()[1] == (
        "client_ca",
        True,
        f"{clients} cannot be used: a file cannot be read: No such file or directory",
    )

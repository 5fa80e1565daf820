"""Provider tokens: made once a key, shared, kept, renewed in time and never too often."""

from __future__ import annotations

from pathlib import Path

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from channels.apn.provider_token import NOT_BEFORE, RENEW_AFTER, ProviderToken, read_key, sign
from mcmt.errors import ConnectError, RouteFaultError, SpoolError
from tests.support.manual_clock import ManualClock


class Memory:
    """A state that outlives the tokens that use it."""

    def __init__(self) -> None:
        self.values: dict[str, bytes] = {}

    def get(self, key: str) -> bytes | None:
        return self.values.get(key)

    def put(self, key: str, value: bytes) -> None:
        self.values[key] = value

    def swap(self, key: str, before: bytes | None, value: bytes) -> bool:
        if self.values.get(key) != before:
            return False
        self.values[key] = value
        return True


def write_key(file: Path) -> Path:
    file.write_bytes(
        ec.generate_private_key(ec.SECP256R1()).private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )
    return file


@pytest.fixture(scope="module")
def key_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_key(tmp_path_factory.mktemp("key") / "AuthKey_ABC123DEFG.p8")


def token_of(key_file: Path, state: Memory, clock: ManualClock) -> ProviderToken:
    return ProviderToken(key_file, "ABC123DEFG", "DEF123GHIJ", state, clock)


def test_the_token_is_a_jws_that_an_independent_library_verifies(key_file: Path) -> None:
    key = read_key(key_file)
    token = sign(key, "ABC123DEFG", "DEF123GHIJ", 1_700_000_000)
    claims = jwt.decode(token, key.public_key(), algorithms=["ES256"], options={"verify_iat": False})
    assert claims == {"iss": "DEF123GHIJ", "iat": 1_700_000_000}
    assert jwt.get_unverified_header(token) == {"alg": "ES256", "kid": "ABC123DEFG"}


def test_every_connection_sends_the_same_token_byte_for_byte(key_file: Path) -> None:
    state, clock = Memory(), ManualClock()
    assert token_of(key_file, state, clock).current() == token_of(key_file, state, clock).current()


def test_it_is_kept_over_a_restart_and_renewed_at_45_minutes(key_file: Path) -> None:
    state, clock = Memory(), ManualClock()
    first = token_of(key_file, state, clock).current()
    clock.advance(RENEW_AFTER - 1)
    restarted = token_of(key_file, state, clock)
    assert restarted.current() == first
    clock.advance(1)
    assert restarted.current() != first


def test_a_refused_token_is_replaced_only_when_apple_allows_a_newer_one(key_file: Path) -> None:
    state, clock = Memory(), ManualClock()
    token = token_of(key_file, state, clock)
    refused = token.current()
    clock.advance(NOT_BEFORE - 1)
    assert not token.replace(refused)
    assert token.current() == refused
    clock.advance(1)
    assert token.replace(refused)
    assert token.current() != refused


def test_a_token_that_somebody_else_replaced_meanwhile_is_taken_over(key_file: Path) -> None:
    state, clock = Memory(), ManualClock()
    mine, theirs = token_of(key_file, state, clock), token_of(key_file, state, clock)
    refused = mine.current()
    clock.advance(NOT_BEFORE)
    assert theirs.replace(refused)
    assert mine.replace(refused)
    assert mine.current() == theirs.current()


def test_a_token_from_the_future_is_not_sent(key_file: Path) -> None:
    state, clock = Memory(), ManualClock()
    early = token_of(key_file, state, clock).current()
    clock.jump(-7200)
    assert token_of(key_file, state, clock).current() != early


@pytest.mark.parametrize(
    "content", [b"", b"not a key", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"]
)
def test_a_file_that_is_no_key_is_the_routes_fault_and_named(tmp_path: Path, content: bytes) -> None:
    file = tmp_path / "broken.p8"
    file.write_bytes(content)
    with pytest.raises(RouteFaultError, match=r"broken\.p8"):
        token_of(file, Memory(), ManualClock())


def test_a_key_that_was_replaced_is_used_by_the_next_connection(tmp_path: Path) -> None:
    state, clock = Memory(), ManualClock()
    file = write_key(tmp_path / "AuthKey_ABC123DEFG.p8")
    old = token_of(file, state, clock).current()
    write_key(file)
    new = token_of(file, state, clock).current()
    assert new != old
    jwt.decode(new, read_key(file).public_key(), algorithms=["ES256"], options={"verify_iat": False})


def test_of_two_workers_that_make_one_at_once_both_send_the_same(key_file: Path) -> None:
    clock = ManualClock()

    class Raced(Memory):
        """Another worker puts its token between our look and our own."""

        raced = False

        def swap(self, key: str, before: bytes | None, value: bytes) -> bool:
            if not self.raced:
                self.raced = True
                token_of(key_file, self, clock).current()
            return super().swap(key, before, value)

    state = Raced()
    token = token_of(key_file, state, clock).current()
    assert token_of(key_file, state, clock).current() == token
    (stored,) = state.values.values()
    assert token.encode() in stored


def test_unreadable_state_is_made_anew(key_file: Path) -> None:
    state, clock = Memory(), ManualClock()
    token_of(key_file, state, clock).current()
    (name,) = state.values
    state.put(name, b"garbage")
    assert token_of(key_file, state, clock).current().count(".") == 2


def test_a_token_that_cannot_be_kept_is_not_sent_and_the_failure_is_temporary(key_file: Path) -> None:
    """Sent and forgotten it would be followed by another one too soon."""

    class FullDisk(Memory):
        def swap(self, key: str, before: bytes | None, value: bytes) -> bool:
            raise SpoolError("disk full")

    token = token_of(key_file, FullDisk(), ManualClock())
    with pytest.raises(ConnectError, match="disk full"):
        token.current()
    with pytest.raises(ConnectError, match="disk full"):
        token_of(key_file, BrokenDisk(), ManualClock()).current()


class BrokenDisk(Memory):
    def get(self, key: str) -> bytes | None:
        raise SpoolError("disk full")

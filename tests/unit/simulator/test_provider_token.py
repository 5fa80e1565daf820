"""Provider tokens are judged as Apple judges them, and their age by the clock that was given."""

from __future__ import annotations

import base64
import json
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

from mcmt.simulator.credentials import Credentials, make_credentials

from .client import provider_token
from .conftest import Connect, MovedClock, Simulate


async def test_a_token_is_good_for_an_hour_and_not_a_second_longer(
    simulate: Simulate, connect: Connect, bearer: str, clock: MovedClock
) -> None:
    client = await connect(await simulate())
    assert (await client.push(authorization=bearer)).status == 200
    clock.now += 3599
    assert (await client.push(authorization=bearer)).status == 200
    clock.now += 2
    answer = await client.push(authorization=bearer)
    assert (answer.status, answer.reason) == (403, "ExpiredProviderToken")


async def test_a_connection_that_saw_an_expired_token_refuses_a_fresh_one_too(
    simulate: Simulate, connect: Connect, credentials: Credentials, clock: MovedClock
) -> None:
    simulator = await simulate()
    client = await connect(simulator)
    old, fresh = provider_token(credentials, clock.now - 3700), provider_token(credentials, clock.now)
    assert (await client.push(authorization=old)).reason == "ExpiredProviderToken"
    assert (await client.push(authorization=fresh)).reason == "ExpiredProviderToken"
    other = await connect(simulator)
    assert (await other.push(authorization=fresh)).status == 200


async def test_two_tokens_minted_within_twenty_minutes_are_one_too_many(
    simulate: Simulate, connect: Connect, credentials: Credentials, clock: MovedClock
) -> None:
    """The first one stays good: a client keeps it and gets on."""
    client = await connect(await simulate())
    first = provider_token(credentials, clock.now)
    assert (await client.push(authorization=first)).status == 200
    clock.now += 1199
    early = await client.push(authorization=provider_token(credentials, clock.now))
    assert (early.status, early.reason) == (429, "TooManyProviderTokenUpdates")
    assert (await client.push(authorization=first)).status == 200
    clock.now += 1
    assert (await client.push(authorization=provider_token(credentials, clock.now))).status == 200


async def test_the_same_claims_signed_anew_are_a_new_token(
    simulate: Simulate, connect: Connect, credentials: Credentials, clock: MovedClock
) -> None:
    client = await connect(await simulate())
    assert (await client.push(authorization=provider_token(credentials, clock.now))).status == 200
    again = await client.push(authorization=provider_token(credentials, clock.now))
    assert again.reason == "TooManyProviderTokenUpdates"


async def test_a_second_key_on_one_connection_is_unrelated(
    simulate: Simulate, connect: Connect, credentials: Credentials, clock: MovedClock
) -> None:
    simulator = await simulate()
    client = await connect(simulator)
    assert (await client.push(authorization=provider_token(credentials, clock.now))).status == 200
    second = provider_token(credentials, clock.now, key=1)
    assert (await client.push(authorization=second)).reason == "UnrelatedKeyIdInToken"
    assert (await (await connect(simulator)).push(authorization=second)).status == 200


@pytest.mark.parametrize(
    ("headers", "claims"),
    [
        ({"kid": "UNKNOWNKEY"}, {}),
        ({"kid": 7}, {}),
        ({}, {"iss": "OTHERTEAM1"}),
        ({}, {"iat": "now"}),
        ({}, {"iat": True}),
        ({}, {"iat": 99_999_999_999}),
    ],
)
async def test_a_wrong_header_or_claim_is_an_invalid_token(
    headers: dict[str, Any],
    claims: dict[str, Any],
    simulate: Simulate,
    connect: Connect,
    credentials: Credentials,
    clock: MovedClock,
) -> None:
    token = _sign(credentials, {"alg": "ES256", "kid": credentials.key_id} | headers, clock, claims)
    answer = await (await connect(await simulate())).push(authorization=token)
    assert (answer.status, answer.reason) == (403, "InvalidProviderToken")


async def test_a_signature_of_another_key_or_another_form_is_refused(
    simulate: Simulate, connect: Connect, credentials: Credentials, clock: MovedClock, tmp_path: Path
) -> None:
    """RFC 7518 3.4 wants R and S raw; the DER form that libraries make by default is not it."""
    client = await connect(await simulate())
    stranger = make_credentials(tmp_path / "other")
    forged = provider_token(
        stranger, clock.now, headers={"kid": credentials.key_id}, claims={"iss": credentials.team_id}
    )
    der = _sign(credentials, {"alg": "ES256", "kid": credentials.key_id}, clock, {}, raw=False)
    good = provider_token(credentials, clock.now)
    padded = good + "=="
    for token in (forged, der, padded, good[:-4], good.replace(".", "..", 1), "é" + good):
        assert (await client.push(authorization=token)).reason == "InvalidProviderToken"
    assert (await client.push(authorization=good)).status == 200


def _sign(
    credentials: Credentials, header: dict[str, Any], clock: MovedClock, claims: dict[str, Any], raw: bool = True
) -> str:
    key = serialization.load_pem_private_key(credentials.auth_key.read_bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    body = {"iss": credentials.team_id, "iat": int(clock.now)} | claims
    signed = ".".join(_part(json.dumps(item).encode()) for item in (header, body))
    der = key.sign(signed.encode(), ec.ECDSA(hashes.SHA256()))
    if raw:
        der = b"".join(number.to_bytes(32, "big") for number in decode_dss_signature(der))
    return f"{signed}.{_part(der)}"


def _part(content: bytes) -> str:
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()

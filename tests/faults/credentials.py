"""Rows of who may send and of what time it is: certificates, provider tokens, clocks that do not agree."""

from __future__ import annotations

import base64
import datetime
import json
import ssl
from collections.abc import Callable
from email.utils import formatdate

import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from tests.faults.frames import Peer, Request
from tests.faults.refusal import Refusal
from tests.faults.row import (
    Defence,
    Expectation,
    Row,
    Seen,
    all_final,
    connections,
    delivered_once,
    expect,
    for_seconds,
    kept,
    not_told,
    said,
    told,
)
from tests.faults.stage import Stage

HOUR = 3600.0
TOKENS: dict[str, int] = {}
"""Provider tokens that the gateway has met, and how often."""
CLOCK: list[Callable[[], float]] = []
"""The gateway's own idea of the time."""


# -- certificates -----------------------------------------------------------------------------------------------------


def _revoked(version: ssl.TLSVersion) -> Callable[[Stage], None]:
    """The gateway has an authority of clients and its list of those that it took back; ours is on it."""

    def prepare(stage: Stage) -> None:
        authority = trustme.CA()
        client = authority.issue_cert("app@example.com")
        files = {name: stage.folder / name for name in ("clients.pem", "revoked.pem", "mine.pem", "mine.key")}
        authority.cert_pem.write_to_path(str(files["clients.pem"]))
        client.cert_chain_pems[0].write_to_path(str(files["mine.pem"]))
        client.private_key_pem.write_to_path(str(files["mine.key"]))
        files["mine.key"].chmod(0o600)
        issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
        mine = x509.load_pem_x509_certificate(client.cert_chain_pems[0].bytes())
        key = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
        now = datetime.datetime.now(datetime.UTC)
        entry = x509.RevokedCertificateBuilder().serial_number(mine.serial_number).revocation_date(now).build()
        builder = x509.CertificateRevocationListBuilder().issuer_name(issuer.subject).last_update(now)
        builder = builder.next_update(now + datetime.timedelta(days=1)).add_revoked_certificate(entry)
        revoked = builder.sign(key, hashes.SHA256())  # type: ignore[arg-type]  # trustme's keys are EC
        files["revoked.pem"].write_bytes(revoked.public_bytes(serialization.Encoding.PEM))
        stage.context.minimum_version = stage.context.maximum_version = version
        stage.context.verify_mode = ssl.CERT_REQUIRED
        stage.context.verify_flags |= ssl.VerifyFlags.VERIFY_CRL_CHECK_LEAF
        stage.context.load_verify_locations(files["clients.pem"])
        stage.context.load_verify_locations(files["revoked.pem"])
        stage.options.update(tls_certificate=str(files["mine.pem"]), tls_key=str(files["mine.key"]))

    return prepare


@said("")
def few_connects(seen: Seen) -> None:
    expect(seen.connects <= 4, f"{seen.connects} tries to connect in {seen.elapsed:.1f} s")


CERTIFICATES = tuple(
    Row(
        name=f"TLS alert for a revoked certificate, TLS {name}",
        fault=Refusal,
        prepare=_revoked(version),
        until=for_seconds(1.2),
        expect=(kept("suspended", "REVOKED"), few_connects),
        defence=Defence(
            "channels/apn/transport.py: refused_certificate() knows the alerts that mean our certificate",
            {"apn.transport._REFUSED_CERTIFICATE": ()},
        ),
    )
    for name, version in (("1.2", ssl.TLSVersion.TLSv1_2), ("1.3", ssl.TLSVersion.TLSv1_3))
)

# -- provider tokens --------------------------------------------------------------------------------------------------


def _with_a_key(stage: Stage) -> None:
    key = ec.generate_private_key(ec.SECP256R1())
    file = stage.folder / "AuthKey.p8"
    file.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    file.chmod(0o600)
    stage.options.update(
        tls_certificate=None,
        tls_key=None,
        apn_auth_key=str(file),
        apn_key_id="ABC123DEFG",
        apn_team_id="DEF123GHIJ",
    )
    CLOCK.append(stage.clock.true_time)


def _issued_at(request: Request) -> float:
    """When the request's token was made, as its claims have it."""
    claims = request.authorization.removeprefix("bearer ").split(".")[1]
    return float(json.loads(base64.urlsafe_b64decode(claims + "=" * (-len(claims) % 4)))["iat"])


async def judges_tokens(peer: Peer) -> None:
    """As Apple does: a token is good for an hour, by the gateway's clock."""

    def judge(request: Request) -> None:
        TOKENS[request.authorization] = TOKENS.get(request.authorization, 0) + 1
        if -60 <= CLOCK[0]() - _issued_at(request) <= HOUR:
            peer.accept(request)
        else:
            peer.refuse(request, 403, "ExpiredProviderToken")

    peer.on_request = judge
    peer.greet()
    await peer.end()


async def an_hour_later(stage: Stage) -> None:
    """All is delivered; more is accepted when the token is 25 minutes old for us and 65 for the gateway.

    So are they after a machine was asleep whose clocks stood still.
    """
    await all_final(stage)
    time = CLOCK[0]
    await stage.clock.leap(25 * 60)
    CLOCK[0] = lambda: time() + 40 * 60
    await stage.push_more(50)
    await all_final(stage)


def tokens(most: int, least: int = 1) -> Expectation:
    """How many provider tokens were made: Apple refuses another one within 20 minutes."""

    def check(seen: Seen) -> None:
        expect(least <= len(TOKENS) <= most, f"{len(TOKENS)} provider tokens: {list(TOKENS.values())}")

    return Expectation(f"{most} provider tokens were made, no more", check)


async def until_the_clock_is_set_right(stage: Stage) -> None:
    """Two seconds of refusals, then somebody sets our clock."""
    await stage.sleep(2.0)
    await stage.until(lambda: bool(stage.news))
    expect(not stage.delivered and not stage.tried and not stage.failed, "something came of a refused token")
    expect(stage.news[0].phase == "suspended", f"not suspended: {stage.news}")
    stage.clock.jump(2 * HOUR)
    await all_final(stage)


def _behind(stage: Stage) -> None:
    """Our clock is two hours slow; the gateway's is right."""
    _with_a_key(stage)
    stage.clock.jump(-2 * HOUR)


TOKEN_ROWS = (
    Row(
        name="expired provider token",
        fault=judges_tokens,
        prepare=_with_a_key,
        until=an_hour_later,
        settings={"idle_timeout": 2 * HOUR},
        without=9.0,
        options={"delivery_response_timeout": "5s"},
        expect=(delivered_once, tokens(2, 2), not_told("suspended"), connections(3, 2)),
        defence=Defence(
            "channels/apn/provider_token.py: replace() makes another one, and the connection is left",
            {"apn.provider_token.ProviderToken.replace": lambda self, refused: True},
        ),
    ),
    Row(
        name="clock skew: ours is two hours slow",
        fault=judges_tokens,
        prepare=_behind,
        until=until_the_clock_is_set_right,
        settings={"max_retry_interval": 1.0},
        expect=(delivered_once, told("suspended", "ExpiredProviderToken"), tokens(2, 2)),
        defence=Defence(
            "channels/apn/provider_token.py: replace() makes none within 20 minutes, so the route is suspended",
            {"apn.provider_token.NOT_BEFORE": 0.0},
        ),
    ),
)

# -- clocks -----------------------------------------------------------------------------------------------------------


async def a_day_ahead_for_a_while(stage: Stage) -> None:
    """Nothing can be delivered while the clock is a day ahead; it is set right again, and the gateway comes back."""
    await stage.sleep(0.3)
    stage.clock.jump(24 * HOUR)
    await stage.clock.leap(120)
    await stage.sleep(0.3)
    expect(not stage.failed, f"{len(stage.failed)} expired: {stage.failed[:1]}")
    stage.clock.jump(-24 * HOUR)
    RECOVERED.append(True)
    await stage.clock.leap(60)
    await all_final(stage)


RECOVERED: list[bool] = []


async def away_until_recovered(peer: Peer) -> None:
    if RECOVERED:
        await peer.serve()


async def asks_for_years(peer: Peer) -> None:
    """503 to everything, with a Retry-After that a clock ten years ahead would give."""

    def refuse(request: Request) -> None:
        peer.refuse(request, 503, "ServiceUnavailable", ("retry-after", formatdate(2e9 + 4e8, usegmt=True)))

    peer.on_request = refuse
    peer.greet()
    await peer.end()


async def all_tried(stage: Stage) -> None:
    await stage.until(lambda: len(stage.tried) >= stage.row.count)


@said("tried again within a day")
def due_within_a_day(seen: Seen) -> None:
    expect(seen.left == len(seen.ids), f"{seen.left} left")
    expect(0 < seen.next_due <= 24 * HOUR * 1.01, f"due again in {seen.next_due / HOUR:.0f} hours")


CLOCKS = (
    Row(
        name="clock skew: ours is a day ahead for a while",
        fault=away_until_recovered,
        until=a_day_ahead_for_a_while,
        settings={"message_expiration": HOUR},
        options={"delivery_response_timeout": "30s"},
        expect=(delivered_once,),
        defence=Defence(
            "mcmt/engine/steady_time.py: a jump forward is not believed until it has held for ten minutes",
            {"mcmt.engine.steady_time.TOLERANCE": 1e9},
        ),
    ),
    Row(
        name="clock skew: the gateway asks to wait for ten years",
        fault=asks_for_years,
        until=all_tried,
        expect=(due_within_a_day,),
        defence=Defence(
            "channels/apn/answers.py: no Retry-After is taken for more than a day", {"apn.answers.LONGEST_WAIT": 1e12}
        ),
    ),
)

ROWS = (*CERTIFICATES, *TOKEN_ROWS, *CLOCKS)

"""What Apple's answers mean."""

from __future__ import annotations

import pytest

from channels.apn.answers import RULES, After, reason_of, retry_after, understand
from mcmt.message.status import Disposition

DOCUMENTED = {
    400: "BadCollapseId BadDeviceToken BadExpirationDate BadMessageId BadPriority BadTopic DeviceTokenNotForTopic "
    "DuplicateHeaders IdleTimeout InvalidPushType MissingDeviceToken MissingTopic PayloadEmpty TopicDisallowed",
    403: "BadCertificate BadCertificateEnvironment ExpiredProviderToken Forbidden InvalidProviderToken "
    "MissingProviderToken UnrelatedKeyIdInToken BadEnvironmentKeyIdInToken",
    404: "BadPath",
    405: "MethodNotAllowed",
    410: "ExpiredToken Unregistered",
    413: "PayloadTooLarge",
    429: "TooManyProviderTokenUpdates TooManyRequests",
    500: "InternalServerError",
    503: "ServiceUnavailable Shutdown",
}
"""Apple, "Handling notification responses from APNs"."""

NEVER_AGAIN = {
    "BadDeviceToken",
    "DeviceTokenNotForTopic",
    "Forbidden",
    "ExpiredToken",
    "Unregistered",
    "PayloadTooLarge",
}
"""Reasons for which Apple forbids another try."""


def body(reason: str) -> bytes:
    return b'{"reason":"%s"}' % reason.encode()


def test_every_documented_reason_has_its_row() -> None:
    assert {reason for reasons in DOCUMENTED.values() for reason in reasons.split()} <= set(RULES)


@pytest.mark.parametrize("reason", sorted(NEVER_AGAIN))
def test_what_apple_says_never_to_send_again_ends_the_delivery(reason: str) -> None:
    assert RULES[reason].disposition in (Disposition.PERMANENT, Disposition.RECIPIENT_GONE)


@pytest.mark.parametrize("reason", ["BadCertificate", "BadCertificateEnvironment", "MissingProviderToken", "BadTopic"])
def test_faults_of_the_credential_or_the_topic_are_the_routes_not_the_messages(reason: str) -> None:
    assert RULES[reason].disposition is Disposition.ROUTE_FAULT


def test_a_refused_provider_token_asks_for_another_and_leaves_the_connection() -> None:
    rule = understand(403, body("ExpiredProviderToken")).rule
    assert rule.disposition is Disposition.REFUSED
    assert After.RENEW_TOKEN in rule.after
    assert After.LEAVE in rule.after


def test_too_many_token_updates_never_asks_for_another_token() -> None:
    rule = understand(429, body("TooManyProviderTokenUpdates")).rule
    assert After.RENEW_TOKEN not in rule.after
    assert rule.wait > 0


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, Disposition.PERMANENT),
        (403, Disposition.ROUTE_FAULT),
        (410, Disposition.RECIPIENT_GONE),
        (418, Disposition.PERMANENT),
        (429, Disposition.TRANSIENT),
        (500, Disposition.TRANSIENT),
        (502, Disposition.TRANSIENT),
        (302, Disposition.TRANSIENT),
        (204, Disposition.TRANSIENT),
    ],
)
def test_an_unknown_reason_is_judged_by_its_status_and_kept_word_for_word(status: int, expected: Disposition) -> None:
    answer = understand(status, body("SomethingNew"))
    assert answer.rule.disposition is expected
    assert answer.reason == "SomethingNew"


@pytest.mark.parametrize("junk", [b"", b"<html>", b'{"reason":', b'{"reason":7}', b"[]", b"\xff\xfe", b"null"])
def test_an_unreadable_body_is_judged_by_the_status(junk: bytes) -> None:
    answer = understand(503, junk)
    assert answer.rule.disposition is Disposition.TRANSIENT
    assert "503" in answer.reason


def test_the_timestamp_of_a_gone_token_is_in_seconds() -> None:
    answer = understand(410, b'{"reason":"Unregistered","timestamp":1700000000000}')
    assert answer.gone_since == 1_700_000_000.0


def test_a_reason_is_found_with_or_without_its_space() -> None:
    assert understand(503, body("Service Unavailable")).rule is RULES["ServiceUnavailable"]


def test_debug_data_of_a_goaway_is_read_like_an_error_body() -> None:
    assert reason_of(b'{"reason":"BadCertificate"}') == ("BadCertificate", 0.0)


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("120", 120.0),
        ("Tue, 14 Nov 2023 22:14:20 GMT", 60.0),
        ("Tue, 14 Nov 2023 00:00:00 GMT", 0.0),
        ("soon", 0.0),
        (None, 0.0),
    ],
)
def test_retry_after_is_understood_in_both_forms(value: str | None, expected: float) -> None:
    assert retry_after(value, now=1_700_000_000.0) == expected


@pytest.mark.parametrize(
    "value",
    ["\u00b2", "\u0663", "Mon, 01 Jan 2030 00:00:00 +9999999999999999", "-5", "1e3", "soon", "Mon, 99 Jan 2030"],
)
def test_a_retry_after_that_cannot_be_read_asks_for_nothing(value: str) -> None:
    assert retry_after(value, now=1_700_000_000.0) == 0.0


@pytest.mark.parametrize("value", ["9" * 400, "99999999999", "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_no_gateway_asks_for_more_than_a_day(value: str) -> None:
    assert retry_after(value, now=1_700_000_000.0) == 86_400

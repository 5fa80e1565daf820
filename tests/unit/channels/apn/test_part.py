"""What is stored of an apn part, which tokens it goes to, and what its sender is told when it cannot be sent."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.apn.part import APNS_HEADERS, MEDIA_TYPE, read
from mcmt.channel.port import Reading, Target
from mcmt.errors import MessageError
from mcmt.message.mime import parse
from mcmt.message.model import Headers, Part

PAYLOAD = b'{"aps":{"alert":"You have mail"}}'
TOKEN = ("x-device-token", "aa")
SILENT = b'{"aps":{"content-available":1}}'
ID = "0191f3c2-7a1b-7c3d-8e4f-5a6b7c8d9e0f"


def reading(
    *headers: tuple[str, str],
    content: bytes = PAYLOAD,
    recipient: str = "user42@apn.example.com",
    context: dict[str, str] | None = None,
) -> Reading:
    return read(Part(MEDIA_TYPE, headers, content), recipient, context or {}, None)


def tokens(*headers: tuple[str, str], recipient: str = "u@apn.example.com", context: str | None = None) -> list[str]:
    variables = {} if context is None else {"DLV_Dest_ID": context}
    return [target.token for target in reading(*headers, recipient=recipient, context=variables).targets]


def stored(*headers: tuple[str, str], content: bytes = PAYLOAD) -> Headers:
    return reading(TOKEN, *headers, content=content).part.headers


def refusal(*headers: tuple[str, str], content: bytes = PAYLOAD) -> str:
    with pytest.raises(MessageError) as caught:
        reading(*headers, content=content)
    return str(caught.value)


def test_the_manuals_sample_is_one_delivery_with_its_comma_forgiven() -> None:
    json = b'{\r\n"aps" : {\r\n"alert" : "You have mail",\r\n"badge" : 9\r\n},\r\n"app-key" : "bar",\r\n}'
    token = "123acb90ffa0978cbade354ddffee76665a"
    data = b"Content-Type: multipart/vnd.msys.mcmt; boundary=B\r\n\r\n--B\r\nContent-Type: message/vnd.msys.apn\r\n"
    data += b"X-Device-Token: " + token.encode() + b"\r\n" + json + b"\r\n\r\n--B--\r\n"

    (part,) = parse(data).parts

    assert read(part, "user@apn.example.com", {}, None) == Reading(
        Part(MEDIA_TYPE, (("apns-push-type", "alert"),), json.replace(b'"bar",', b'"bar"')), (Target(token, None),)
    )


def test_tokens_are_repeated_or_separated_by_commas_lower_case_and_each_once() -> None:
    assert tokens(("x-device-token", "AA, bb,,"), ("x-device-token", "cC"), ("x-device-token", "aa")) == [
        "aa",
        "bb",
        "cc",
    ]


def test_a_token_is_sought_in_the_part_then_in_the_context_then_in_the_recipient() -> None:
    recipient = "AB" * 32 + "@apn.example.com"

    assert tokens(("x-device-token", "01"), context="02", recipient=recipient) == ["01"]
    assert tokens(("x-device-token", " ,"), context="02", recipient=recipient) == ["02"]
    assert tokens(context="0A") == ["0a"]
    assert tokens(context="", recipient=recipient) == ["ab" * 32]


@pytest.mark.parametrize("recipient", ["user@x", "a" * 63 + "@x", "g" * 64 + "@x", "@x", ""])
def test_without_a_token_anywhere_the_sender_is_told_where_one_can_stand(recipient: str) -> None:
    with pytest.raises(MessageError) as caught:
        reading(recipient=recipient)

    assert str(caught.value) == (
        "554 5.1.1 no device token: expected the field X-Device-Token, the context variable DLV_Dest_ID, "
        "or a recipient whose local part is a token (64 or more hex digits)"
    )


def test_tokens_of_1_to_200_hex_digits_pass() -> None:
    assert tokens(("x-device-token", f"f,{'0' * 200}")) == ["f", "0" * 200]


@pytest.mark.parametrize(
    ("given", "reply"),
    [
        ("xyz", "554 5.1.3 X-Device-Token: 'xyz' is not 1 to 200 hex digits"),
        ("<aa bb>", "554 5.1.3 X-Device-Token: '<aa bb>' is not 1 to 200 hex digits"),
        ("aa,b-b", "554 5.1.3 X-Device-Token: 'b-b' (number 2 of 2) is not 1 to 200 hex digits"),
        ("é", r"554 5.1.3 X-Device-Token: '\xe9' is not 1 to 200 hex digits"),
        ("f" * 201, f"554 5.1.3 X-Device-Token: '{'f' * 77}...' is not 1 to 200 hex digits"),
    ],
)
def test_a_token_of_another_form_is_named(given: str, reply: str) -> None:
    assert refusal(("x-device-token", given)) == reply


def test_a_token_of_another_form_in_the_context_or_the_recipient_says_where_it_stands() -> None:
    with pytest.raises(MessageError, match=r"^554 5\.1\.3 DLV_Dest_ID: 'no' is not"):
        tokens(context="no")
    with pytest.raises(MessageError, match=r"^554 5\.1\.3 recipient: 'a+\.\.\.' is not"):
        tokens(recipient="a" * 201 + "@x")


def test_all_of_apples_headers_are_stored_normalised_in_their_order() -> None:
    assert stored(
        ("content-type", MEDIA_TYPE),
        ("return-path", "<bounces@example.com>"),
        ("apns-id", ID.upper()),
        ("apns-collapse-id", "score é"),
        ("apns-expiration", "01700000000"[1:]),
        ("apns-priority", "5"),
        ("apns-topic", "com.example.app-1"),
        ("apns-push-type", "voip"),
        ("x-other", "ignored"),
    ) == (
        ("apns-push-type", "voip"),
        ("apns-topic", "com.example.app-1"),
        ("apns-priority", "5"),
        ("apns-expiration", "1700000000"),
        ("apns-collapse-id", "score é"),
        ("apns-id", ID),
        ("return-path", "bounces@example.com"),
    )
    assert [name for name, _ in stored(*((name, VALID[name]) for name in reversed(APNS_HEADERS)))] == [*APNS_HEADERS]


VALID = {
    "apns-push-type": "alert",
    "apns-topic": "com.example.app",
    "apns-priority": "10",
    "apns-expiration": "0",
    "apns-collapse-id": "x",
    "apns-id": ID,
}


@pytest.mark.parametrize(
    ("aps", "expected"),
    [
        (b'"alert":"x"', (("apns-push-type", "alert"),)),
        (b"", (("apns-push-type", "alert"),)),
        (b'"content-available":0', (("apns-push-type", "alert"),)),
        (b'"content-available":1,"alert":"x"', (("apns-push-type", "alert"),)),
        (b'"content-available":1,"badge":0', (("apns-push-type", "alert"),)),
        (b'"content-available":1,"sound":"x"', (("apns-push-type", "alert"),)),
        (b'"content-available":1', (("apns-push-type", "background"), ("apns-priority", "5"))),
        (b'"content-available":1,"alert":null', (("apns-push-type", "background"), ("apns-priority", "5"))),
    ],
)
def test_the_push_type_follows_from_the_payload_when_not_given(aps: bytes, expected: Headers) -> None:
    assert stored(content=b'{"aps":{' + aps + b"}}") == expected


def test_a_given_background_push_has_priority_5_by_itself() -> None:
    assert stored(("apns-push-type", "background")) == (("apns-push-type", "background"), ("apns-priority", "5"))
    assert stored(("apns-push-type", "alert"), content=SILENT) == (("apns-push-type", "alert"),)


def test_a_push_type_that_apple_adds_later_passes() -> None:
    assert stored(("apns-push-type", "hologram")) == (("apns-push-type", "hologram"),)


@pytest.mark.parametrize(
    ("name", "value", "reply"),
    [
        ("apns-push-type", "Alert", "'Alert' is not 1 to 32 letters a to z"),
        ("apns-push-type", "", "'' is not 1 to 32 letters a to z"),
        ("apns-push-type", "a" * 33, f"'{'a' * 33}' is not 1 to 32 letters a to z"),
        ("apns-topic", "com.example/app", "'com.example/app' is not 1 to 255 letters, digits, dots and hyphens"),
        ("apns-topic", "", "'' is not 1 to 255 letters, digits, dots and hyphens"),
        ("apns-topic", "x" * 256, f"'{'x' * 77}...' is not 1 to 255 letters, digits, dots and hyphens"),
        ("apns-priority", "7", "7 is not 1, 5 or 10"),
        ("apns-priority", "high", "'high' is not 1, 5 or 10"),
        ("apns-priority", "", "'' is not 1, 5 or 10"),
        ("apns-expiration", "-1", "'-1' is not 0 or a time in Unix seconds"),
        ("apns-expiration", "1700000000000", "1700000000000 is not 0 or a time in Unix seconds"),
        ("apns-expiration", "1d", "'1d' is not 0 or a time in Unix seconds"),
        ("apns-expiration", "٣", r"'\u0663' is not 0 or a time in Unix seconds"),
        ("apns-collapse-id", "", "0 bytes, expected 1 to 64"),
        ("apns-collapse-id", "é" * 33, "66 bytes, expected 1 to 64"),
        ("apns-collapse-id", "a\x00b", r"'a\x00b' has control characters or bytes that are not UTF-8"),
        ("apns-collapse-id", "a\ufffd", r"'a\ufffd' has control characters or bytes that are not UTF-8"),
        ("apns-id", "42", "'42' is not a UUID (8-4-4-4-12 hex digits)"),
        ("apns-id", ID.replace("-", ""), f"'{ID.replace('-', '')}' is not a UUID (8-4-4-4-12 hex digits)"),
        ("apns-colapse-id", "x", "not a header that is sent to Apple"),
    ],
)
def test_a_header_out_of_apples_rules_is_named_with_the_rule(name: str, value: str, reply: str) -> None:
    assert refusal(TOKEN, (name, value)) == f"554 5.6.0 {name}: {reply}"


def test_a_header_given_twice_is_refused() -> None:
    assert refusal(TOKEN, ("apns-topic", "a"), ("apns-topic", "a")) == "554 5.6.0 apns-topic: given more than once"


@pytest.mark.parametrize("priority", ["1", "10"])
def test_a_background_push_with_another_priority_is_refused(priority: str) -> None:
    expected = f"554 5.6.0 apns-priority: {priority}, but a background push has 5"

    assert refusal(TOKEN, ("apns-push-type", "background"), ("apns-priority", priority)) == expected
    assert refusal(TOKEN, ("apns-priority", priority), content=SILENT) == expected


def test_an_apns_id_names_a_single_delivery() -> None:
    assert reading(TOKEN, ("apns-id", ID)).sole
    assert reading(("x-device-token", "aa,AA"), ("apns-id", ID)).sole
    assert not reading(TOKEN).sole
    assert refusal(("x-device-token", "aa,bb"), ("apns-id", ID)) == (
        "554 5.6.0 apns-id: 2 device tokens, an id names a single delivery"
    )


@pytest.mark.parametrize(("given", "expires"), [(None, None), ("0", 0.0), ("000", 0.0), ("1700000000", 1.7e9)])
def test_every_target_ends_when_the_message_says(given: str | None, expires: float | None) -> None:
    headers = () if given is None else (("apns-expiration", given),)
    read_part = reading(("x-device-token", "aa,bb"), *headers)

    assert read_part.targets == (Target("aa", expires), Target("bb", expires))
    if given is not None:
        assert ("apns-expiration", str(int(given))) in read_part.part.headers


@pytest.mark.parametrize(
    ("given", "kept"),
    [
        ("<>", ""),
        ("a@example.com", "a@example.com"),
        ("<a+b=c@sub.example.com>", "a+b=c@sub.example.com"),
        ('<"a b"@localhost>', '"a b"@localhost'),
        ("<a@[192.0.2.1]>", "a@[192.0.2.1]"),
        ("<é@bücher.example>", "é@bücher.example"),
    ],
)
def test_a_return_path_is_kept_as_an_envelope_has_it(given: str, kept: str) -> None:
    assert stored(("return-path", given))[-1] == ("return-path", kept)


@pytest.mark.parametrize(
    "given", ["", "example.com", "<a@b", "a@b>", "a b@c", "a@b, c@d", "a@b\x00", "a@-..x", f"{'a' * 65}@b", "@b", "a@"]
)
def test_a_return_path_that_is_no_address_is_refused(given: str) -> None:
    assert refusal(TOKEN, ("return-path", given)) == (
        f"554 5.1.7 Return-Path: {given[:80]!a} is neither an address nor <>"
    )


names = st.sampled_from(["x-device-token", "return-path", *APNS_HEADERS, "apns-other"])


@settings(deadline=None)  # the machine may be busy
@given(st.lists(st.tuples(names, st.text(max_size=80)), max_size=5), st.binary(max_size=60), st.text(max_size=80))
def test_whatever_a_part_holds_it_is_read_or_refused(
    headers: list[tuple[str, str]], content: bytes, recipient: str
) -> None:
    result: Reading | MessageError
    try:
        result = reading(*headers, content=content, recipient=recipient)
    except MessageError as error:
        result = error
    if isinstance(result, MessageError):
        assert result.code == 554
        assert str(result).isascii()
        assert str(result).isprintable()
    else:
        assert result.targets


def test_the_sender_may_say_when_its_devices_have_registered_last() -> None:
    assert reading(TOKEN).registered == 0.0
    assert reading(TOKEN, ("x-device-registered", "1795372856")).registered == 1795372856.0
    assert stored(("x-device-registered", "1795372856")) == stored()


@pytest.mark.parametrize("value", ["", "yesterday", "-1", "1.5", "17953728560000"])
def test_what_is_no_time_of_registration_is_refused(value: str) -> None:
    assert refusal(TOKEN, ("x-device-registered", value)) == (
        f"554 5.6.0 X-Device-Registered: {value!r} is not a time in Unix seconds"
    )

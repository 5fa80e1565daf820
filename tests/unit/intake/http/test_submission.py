"""What a client writes, read into our values: everything as it was written, or a problem that names the field."""

from __future__ import annotations

import base64
import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.intake.http.problem import Problem
from mcmt.intake.http.submission import HORIZON, Submission, is_raw, read_json, read_raw
from mcmt.message.model import header
from tests.unit.intake.http.conftest import MESSAGE, NARROW, SHOP

NOW = 1_800_000_000.0
PUSH = "message/vnd.msys.apn"
QUERY = [("to", "a@b.example")]


def read(**more: Any) -> Submission:
    return read_json(json.dumps({**MESSAGE, **more}).encode(), SHOP, NOW)


def read_part(**part: Any) -> Submission:
    return read(parts=[{"media_type": PUSH, **part}])


def blamed(**more: Any) -> str:
    with pytest.raises(Problem) as refused:
        read(**more)
    assert refused.value.status == 400
    assert refused.value.detail
    return refused.value.field


UTF_8 = st.text(st.characters(codec="utf-8"))
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | UTF_8,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(UTF_8, inner, max_size=3),
    max_leaves=8,
)


@given(value=JSON_VALUES, indent=st.none() | st.integers(0, 3), ascii_=st.booleans())
def test_json_is_kept_byte_for_byte(value: Any, indent: int | None, ascii_: bool) -> None:
    written = json.dumps(value, indent=indent, ensure_ascii=ascii_)
    body = f'{{"parts": [{{"json": {written}, "media_type": "{PUSH}"}}], "to": ["a@b.example"]}}'
    (part,) = read_json(body.encode(), SHOP, NOW).parts
    assert part.content == written.encode()


@given(content=st.binary())
def test_base64_is_the_octets_that_it_stands_for(content: bytes) -> None:
    (part,) = read_part(base64=base64.b64encode(content).decode()).parts
    assert part.content == content


@given(text=st.text(st.characters(codec="utf-8")))
def test_text_is_sent_as_utf_8(text: str) -> None:
    (part,) = read_part(text=text).parts
    assert part.content == text.encode()


VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text()
    | st.sampled_from([PUSH, "a@b.example", "2030"]),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
FIELDS = ("to", "from", "parts", "headers", "schedule", "expires", "priority", "x")
PART_FIELDS = ("media_type", "headers", "tokens", "json", "text", "base64")
PARTS = st.lists(st.dictionaries(st.sampled_from(PART_FIELDS), VALUES), max_size=2)


@given(
    body=st.binary(max_size=40)
    | st.dictionaries(st.sampled_from(FIELDS), VALUES).map(lambda value: json.dumps(value).encode())
    | st.tuples(st.sampled_from(FIELDS), VALUES).map(lambda pair: json.dumps({**MESSAGE, pair[0]: pair[1]}).encode())
    | PARTS.map(lambda parts: json.dumps({**MESSAGE, "parts": parts}).encode())
)
def test_whatever_is_sent_is_read_or_is_a_problem_that_can_be_told(body: bytes) -> None:
    try:
        found = read_json(body, SHOP, NOW)
    except Problem as problem:
        assert problem.status == 400  # noqa: PT017 - either is right
        msgspec.json.decode(problem.body())
        return
    assert found.recipients
    for name, value in (*found.headers, *[pair for part in found.parts for pair in part.headers]):
        # Nothing that a client gives can end a line of a header block.
        assert not set("\r\n\0") & set(name + value)
        f"{name}: {value}".encode()


def test_tokens_stand_in_the_header_field_that_the_channel_reads() -> None:
    (part,) = read_part(json={}, tokens=["ab", "cd"], headers={"Apns-Topic": " a.b "}).parts
    assert (header(part.headers, "x-device-token"), header(part.headers, "apns-topic")) == ("ab,cd", "a.b")
    assert blamed(parts=[{"media_type": PUSH, "json": {}, "tokens": ["ab,cd"]}]) == "parts[0].tokens[0]"


def test_a_header_field_may_be_there_twice() -> None:
    assert read(headers={"X-A": ["1", "2"], "x-b": "3"}).headers == (("x-a", "1"), ("x-a", "2"), ("x-b", "3"))


@pytest.mark.parametrize("value", ["a\r\nb: c", "a\nb", "a\0", "\x7f"])
def test_no_value_of_a_header_field_ends_its_line(value: str) -> None:
    assert blamed(headers={"x-a": value}) == "headers[...]"
    assert blamed(parts=[{"media_type": PUSH, "json": {}, "headers": {"x-a": value}}]).startswith("parts[0].headers")


@pytest.mark.parametrize("name", ["a b", "a:", "", "ü"])
def test_no_name_of_a_header_field_is_none(name: str) -> None:
    assert blamed(headers={name: "x"}).startswith("headers")


@pytest.mark.parametrize("recipient", ["nobody", "", "a@b.example> SIZE=1", "<a@b.example>", "a b@c.example"])
def test_a_recipient_is_one_address_by_the_grammar_of_rcpt(recipient: str) -> None:
    assert blamed(to=["a@b.example", recipient]) == "to[1]"


def test_a_token_sends_to_its_own_domains_only() -> None:
    body = json.dumps({**MESSAGE, "to": ["a@other.example.com", "a@apn.example.com"]}).encode()
    with pytest.raises(Problem) as refused:
        read_json(body, NARROW, NOW)
    assert (refused.value.status, refused.value.field) == (403, "to[1]")
    assert read(to=["a@OTHER.example.com"]).recipients


@pytest.mark.parametrize("contents", [{}, {"json": {}, "text": ""}, {"text": "", "base64": ""}])
def test_a_part_has_one_content(contents: dict[str, Any]) -> None:
    assert blamed(parts=[{"media_type": PUSH, **contents}]) == "parts[0]"


@pytest.mark.parametrize("given_", [NOW + 60, "2027-01-15T08:01:00Z", "2027-01-15T09:01:00+01:00"])
def test_a_time_is_a_number_of_seconds_or_has_an_offset(given_: float | str) -> None:
    schedule = read(schedule=given_, expires=NOW + 90).schedule
    assert (schedule.due, schedule.expires) == (NOW + 60, NOW + 90)
    assert read_raw(b"", "message/rfc822", [*QUERY, ("schedule", str(given_))], SHOP, NOW).schedule.due == NOW + 60


@pytest.mark.parametrize("past", [0, NOW - 1, "1970-01-01T00:00:00Z"])
def test_what_is_scheduled_for_the_past_is_sent_at_once(past: float | str) -> None:
    assert read(schedule=past).schedule == read().schedule


@pytest.mark.parametrize(
    ("times", "field"),
    [
        ({"schedule": NOW + HORIZON + 1}, "schedule"),
        ({"schedule": 1e308}, "schedule"),
        ({"schedule": "2030-01-01T00:00:00"}, "schedule"),
        ({"schedule": "soon"}, "schedule"),
        ({"expires": NOW}, "expires"),
        ({"expires": NOW + 5, "schedule": NOW + 5}, "expires"),
    ],
)
def test_a_time_that_cannot_be_is_refused(times: dict[str, Any], field: str) -> None:
    assert blamed(**times) == field


def test_a_raw_message_is_kept_with_the_line_ends_of_mail() -> None:
    for body in (b"Subject: x\n\ntext\n", b"Subject: x\r\n\r\ntext\r\n"):
        assert read_raw(body, "message/rfc822", QUERY, SHOP, NOW).raw == b"Subject: x\r\n\r\ntext\r\n"


def test_the_body_of_an_mcmt_message_has_the_type_that_the_request_said() -> None:
    for said, octets in (("B", b"B"), ("\udcff", b"\xff")):
        content_type = f"Multipart/vnd.msys.mcmt; boundary={said}"
        raw = read_raw(b"--B--\n", content_type, QUERY, SHOP, NOW).raw
        head = b"MIME-Version: 1.0\r\nContent-Type: Multipart/vnd.msys.mcmt; boundary=" + octets
        assert raw == head + b"\r\n\r\n--B--\r\n"
    assert is_raw("multipart/vnd.msys.mcmt")
    assert not is_raw("multipart/mixed")


@pytest.mark.parametrize(
    ("query", "field"),
    [
        ([], "to"),
        ([("to", "nobody")], "to[0]"),
        ([*QUERY, ("from", "nobody")], "from"),
        ([*QUERY, ("too", "x")], "too"),
        ([*QUERY, ("from", "a@b.example"), ("from", "a@b.example")], "from"),
        ([*QUERY, ("schedule", "soon")], "schedule"),
        ([*QUERY, ("expires", "5")], "expires"),
    ],
)
def test_a_query_that_is_wrong_is_named(query: list[tuple[str, str]], field: str) -> None:
    with pytest.raises(Problem) as refused:
        read_raw(b"", "message/rfc822", query, SHOP, NOW)
    assert (refused.value.status, refused.value.field) == (400, field)


@given(
    query=st.lists(
        st.tuples(st.sampled_from(["to", "from", "schedule", "expires", "priority"]) | st.text(), st.text())
    ),
    body=st.binary(max_size=30),
)
def test_whatever_is_asked_of_a_raw_message_it_is_read_or_a_problem(query: list[tuple[str, str]], body: bytes) -> None:
    try:
        found = read_raw(body, "message/rfc822", [*QUERY, *query], SHOP, NOW)
    except Problem as problem:
        assert problem.status == 400  # noqa: PT017 - either is right
    else:
        assert found.raw is not None

"""The payload goes out as it came, or its sender is told what is wrong with it and where."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from channels.apn.payload import read_payload
from mcmt.errors import MessageError


def refusal(content: bytes, push_type: str | None = None) -> str:
    with pytest.raises(MessageError) as caught:
        read_payload(content, push_type)
    return str(caught.value)


def sized(size: int) -> bytes:
    head, tail = b'{"aps":{},"x":"', b'"}'
    return head + b"y" * (size - len(head) - len(tail)) + tail


def nested(depth: int) -> bytes:
    """An object nested *depth* deep, itself counted."""
    return b'{"aps":{},"x":' + b"[" * (depth - 1) + b"]" * (depth - 1) + b"}"


values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(max_size=10),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)  # the machine may be busy
@given(st.dictionaries(st.text(max_size=5), values, max_size=4), st.booleans(), st.sampled_from([None, 2]))
def test_json_goes_out_byte_for_byte(value: dict[str, object], ascii_only: bool, indent: int | None) -> None:
    value["aps"] = {"alert": "x"}
    content = json.dumps(value, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass")

    assert read_payload(b" \r\n\t" + content + b"\r\n\r\n", None) == (content, {"alert": "x"})


def test_what_strict_json_allows_is_not_touched() -> None:
    content = '{"aps" : {},\t"a":1,"a":2,"s":",}, ,] \\",}","n":-1.5e3,"u":"\\u00e9\\ud83d\\ude00é\\/"\r\n}'.encode()

    assert read_payload(content, None) == (content, {})


@pytest.mark.parametrize(
    ("content", "sent"),
    [
        (b'{"aps":{},}', b'{"aps":{}}'),
        (b'{"aps":{"badge":1,},"x":[1,2, \r\n],\t}', b'{"aps":{"badge":1},"x":[1,2 \r\n]\t}'),
        (b'{"aps":{},"x":",}",}', b'{"aps":{},"x":",}"}'),
        (b'{"aps":{},"x":"\\",]",}', b'{"aps":{},"x":"\\",]"}'),
        (b'{"aps":{},"x":"\\\\",}', b'{"aps":{},"x":"\\\\"}'),
        (b'{"aps":{"alert":"\xc3\xa9,}",},"y" : 1.50 ,}', b'{"aps":{"alert":"\xc3\xa9,}"},"y" : 1.50 }'),
    ],
)
def test_only_commas_before_a_closing_bracket_are_forgiven_and_not_in_strings(content: bytes, sent: bytes) -> None:
    assert read_payload(content, None)[0] == sent


@pytest.mark.parametrize(
    ("content", "reply"),
    [
        (b"", "554 5.6.0 payload: the part has no JSON"),
        (b" \r\n", "554 5.6.0 payload: the part has no JSON"),
        (b"[1]", "554 5.6.0 payload: expected a JSON object, found an array"),
        (b'"aps"', "554 5.6.0 payload: expected a JSON object, found a string"),
        (b"12", "554 5.6.0 payload: expected a JSON object, found a number"),
        (b"true", "554 5.6.0 payload: expected a JSON object, found true or false"),
        (b"{}", '554 5.6.0 payload: the JSON object has no "aps"'),
        (b'{"APS":{}}', '554 5.6.0 payload: the JSON object has no "aps"'),
        (b'{"aps":null}', '554 5.6.0 payload: "aps" is null, expected an object'),
        (b'{"aps":"hello"}', '554 5.6.0 payload: "aps" is a string, expected an object'),
        (
            b'{"aps":{},\r\n"x":NaN}',
            "554 5.6.0 payload: not JSON near line 2 column 5: invalid character",
        ),
        (b'{"aps":{},"x":-Infinity}', "554 5.6.0 payload: not JSON near line 1 column 16: invalid character"),
        (b'{"aps":{},"x":"\xff"}', "554 5.6.0 payload: not JSON near line 1 column 16: bytes that are not UTF-8"),
        (b'\xef\xbb\xbf{"aps":{}}', "554 5.6.0 payload: not JSON near line 1 column 1: invalid character"),
        (b'{"aps":{}} x', "554 5.6.0 payload: not JSON near line 1 column 13: trailing characters"),
        (b'{"aps":{},}\n,}', "554 5.6.0 payload: not JSON near line 2 column 3: trailing characters"),
        (b'{"aps":{}', "554 5.6.0 payload: not JSON: input data was truncated"),
        (nested(101), "554 5.6.0 payload: not JSON: nested deeper than 100"),
        (nested(2040), "554 5.6.0 payload: not JSON: nested deeper than 100"),
    ],
)
def test_what_is_not_a_payload_is_refused_with_what_and_where(content: bytes, reply: str) -> None:
    assert refusal(content) == reply


@pytest.mark.parametrize(
    "content", [b'{"aps":{,,}}', b'{"aps":{},,}', b'{"aps":{}', b"{'aps':{},}", b'{"aps":{} "x":1,}']
)
def test_nothing_but_one_comma_is_forgiven(content: bytes) -> None:
    assert refusal(content).startswith("554 5.6.0 payload: not JSON")


def test_nesting_up_to_the_limit_passes_however_many_brackets_there_are() -> None:
    assert read_payload(nested(100), None)[0] == nested(100)
    wide = b'{"aps":{},"x":[' + b"[]," * 200 + b'"[[[[["]}'
    assert read_payload(wide, None)[0] == wide


def test_apples_size_limits_hold_to_the_byte() -> None:
    assert read_payload(sized(4096), None)[0] == sized(4096)
    assert refusal(sized(4097)) == "554 5.3.4 payload: 4097 bytes, Apple takes at most 4096"
    assert read_payload(sized(5120), "voip")[0] == sized(5120)
    assert refusal(sized(5121), "voip") == "554 5.3.4 payload: 5121 bytes, Apple takes at most 5120"
    assert refusal(b"{" * 1_000_000) == "554 5.3.4 payload: 1000000 bytes, Apple takes at most 4096"


def test_what_is_sent_is_what_is_measured() -> None:
    assert len(read_payload(sized(4096)[:-1] + b",}\r\n", None)[0]) == 4096
    assert refusal(sized(4097)[:-1] + b",}") == "554 5.3.4 payload: 4097 bytes, Apple takes at most 4096"


@pytest.mark.parametrize("push_type", ["mdm", "fileprovider"])
def test_push_types_that_the_system_reads_may_lack_aps(push_type: str) -> None:
    assert read_payload(b'{"mdm":"magic"}', push_type) == (b'{"mdm":"magic"}', {})
    assert refusal(b'{"aps":1}', push_type) == '554 5.6.0 payload: "aps" is a number, expected an object'


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=80), st.text('{}[]",:\\ aps1', max_size=60))
def test_random_bytes_are_a_payload_or_a_refusal(noise: bytes, near: str) -> None:
    for content in (noise, near.encode(), b'{"aps":{},' + near.encode() + b"}"):
        payload: bytes | None = None
        try:
            payload, _ = read_payload(content, None)
        except MessageError:
            continue
        assert isinstance(json.loads(payload), dict)

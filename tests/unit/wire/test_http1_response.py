"""Heads of responses of HTTP/1.1."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.errors import ProtocolError
from mcmt.wire.http1_response import ResponseHead, read_head


def head(*lines: str) -> ResponseHead:
    return read_head("\r\n".join([*lines, "", ""]).encode("latin-1"))


def test_status_fields_length_and_whether_the_connection_lasts_are_read() -> None:
    found = head("HTTP/1.1 503 Service Unavailable", "Retry-After:  7 ", "content-LENGTH: 12", "X: \xe9")
    assert (found.status, found.length, found.keep_alive) == (503, 12, True)
    assert (found.fields["retry-after"], found.fields["x"]) == ("7", "\xe9")


@pytest.mark.parametrize(
    ("lines", "length"),
    [
        (("HTTP/1.1 200", "Content-Length: 5"), 5),
        (("HTTP/1.1 204 No Content", "Content-Length: 5"), 0),
        (("HTTP/1.1 304 Not Modified", "Transfer-Encoding: chunked"), 0),
        (("HTTP/1.1 200 OK",), None),
        (("HTTP/1.1 200 OK", "Content-Length: 5", "Transfer-Encoding: chunked"), None),
        (("HTTP/1.1 200 OK", "Content-Length: -5"), None),
        (("HTTP/1.1 200 OK", "Content-Length: 5, 5"), None),
        (("HTTP/1.1 200 OK", "Content-Length: 5", "Content-Length: 0"), None),
    ],
)
def test_the_length_of_a_body_is_told_where_it_is_sure(lines: tuple[str, ...], length: int | None) -> None:
    assert head(*lines).length == length


@pytest.mark.parametrize(
    ("lines", "lasts"),
    [
        (("HTTP/1.1 200 OK",), True),
        (("HTTP/1.1 200 OK", "Connection: x, Close"), False),
        (("HTTP/1.0 200 OK",), False),
        (("HTTP/1.0 200 OK", "Connection: keep-alive"), True),
    ],
)
def test_a_connection_lasts_as_the_version_and_its_field_say(lines: tuple[str, ...], lasts: bool) -> None:
    assert head(*lines).keep_alive is lasts


@pytest.mark.parametrize(
    "lines",
    [("",), ("220 mx.example.com ESMTP",), ("HTTP/2 200",), ("HTTP/1.1 999 X",), ("HTTP/1.1 200 OK", "no field")],
)
def test_what_is_no_response_is_a_protocol_error(lines: tuple[str, ...]) -> None:
    with pytest.raises(ProtocolError):
        head(*lines)


@given(st.binary(max_size=200) | st.binary(max_size=100).map(lambda data: b"HTTP/1.1 200 OK\r\n" + data + b"\r\n\r\n"))
def test_whatever_comes_is_a_head_or_a_protocol_error(data: bytes) -> None:
    with contextlib.suppress(ProtocolError):
        assert 100 <= read_head(data).status < 600

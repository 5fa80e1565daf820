"""What is sent of a message: as it came where the server can take that, else rewritten and the same when decoded."""

from __future__ import annotations

import email
import re
import time
from email.message import Message
from email.policy import default

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from channels.smtp.content import normalise, prepare
from channels.smtp.dots import stuff
from channels.smtp.entity import MAX_LINE, has_long_line
from channels.smtp.extensions import NONE, Extensions
from channels.smtp.trace import MAX_HOPS, received_field
from mcmt.message.model import Sender
from tests.unit.channels.smtp.messages import EIGHT, LONG, UTF8, crlf, parse, refusal

# -- what passes as it is ---------------------------------------------------------------------------------------------

PLAIN = crlf("Subject: hello\nX: y\n z\n\n.dot\n..dots\n\nbody\n")


@pytest.mark.parametrize("extensions", [NONE, EIGHT, UTF8])
@pytest.mark.parametrize(
    "data",
    [PLAIN, b"\r\n", b"\r\nbody\r\n", b"Subject: x\r\n", b"A: " + b"x" * 995 + b"\r\n\r\n" + b"y" * 998 + b"\r\n"],
)
def test_what_fits_is_not_touched(data: bytes, extensions: Extensions) -> None:
    assert prepare(data, extensions).data == data


def test_eight_bits_pass_where_the_server_takes_them() -> None:
    body = crlf("Subject: x\n\ngrün\n")
    assert prepare(body, EIGHT) == (body, True, False)
    header = crlf("Subject: grün\n\nx\n")
    assert prepare(header, UTF8) == (header, True, True)


@pytest.mark.parametrize(
    ("raw", "sent"),
    [
        (b"a: b\n\nc\rd\n", b"a: b\r\n\r\nc\r\nd\r\n"),
        (b"a: b\r\n\r\nc", b"a: b\r\n\r\nc\r\n"),
        (b"a: b\r\n\r\nc\r\r\n", b"a: b\r\n\r\nc\r\n\r\n"),
        (b"", b"\r\n"),
    ],
)
def test_lines_end_in_cr_lf_and_nothing_else(raw: bytes, sent: bytes) -> None:
    assert prepare(raw, NONE).data == sent


@given(st.binary(max_size=300).map(lambda data: data.replace(b"\0", b"\r")))
def test_normalised_there_is_no_bare_cr_or_lf(raw: bytes) -> None:
    data = normalise(raw)
    assert data.endswith(b"\r\n")
    assert data.count(b"\r\n") == data.count(b"\n") == data.count(b"\r")
    assert data.splitlines() == raw.splitlines() or not raw or data.split(b"\r\n")[:-1] == re.split(rb"\r\n|\r|\n", raw)


@pytest.mark.parametrize(
    "first", [b"no field\r\n", b" continued\r\n", b"From app Mon Jan 1\r\n", b"{}\r\n", b": x\r\n"]
)
def test_a_body_without_header_stays_a_body_behind_our_field(first: bytes) -> None:
    """Else its first line would be a fault, or a part of our field."""
    data = received_field("mx", Sender("b", 0.0, "", {}), "") + prepare(first + b"more\r\n", EIGHT).data
    assert parse(data).get_payload() == (first + b"more\r\n").decode()


def test_a_header_without_blank_line_is_divided_from_the_body() -> None:
    sent = prepare(b"Subject: x\r\nthis is the body\r\n", EIGHT).data
    assert sent == b"Subject: x\r\n\r\nthis is the body\r\n"


# -- dots and lines ---------------------------------------------------------------------------------------------------


@given(st.lists(st.sampled_from([b"", b".", b"..", b".x", b"x.", b"x"]), max_size=8))
def test_dots_undone_are_the_same_octets_and_only_the_last_line_ends_the_message(lines: list[bytes]) -> None:
    data = b"".join(line + b"\r\n" for line in lines)
    wire = stuff(data)
    assert wire.endswith(b".\r\n")
    sent = wire[: -len(b".\r\n")].split(b"\r\n")
    assert sent.pop() == b""
    assert b"." not in sent
    assert b"".join(line.removeprefix(b".") + b"\r\n" for line in sent) == data


@given(st.lists(st.integers(0, 1100), max_size=6))
@example([998, 998])
@example([999])
def test_a_long_line_is_found_wherever_it_is(lengths: list[int]) -> None:
    data = b"".join(b"x" * length + b"\r\n" for length in lengths)
    assert has_long_line(data) == any(length > MAX_LINE for length in lengths)
    assert has_long_line(data[:-2]) == has_long_line(data)


def test_ten_megabytes_are_looked_through_in_no_time() -> None:
    data = (b"x" * 76 + b"\r\n") * 134_000
    began = time.perf_counter()
    assert prepare(b"a: b\r\n\r\n" + data, EIGHT).data.endswith(data)
    assert time.perf_counter() - began < 1


# -- loops ------------------------------------------------------------------------------------------------------------


def test_a_message_that_runs_in_circles_is_stopped() -> None:
    hop = b"received : from a\r\n\tby b; Received: not one\r\n"
    assert prepare(hop * (MAX_HOPS - 1) + PLAIN, EIGHT).data.endswith(PLAIN)
    assert refusal(hop * MAX_HOPS + PLAIN).startswith("554 5.4.6 ")
    assert prepare(PLAIN + hop * MAX_HOPS, EIGHT), "a body may tell of as many as it likes"


@pytest.mark.parametrize(
    ("peer", "recipient", "clauses"),
    [
        ("192.0.2.1", "u@example.org", "from [192.0.2.1] by mx with ESMTP id b1 for <u@example.org>"),
        ("2001:db8::1", "", "from [IPv6:2001:db8::1] by mx with ESMTP id b1"),
        ("", "", "by mx id b1"),
        ("", "ü@example.org", "by mx id b1"),
    ],
)
def test_our_received_field(peer: str, recipient: str, clauses: str) -> None:
    field = received_field("mx", Sender("b1", 1_700_000_000.9, "", {}, peer), recipient)
    value = email.message_from_bytes(field, policy=default)["Received"]
    assert " ".join(value.split()) == f"{clauses}; Tue, 14 Nov 2023 22:13:20 +0000"


# -- header lines -----------------------------------------------------------------------------------------------------


def unfolded(message: Message) -> list[tuple[str, str]]:
    return [(name, re.sub(r"\r?\n", "", str(value))) for name, value in message.items()]


def test_a_long_field_is_folded_and_unfolded_is_what_it_was() -> None:
    data = b"References: " + b" ".join(b"<%d@example.com>" % n for n in range(300)) + b"\r\nTo: u\r\n\r\nbody\r\n"
    sent = prepare(data, NONE).data
    assert not has_long_line(sent)
    assert unfolded(parse(sent)) == unfolded(parse(data))
    assert sent.endswith(b"To: u\r\n\r\nbody\r\n")


def test_a_list_of_addresses_without_white_space_is_folded_behind_commas() -> None:
    data = b"To: " + b",".join(b"user%d@example.com" % n for n in range(100)) + b"\r\n\r\n"
    sent = prepare(data, NONE).data
    assert not has_long_line(sent)
    assert parse(sent)["To"].replace("\r\n", "").replace(", ", ",") == parse(data)["To"]


@pytest.mark.parametrize("value", [LONG, LONG + b" x", b"x" * 980 + b" " * 2000, b"x " + LONG])
def test_a_field_that_cannot_be_folded_is_refused(value: bytes) -> None:
    assert refusal(b"X-Long: " + value + b"\r\n\r\n").startswith("554 5.6.0 the field x-long ") or value.strip() == b""


@pytest.mark.parametrize(
    ("field", "meaning"),
    [
        ("Subject: Grüße aus Köln", "Grüße aus Köln"),
        ("Subject: " + "ä" * 2000, "ä" * 2000),
        ('From: "Müller, Jürgen" <j@example.com>', '"Müller, Jürgen" <j@example.com>'),
        ("To: a@example.com, Jürgen <j@example.com>, Zoë <z@example.com>", None),
        ("X-Note: 北京", "北京"),
    ],
)
def test_a_field_beyond_ascii_becomes_encoded_words(field: str, meaning: str | None) -> None:
    sent = prepare(crlf(f"{field}\n\nx\n"), EIGHT)
    name, _, value = field.partition(": ")
    assert sent.data.isascii()
    assert not sent.utf8
    read = email.message_from_bytes(sent.data, policy=default)[name]
    assert str(read) == (meaning or value)


def test_parameters_beyond_ascii_become_extended_ones() -> None:
    data = crlf('Content-Type: text/plain; charset=utf-8; name="Grüße.txt"\nX: y\n\nx\n')
    sent = prepare(data, EIGHT).data
    message = email.message_from_bytes(sent, policy=default)
    assert sent.isascii()
    assert message["Content-Type"].params == {"charset": "utf-8", "name": "Grüße.txt"}


def test_octets_that_are_no_utf8_are_called_unknown() -> None:
    sent = prepare(b"Subject: gr\xfcn\r\n\r\nx\r\n", UTF8)
    assert sent == (b"Subject: =?unknown-8bit?q?gr=FCn?=\r\n\r\nx\r\n", False, False)


@pytest.mark.parametrize("field", ["Message-ID: <ü@example.com>", "From: <ü@example.com>", "DKIM-Signature: ü"])
def test_where_no_encoded_word_may_stand_the_message_needs_smtputf8(field: str) -> None:
    assert refusal(crlf(f"{field}\n\nx\n"), EIGHT).startswith("554 5.6.7 ")
    assert prepare(crlf(f"{field}\n\nx\n"), UTF8).utf8

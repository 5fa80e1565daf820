"""What is sent of a message: as it came where the server can take that, else rewritten and the same when decoded."""

from __future__ import annotations

import binascii
import email
import re
import time
from email.message import Message
from email.policy import default

import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st

from channels.smtp.content import normalise, prepare
from channels.smtp.dots import stuff
from channels.smtp.entity import MAX_LINE, has_long_line
from channels.smtp.extensions import NONE, Extensions
from channels.smtp.trace import MAX_HOPS, received_field
from mcmt.errors import MessageError
from mcmt.message.model import Sender

EIGHT = Extensions(eight_bit=True)
UTF8 = Extensions(eight_bit=True, utf8=True)
LONG = b"x" * 999


def crlf(text: str) -> bytes:
    return text.replace("\n", "\r\n").encode()


def parse(data: bytes) -> Message:
    return email.message_from_bytes(data)


def decoded(message: Message) -> bytes:
    payload = message.get_payload(decode=True)
    assert isinstance(payload, bytes)
    return payload


def refusal(data: bytes, extensions: Extensions = EIGHT) -> str:
    with pytest.raises(MessageError) as caught:
        prepare(data, extensions)
    return str(caught.value)


def prepared(data: bytes, extensions: Extensions) -> bytes | str:
    """What is sent, or the refusal."""
    try:
        return prepare(data, extensions).data
    except MessageError as error:
        return str(error)


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


# -- bodies -----------------------------------------------------------------------------------------------------------


def test_plain_text_gets_an_encoding_and_becomes_mime() -> None:
    data = b"Subject: x\r\n\r\n" + LONG + b"\r\n.\r\n= \r\n"
    sent = parse(prepare(data, EIGHT).data)
    assert (sent["MIME-Version"], sent["Content-Transfer-Encoding"]) == ("1.0", "quoted-printable")
    assert sent["Content-Type"] is None, "it is what is meant without one"
    assert decoded(sent) == decoded(parse(data))


@pytest.mark.parametrize(
    ("body", "content_type", "encoding"),
    [
        ("grün ist gut", "text/plain; charset=utf-8", "quoted-printable"),
        ("ü" * 50, "text/plain; charset=utf-8", "base64"),
        (b"gr\xfcn ist gut", "text/plain; charset=unknown-8bit", "quoted-printable"),
    ],
)
def test_text_of_an_unknown_charset_is_called_so(body: str | bytes, content_type: str, encoding: str) -> None:
    octets = body if isinstance(body, bytes) else body.encode()
    sent = parse(prepare(b"Subject: x\r\n\r\n" + octets + b"\r\n", NONE).data)
    assert (sent["Content-Type"], sent["Content-Transfer-Encoding"]) == (content_type, encoding)
    assert decoded(sent) == octets + b"\r\n"


MIXED = crlf(
    """MIME-Version: 1.0
Content-Type: multipart/mixed; boundary="a b"
Content-Transfer-Encoding: 8bit

preamble
--a b
Content-Type: text/html; charset=utf-8
Content-Transfer-Encoding: 8bit
X: y

<p>grün</p>
--a b  
Content-Type: text/plain

untouched =20
--a b
Content-Type: message/rfc822

Subject: inner grün
Content-Type: text/plain; charset=utf-8

grün
--a b--
epilogue
"""  # noqa: W291 - white space behind a boundary belongs to the line
)


def test_only_the_part_that_does_not_fit_is_touched() -> None:
    data = MIXED.replace(b"<p>", b"<p>" + LONG)
    sent = prepare(data, EIGHT).data
    begin = data.index(b"--a b  \r\n")
    assert sent.endswith(data[begin:])
    assert sent.startswith(data[: data.index(b"Content-Transfer-Encoding: 8bit\r\nX")])
    part = parse(sent).get_payload()[0]  # type: ignore[index]
    assert isinstance(part, Message)
    assert part.items() == [
        ("Content-Type", "text/html; charset=utf-8"),
        ("X", "y"),
        ("Content-Transfer-Encoding", "quoted-printable"),
    ]


def test_for_seven_bits_every_part_and_every_inner_header_is_converted() -> None:
    sent = prepare(MIXED, NONE).data
    assert sent.isascii()
    message = email.message_from_bytes(sent, policy=default)
    assert message["Content-Transfer-Encoding"] == "7bit"
    html, plain, inner = message.iter_parts()
    assert html.get_content() == "<p>grün</p>"
    assert plain.get_payload() == "untouched =20"
    assert inner.get_content()["Subject"] == "inner grün"
    assert inner.get_content().get_content() == "grün"
    assert sent.endswith(b"--a b--\r\nepilogue\r\n")


def test_a_preamble_that_does_not_fit_is_left_out() -> None:
    sent = prepare(MIXED.replace(b"preamble", LONG).replace(b"epilogue", LONG), EIGHT).data
    assert b"\r\n\r\n--a b\r\n" in sent
    assert sent.endswith(b"--a b--\r\n")


def test_a_new_line_never_looks_like_a_boundary() -> None:
    """A soft line break just before "--a b" would end the part there."""
    for length in range(990, 1080):
        line = b"x" * length + b"--a b"
        data = MIXED.replace("<p>grün</p>".encode(), line)
        before, after = parse(data), parse(prepare(data, EIGHT).data)
        assert [part.get_content_type() for part in after.walk()] == [part.get_content_type() for part in before.walk()]
        assert decoded(after.get_payload()[0]) == line  # type: ignore[index,arg-type]


def test_base64_in_one_line_is_wrapped() -> None:
    text = binascii.b2a_base64(bytes(range(256)) * 20, newline=False)
    data = b"Content-Type: image/png\r\nContent-Transfer-Encoding: base64\r\n\r\n" + text + b"\r\n"
    sent = prepare(data, NONE).data
    assert max(map(len, sent.split(b"\r\n"))) == 76
    assert decoded(parse(sent)) == bytes(range(256)) * 20


@pytest.mark.parametrize(
    ("head", "code"),
    [
        ("Content-Type: multipart/mixed", "5.6.3"),
        ("Content-Type: multipart/mixed; boundary=nowhere", "5.6.3"),
        ("Content-Type: text/plain\nContent-Transfer-Encoding: x-uuencode", "5.6.3"),
        ("Content-Type: message/rfc822\nContent-Transfer-Encoding: base64", "5.6.3"),
        ("Content-Type: message/delivery-status", "5.6.0"),
    ],
)
def test_what_cannot_be_helped_is_refused(head: str, code: str) -> None:
    data = crlf(f"{head}\n\n") + LONG + b"\r\n"
    assert refusal(data).startswith(f"554 {code} ")


def test_a_delivery_status_is_folded() -> None:
    data = (
        crlf("Content-Type: message/delivery-status\n\nReporting-MTA: dns; mx\n\nDiagnostic-Code: smtp; ") + b"5 " * 900
    )
    sent = prepare(data, EIGHT).data
    assert not has_long_line(sent)
    assert sent.replace(b"\r\n 5", b" 5") == data + b"\r\n"


def test_parts_inside_parts_without_end_are_refused() -> None:
    data = b"x: y\r\n\r\n" + LONG + b"\r\n"
    for _ in range(40):
        data = b"Content-Type: message/rfc822\r\n\r\n" + data
    assert refusal(data).startswith("554 5.6.3 a part inside 30 others")


# -- any message ------------------------------------------------------------------------------------------------------

words = st.sampled_from(
    ["x", "word", "grün", "=", "=20", ".", "..", " ", "\t", "-", "--", "--b0", "--b1--", "北京", "x" * 400]
)
text_lines = st.lists(words, max_size=6).map("".join)
texts = st.lists(text_lines, max_size=5).map(lambda lines: "\r\n".join(lines).encode())


@st.composite
def leaves(draw: st.DrawFn) -> bytes:
    body = draw(texts)
    media_type = draw(
        st.sampled_from(["", "text/plain; charset=utf-8", "text/html", "image/png", "application/x; a=b"])
    )
    encoding = draw(st.sampled_from(["", "7bit", "8bit", "Quoted-Printable", "base64"]))
    if encoding == "base64":
        body = binascii.b2a_base64(body, newline=False)
    elif encoding == "Quoted-Printable":
        body = binascii.b2a_qp(body, istext=True).replace(b"=\r\n", b"").replace(b"=\n", b"")
    head = f"Content-Type: {media_type}\r\n" if media_type else ""
    head += f"Content-Transfer-Encoding: {encoding}\r\n" if encoding else ""
    return head.encode() + b"\r\n" + body


def composites(children: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    def multipart(parts: list[bytes], number: int, preamble: bytes) -> bytes:
        boundary = b"b%d" % number
        head = b"Content-Type: multipart/mixed; boundary=" + boundary + b"\r\n\r\n" + preamble
        return (
            head + b"".join(b"\r\n--" + boundary + b"\r\n" + part for part in parts) + b"\r\n--" + boundary + b"--\r\n"
        )

    def attached(message: bytes) -> bytes:
        return b"Content-Type: message/rfc822\r\n\r\nSubject: inner\r\n" + message

    lists = st.lists(children, min_size=1, max_size=3)
    return st.one_of(st.builds(multipart, lists, st.integers(0, 2), texts), children.map(attached))


messages = st.recursive(leaves(), composites, max_leaves=5).map(lambda entity: b"Subject: x\r\n" + entity + b"\r\n")


def shape(message: Message) -> list[tuple[str, bytes | None]]:
    """Every part's type and decoded content; trailing line ends are the transport's."""
    found: list[tuple[str, bytes | None]] = []
    for part in message.walk():
        content = None if part.is_multipart() else decoded(part).rstrip(b"\r\n")
        found.append((part.get_content_type(), content))
    return found


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(messages, st.sampled_from([NONE, EIGHT, UTF8]))
def test_any_message_fits_afterwards_and_decodes_to_the_same(data: bytes, extensions: Extensions) -> None:
    sent = prepared(data, extensions)
    if isinstance(sent, str):
        assert sent.startswith("554 5.6.3 a multipart/mixed without its boundary lines")
        return
    assert not has_long_line(sent)
    assert sent.count(b"\r\n") == sent.count(b"\n") == sent.count(b"\r")
    assert extensions.eight_bit or sent.isascii()
    assert shape(parse(sent)) == shape(parse(normalise(data)))


@settings(max_examples=300, deadline=None)
@given(
    st.lists(
        st.sampled_from(
            [b"a: b", b"Content-Type: multipart/x; boundary=b", b"--b", b"--b--", b"", b" ", b"\xff", b"\0", LONG]
        )
    ),
    st.sampled_from([NONE, EIGHT]),
)
def test_any_octets_fit_afterwards_or_are_refused(lines: list[bytes], extensions: Extensions) -> None:
    sent = prepared(b"\n".join(lines), extensions)
    if isinstance(sent, str):
        assert sent.startswith("554 5.6.")
        return
    assert not has_long_line(sent)
    assert b"\0" not in sent
    assert extensions.eight_bit or sent.isascii()

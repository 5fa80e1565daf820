"""Bodies that a server cannot take are encoded anew; decoded, any message is the same."""

from __future__ import annotations

import binascii
import email
from email.message import Message
from email.policy import default

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from channels.smtp.content import normalise, prepare
from channels.smtp.entity import has_long_line
from channels.smtp.extensions import NONE, Extensions
from tests.unit.channels.smtp.messages import EIGHT, LONG, UTF8, crlf, decoded, parse, prepared, refusal

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

"""Generated messages mean the same to our parser and to the standard library's, byte for byte."""

from __future__ import annotations

import base64
import email
import quopri
from email.message import Message
from typing import NamedTuple

from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from mcmt.message.mime import parse
from mcmt.message.model import Headers

BOUNDARY_CHARACTERS = "ABCXYZabcxyz0123456789'()+_,-./:=?"
NAMES = ("X-One", "x-two", "X-Device-Token", "apns-topic", "Subject")
ENCODINGS = ("", "7bit", "8bit", "binary", "base64", "quoted-printable")
LEAF_TYPES = ("text/plain", "TEXT/html", "application/x-thing", "image/png")


class Block(NamedTuple):
    """Header fields as lines joined by LF, the encoding said among them."""

    text: str
    encoding: str


def encode(encoding: str, body: bytes) -> bytes:
    if encoding == "base64":
        return base64.encodebytes(body)
    if encoding == "quoted-printable":
        return quopri.encodestring(body, quotetabs=True)
    return body


words = st.text(st.characters(min_codepoint=33, max_codepoint=126), min_size=1, max_size=12)
values = st.lists(st.tuples(words, st.sampled_from([" ", "\n ", "\n\t", "  "])), max_size=4).map(
    lambda pairs: "".join(word + gap for word, gap in pairs).rstrip()
)
fields = st.lists(st.tuples(st.sampled_from(NAMES), values), min_size=1, max_size=4).map(
    lambda pairs: "".join(f"{name}: {value}\n" for name, value in pairs)
)


@st.composite
def blocks(draw: st.DrawFn, media_type: str = "", encodings: tuple[str, ...] = ENCODINGS) -> Block:
    encoding = draw(st.sampled_from(encodings))
    text = draw(fields)
    if media_type:
        text = f"Content-Type: {media_type}\n{text}"
    return Block(text + (f"Content-Transfer-Encoding: {encoding}\n" if encoding else ""), encoding)


@st.composite
def bodies(draw: st.DrawFn, boundary: str, encoding: str, line_end: bytes) -> bytes:
    """A body as it stands in the message. A lone CR only where it is encoded: as a line end it would split readers."""
    if encoding in ("base64", "quoted-printable"):
        return encode(encoding, draw(st.binary(max_size=200))).replace(b"\n", line_end)
    near = [f"--{boundary}x", f"--{boundary[:-1]}", f" --{boundary}", f"--{boundary}--x", "{", "", "a: b"]
    lines = draw(st.lists(st.one_of(st.sampled_from(near).map(str.encode), st.binary(max_size=20)), max_size=6))
    body = line_end.join(line.replace(b"\r", b"").replace(b"\n", b"") for line in lines)
    delimiter = b"--" + boundary.encode()
    assume(not any(line.rstrip() in (delimiter, delimiter + b"--") for line in body.split(b"\n")))
    return body


@st.composite
def parts(draw: st.DrawFn, boundary: str, line_end: bytes) -> bytes:
    kind = draw(st.sampled_from(("leaf", "leaf", "channel", "mail")))
    if kind == "leaf":
        block = draw(blocks(draw(st.sampled_from(LEAF_TYPES))))
        text, encoding = block.text + "\n", block.encoding
    elif kind == "channel":
        outer = draw(blocks("message/vnd.msys.apn", encodings=("", "7bit", "8bit")))
        inner = draw(blocks())
        text, encoding = f"{outer.text}\n{inner.text}\n", inner.encoding
    else:
        outer = draw(blocks("message/rfc822", encodings=("", "7bit")))
        text, encoding = f"{outer.text}\n{draw(blocks()).text}\n", ""
    return text.encode().replace(b"\n", line_end) + draw(bodies(boundary, encoding, line_end))


@st.composite
def messages(draw: st.DrawFn) -> bytes:
    line_end = draw(st.sampled_from((b"\n", b"\r\n")))
    boundary = draw(st.text(BOUNDARY_CHARACTERS, min_size=1, max_size=70))
    padding = st.sampled_from((b"", b" ", b"\t "))
    delimiter = line_end + b"--" + boundary.encode()
    top = f'{draw(fields)}Content-Type: multipart/vnd.msys.mcmt;\n boundary="{boundary}"\n{draw(fields)}'
    data = top.encode().replace(b"\n", line_end)
    if draw(st.booleans()):
        data += line_end + draw(bodies(boundary, "", line_end))
    for part in draw(st.lists(parts(boundary, line_end), min_size=1, max_size=4)):
        data += delimiter + draw(padding) + line_end + part
    return data + delimiter + b"--" + draw(padding) + line_end + draw(bodies(boundary, "", line_end))


def read(message: Message) -> Headers:
    """The fields as the standard library has them, in our form."""
    return tuple(
        (name.lower(), value.replace("\r\n", "").replace("\n", "").strip(" \t")) for name, value in message.items()
    )


def embedded(part: Message) -> Message:
    """The message that the standard library makes of the body of any ``message/*`` part."""
    payload = part.get_payload()
    assert isinstance(payload, list)
    (message,) = payload
    assert isinstance(message, Message)
    return message


def without_encoding(headers: Headers) -> Headers:
    return tuple(field for field in headers if field[0] != "content-transfer-encoding")


@settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])  # the machine may be busy
@given(messages())
def test_headers_and_contents_are_equal_byte_for_byte(data: bytes) -> None:
    expected = email.message_from_bytes(data)
    parsed = parse(data)

    assert parsed.is_mcmt
    assert parsed.headers == read(expected)
    theirs = expected.get_payload()
    assert isinstance(theirs, list)
    assert len(parsed.parts) == len(theirs)
    for part, their in zip(parsed.parts, theirs, strict=True):
        assert isinstance(their, Message)
        assert part.media_type == their.get_content_type()
        if part.media_type == "message/vnd.msys.apn":
            inner = embedded(their)
            names = {name.lower() for name in inner}
            kept = tuple(field for field in read(their) if field[0] not in names)
            assert part.headers == without_encoding(kept + read(inner))
            assert part.content == inner.get_payload(decode=True)
        elif part.media_type == "message/rfc822":
            mail = embedded(their)
            again = email.message_from_bytes(part.content)
            assert part.headers == without_encoding(read(their))
            assert (again.items(), again.get_payload()) == (mail.items(), mail.get_payload())
        else:
            assert part.headers == without_encoding(read(their))
            assert part.content == their.get_payload(decode=True)

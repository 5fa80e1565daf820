"""What a message is taken apart into, and what its sender is told when it cannot be."""

from __future__ import annotations

import base64

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mcmt.errors import MessageError
from mcmt.message import header_fields, mime
from mcmt.message.mime import ParsedMessage, context_variables, parse
from mcmt.message.model import Headers, Part

TOKEN = "123acb90ffa0978cbade354ddffee76665a"
JSON = '{\n"aps" : {\n"alert" : "You have mail",\n"badge" : 9,\n"sound" : "dingdong.aiff"\n},\n"app-key" : "bar",\n}'
TOP = "From: app@example.com\nMIME-Version: 1.0\nContent-Type: multipart/vnd.msys.mcmt; boundary=MCMT_BOUNDARY\n"
MANUAL = {
    "blank lines": f"{TOP}\n--MCMT_BOUNDARY\nContent-Type: message/vnd.msys.apn\n\nX-Device-Token: {TOKEN}\n\n{JSON}\n",
    "no blank lines": f"{TOP}\n--MCMT_BOUNDARY\nContent-Type: message/vnd.msys.apn\nX-Device-Token: {TOKEN}\n{JSON}\n",
    "none at all": f"{TOP}--MCMT_BOUNDARY\nContent-Type: message/vnd.msys.apn\nX-Device-Token: {TOKEN}\n{JSON}\n",
    "first only": f"{TOP}\n--MCMT_BOUNDARY\nContent-Type: message/vnd.msys.apn\n\nX-Device-Token: {TOKEN}\n{JSON}\n",
    "second only": f"{TOP}\n--MCMT_BOUNDARY\nContent-Type: message/vnd.msys.apn\nX-Device-Token: {TOKEN}\n\n{JSON}\n",
}
CLOSING = "--MCMT_BOUNDARY--\n"
LINE_ENDS = pytest.mark.parametrize("line_end", ["\n", "\r\n"], ids=["LF", "CRLF"])

EVERYTHING = f"""{TOP}
preamble, which is ignored: --MCMT_BOUNDARY
--MCMT_BOUNDARY
Content-Type: message/rfc822

Subject: fallback

hello
--MCMT_BOUNDARY \t
Content-Type: Message/Vnd.Msys.APN; charset=utf-8
X-Device-Token: aa
apns-topic: outer

X-Device-Token: bb
x-device-token:
 cc,
\tdd
apns-priority: 10
Content-Transfer-Encoding: base64

eyJhcHMi
OnsgfX0=
--MCMT_BOUNDARY
--MCMT_BOUNDARY
Content-Type: text/x-unknown
Content-Transfer-Encoding: quoted-printable

a=3Db=
c
--MCMT_BOUNDARY--
epilogue, ignored too
--MCMT_BOUNDARY
"""


def message(*parts: str, boundary: str = "B", parameters: str = "boundary=B") -> bytes:
    """A message of these parts with CRLF line ends."""
    text = f"Content-Type: multipart/vnd.msys.mcmt; {parameters}\n\n"
    text += "".join(f"--{boundary}\n{part}\n" for part in parts) + f"--{boundary}--\n"
    return text.replace("\n", "\r\n").encode()


def only_part(data: bytes) -> Part:
    (part,) = parse(data).parts
    return part


def refusal(data: bytes) -> str:
    with pytest.raises(MessageError) as caught:
        parse(data)
    return str(caught.value)


def assert_read_or_refused(data: bytes) -> None:
    """Nothing but a message, or a refusal that fits into a line of an SMTP reply."""
    result: ParsedMessage | MessageError
    try:
        result = parse(data)
    except MessageError as error:
        result = error
    if isinstance(result, MessageError):
        assert result.code == 554
        assert str(result).isascii()
        assert str(result).isprintable()
        assert len(str(result)) < 500
    else:
        assert isinstance(result, ParsedMessage)


@LINE_ENDS
@pytest.mark.parametrize("sample", MANUAL)
def test_the_manuals_sample_is_taken_apart_with_and_without_its_blank_lines(sample: str, line_end: str) -> None:
    parsed = parse((MANUAL[sample] + CLOSING).replace("\n", line_end).encode())

    assert parsed.is_mcmt
    assert parsed.header_block == TOP.replace("\n", line_end).encode()
    assert parsed.headers[0] == ("from", "app@example.com")
    (part,) = parsed.parts
    assert part.media_type == "message/vnd.msys.apn"
    assert part.headers == (("content-type", "message/vnd.msys.apn"), ("x-device-token", TOKEN))
    assert part.content == JSON.replace("\n", line_end).encode()


@LINE_ENDS
def test_every_kind_of_part_between_junk(line_end: str) -> None:
    parsed = parse(EVERYTHING.replace("\n", line_end).encode())

    assert parsed.parts == (
        Part(
            "message/rfc822",
            (("content-type", "message/rfc822"),),
            f"Subject: fallback{line_end}{line_end}hello".encode(),
        ),
        Part(
            "message/vnd.msys.apn",
            (
                ("content-type", "Message/Vnd.Msys.APN; charset=utf-8"),
                ("apns-topic", "outer"),
                ("x-device-token", "bb"),
                ("x-device-token", "cc,\tdd"),
                ("apns-priority", "10"),
            ),
            b'{"aps":{ }}',
        ),
        Part("text/plain", (), b""),
        Part("text/x-unknown", (("content-type", "text/x-unknown"),), b"a=bc"),
    )


@LINE_ENDS
def test_a_message_cut_anywhere_is_refused_and_never_half_read(line_end: str) -> None:
    data = EVERYTHING.replace("\n", line_end).encode()
    whole = parse(data)
    closed = data.index(b"--MCMT_BOUNDARY--") + len(b"--MCMT_BOUNDARY--")
    typed = data.index(b"mcmt; boundary=M") + len(b"mcmt")
    for length in range(len(data)):
        if length < typed:
            assert not parse(data[:length]).is_mcmt
        elif length < closed:
            assert refusal(data[:length]).startswith("554 5.6.0 ")
        else:
            assert parse(data[:length]) == whole


@settings(deadline=None)  # the machine may be busy
@given(st.binary(max_size=300))
def test_random_bytes_are_a_message_or_a_message_error(noise: bytes) -> None:
    for data in (noise, EVERYTHING[:200].encode() + noise, message("Content-Type: message/vnd.msys.apn\n") + noise):
        assert_read_or_refused(data)


@settings(deadline=None)  # the machine may be busy
@given(st.data())
def test_a_damaged_message_is_a_message_or_a_message_error(data: st.DataObject) -> None:
    damaged = bytearray(EVERYTHING.encode())
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        damaged[at : at + data.draw(st.integers(0, 3))] = data.draw(st.binary(max_size=3))
    assert_read_or_refused(bytes(damaged))


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"\r\n",
        b"\r\nbody alone",
        b"no field at all",
        b"From mbox Mon Jan 1\r\nSubject: x\r\nthis is no field\r\n\r\nbody\r\n",
        b"Content-Type: multipart/mixed; boundary=B\r\n\r\nno boundary line",
        b"Content-Type: multipart/vnd.msys.mcmtx; boundary=B\r\n\r\n",
        b"Content-Type: ;;;\r\n\r\n",
        b"Subject: \xff\xfe\x00\r\n\r\n",
    ],
)
def test_mail_that_is_not_mcmt_has_no_parts_and_no_faults(data: bytes) -> None:
    parsed = parse(data)

    assert (parsed.is_mcmt, parsed.parts) == (False, ())
    assert data.startswith(parsed.header_block)


def test_top_level_fields_are_unfolded_lower_case_and_in_order() -> None:
    data = b"Subject : a\r\n  b\r\n\tc\r\nno field\r\n folded\r\nTO:  x  \r\nX-Empty:\r\nX-Utf: \xc3\xa9\xff\r\n"
    data += b"\r\nNot: a field"

    assert parse(data).headers == (("subject", "a  b\tc"), ("to", "x"), ("x-empty", ""), ("x-utf", "é\ufffd"))


@pytest.mark.parametrize(
    ("boundary", "parameters"),
    [
        ("plain", "boundary=plain"),
        ("plain", 'boundary="plain"'),
        ("plain", 'boundary="plain  "'),
        ("a b", 'boundary="a b"'),
        ("a;b", 'boundary="a;b"'),
        ('a"b', r'boundary="a\"b"'),
        ("----=_Part_1", "boundary=----=_Part_1"),
        ("x" * 70, "boundary=" + "x" * 70),
        ("B", 'charset=utf-8; Boundary = "B";\n x=y'),
        ("B", 'type="a; boundary=no"; boundary=B'),
    ],
)
def test_boundaries_are_read_quoted_or_not(boundary: str, parameters: str) -> None:
    data = message("\nhello", boundary=boundary, parameters=parameters)

    assert only_part(data).content == b"hello"


def test_a_line_that_only_begins_with_the_boundary_is_content() -> None:
    nested = "Content-Type: multipart/mixed; boundary=B1\n\n--B1\n\none\n--B1--\n--B--x\n --B\n--Bx"
    parsed = parse(message(nested, "\ntwo"))

    assert [part.media_type for part in parsed.parts] == ["multipart/mixed", "text/plain"]
    assert parsed.parts[0].content == b"--B1\r\n\r\none\r\n--B1--\r\n--B--x\r\n --B\r\n--Bx"
    assert parsed.parts[1].content == b"two"


def test_the_last_line_end_of_a_part_belongs_to_the_boundary() -> None:
    assert only_part(message("\none\n")).content == b"one\r\n"
    assert only_part(message("\n")).content == b""
    assert only_part(message("X: y")).content == b""


def test_inner_fields_win_over_those_of_the_mime_header_block() -> None:
    part = only_part(
        message(
            "X-Device-Token: 01\nContent-Type: message/vnd.msys.apn\nX-Device-Token: 02\nReturn-Path: <o@x>\n"
            "\nX-Device-Token: 03\nX-Device-Token: 04\n\n{}"
        )
    )

    assert part.headers == (
        ("content-type", "message/vnd.msys.apn"),
        ("return-path", "<o@x>"),
        ("x-device-token", "03"),
        ("x-device-token", "04"),
    )
    assert part.content == b"{}"


B64 = base64.b64encode(b'{"aps":{"alert":"\xc3\xa9"}}').decode()
WHOLE_B64 = base64.encodebytes(b"X-Device-Token: aa\r\n\r\n" + b'{"aps":{"alert":"\xc3\xa9"}}').decode()
APN = "Content-Type: message/vnd.msys.apn\n"


@pytest.mark.parametrize(
    "part",
    [
        f"{APN}\nX-Device-Token: aa\nContent-Transfer-Encoding: base64\n\n{B64}",
        f"{APN}Content-Transfer-Encoding: BASE64\n\nX-Device-Token: aa\n\n{B64}",
        f"{APN}Content-Transfer-Encoding: base64\n\n{WHOLE_B64}",
        f"{APN}Content-Transfer-Encoding: base64\nX-Device-Token: aa\n\n{B64}",
        f"{APN}Content-Transfer-Encoding: 7bit\n\nX-Device-Token: aa\nContent-Transfer-Encoding: base64\n\n{B64}",
        f"{APN}Content-Transfer-Encoding: base64\n\nX-Device-Token: aa\nContent-Transfer-Encoding: 8bit\n\n"
        '{"aps":{"alert":"é"}}',
        f"{APN}Content-Transfer-Encoding: quoted-printable\n\nX-Device-Token: =\naa\n\n"
        '{"aps":{"alert":"=C3=a9"}= \n}',
        f'{APN}\nX-Device-Token: aa\nContent-Transfer-Encoding: binary\n\n{{"aps":{{"alert":"é"}}}}',
    ],
)
def test_the_transfer_encoding_is_undone_wherever_it_stands(part: str) -> None:
    assert only_part(message(part)) == Part(
        "message/vnd.msys.apn",
        (("content-type", "message/vnd.msys.apn"), ("x-device-token", "aa")),
        b'{"aps":{"alert":"\xc3\xa9"}}',
    )


def test_a_part_of_another_type_with_an_unknown_encoding_is_kept_as_it_came() -> None:
    part = only_part(message("Content-Type: text/plain\nContent-Transfer-Encoding: x-rot13\n\nuryyb: jbeyq"))

    assert part.headers[1] == ("content-transfer-encoding", "x-rot13")
    assert part.content == b"uryyb: jbeyq"


def test_the_text_of_a_short_message_is_not_taken_for_header_fields() -> None:
    part = only_part(message("Content-Type: message/vnd.msys.smpp; charset=utf-8\n\nReminder: 10:30"))

    assert part.content == b"Reminder: 10:30"


def test_message_rfc2822_is_message_rfc822() -> None:
    part = only_part(message("Content-Type: message/rfc2822\n\nSubject: x\n\n--b\n\n{y"))

    assert (part.media_type, part.content) == ("message/rfc822", b"Subject: x\r\n\r\n--b\r\n\r\n{y")


def apn(inner: str) -> bytes:
    return message(f"{APN}\n{inner}")


BOUNDED = "Content-Type: multipart/vnd.msys.mcmt; boundary=B\n\n"
BAD = {
    "Content-Type: multipart/vnd.msys.mcmt\n\n--B\n\nx\n--B--\n": (
        "554 5.6.0 Content-Type: multipart/vnd.msys.mcmt without a boundary parameter"
    ),
    'Content-Type: multipart/vnd.msys.mcmt; boundary=""\n\n': (
        "554 5.6.0 Content-Type: the boundary '' is not 1 to 70 printable ASCII characters"
    ),
    f"Content-Type: multipart/vnd.msys.mcmt; boundary={'x' * 71}\n\n": (
        f"554 5.6.0 Content-Type: the boundary '{'x' * 71}' is not 1 to 70 printable ASCII characters"
    ),
    "Content-Type: multipart/vnd.msys.mcmt; boundary=é\n\n": (
        r"554 5.6.0 Content-Type: the boundary '\xe9' is not 1 to 70 printable ASCII characters"
    ),
    f"{BOUNDED}--C\n\nx\n--C--\n": "554 5.6.0 the boundary line --B of the Content-Type does not appear",
    f"{BOUNDED}--B--\n": "554 5.6.0 no part stands before the closing boundary line --B--",
    f"{BOUNDED}--B\n\nx\n--B\n\ny\n": "554 5.6.0 the closing boundary line --B-- is missing after part 2",
    f"{BOUNDED}--B\n\nx\n--B\nContent-Type: text/plain\nnot a field\n\n--B--\n": (
        "554 5.6.0 part 2, line 8: expected a header field (Name: value), found 'not a field'"
    ),
    f"{BOUNDED}--B\n{APN}\nX-Device-Token: a\n b\n[1, 2]\n\n--B--\n": (
        "554 5.6.0 part 1, line 8: expected a header field (Name: value), found '[1, 2]'"
    ),
    f"{BOUNDED}--B\n folded: first\n\nx\n--B--\n": (
        "554 5.6.0 part 1, line 4: expected a header field (Name: value), found ' folded: first'"
    ),
    f"{BOUNDED}--B\n{APN}Content-Transfer-Encoding: x-zip\n\n{{}}\n--B--\n": (
        "554 5.6.0 part 1: Content-Transfer-Encoding 'x-zip' is not one of 7bit, 8bit, binary, base64, quoted-printable"
    ),
    f"{BOUNDED}--B\n{APN}Content-Transfer-Encoding: base64\n\ne30*\n--B--\n": (
        "554 5.6.0 part 1: the base64 content is broken: '*' is not a base64 character"
    ),
    f"{BOUNDED}--B\n{APN}\nContent-Transfer-Encoding: base64\n\ne30\n--B--\n": (
        "554 5.6.0 part 1: the base64 content is broken: its length or its padding (=) is wrong"
    ),
    f"{BOUNDED}--B\nContent-Transfer-Encoding: base64\n\ne30=e30=\n--B--\n": (
        "554 5.6.0 part 1: the base64 content is broken: its length or its padding (=) is wrong"
    ),
    f"{BOUNDED}--B\nContent-Transfer-Encoding: quoted-printable\n\na=zb\n--B--\n": (
        "554 5.6.0 part 1: the quoted-printable content is broken: '=zb' is not = and two hex digits"
    ),
    f"{BOUNDED}--B\n{APN}Content-Transfer-Encoding: base64\n\nYToKYgoK\n--B--\n": (
        "554 5.6.0 part 1 decoded, line 2: expected a header field (Name: value), found 'b'"
    ),
}


@LINE_ENDS
@pytest.mark.parametrize(("text", "reply"), BAD.items())
def test_bad_input_is_told_what_is_wrong_and_where(text: str, reply: str, line_end: str) -> None:
    assert refusal(text.replace("\n", line_end).encode()) == reply


def test_ten_thousand_token_fields_are_read_and_one_more_is_refused() -> None:
    lines = [f"X-Device-Token: {number:064x}\n" for number in range(header_fields.MAX_ADDRESS_FIELDS)]

    assert len(only_part(apn("".join(lines) + "\n{}")).headers) == 1 + len(lines)
    assert refusal(apn("".join([*lines, "X-Device-Token: ff\n"]) + "\n{}")) == (
        "554 5.3.4 part 1: 10001 fields that list addresses, at most 10000 are read"
    )


def test_the_limits_of_parts_and_header_blocks() -> None:
    assert len(parse(message(*["\n"] * mime.MAX_PARTS)).parts) == mime.MAX_PARTS
    assert refusal(message(*["\n"] * (mime.MAX_PARTS + 1))) == "554 5.6.0 the message has more than 100 parts"
    assert refusal(message(f"X-Long: {'x' * 66000}")) == (
        "554 5.3.4 part 1: the header fields have 66006 bytes, at most 65536 are read"
    )
    assert refusal(b"X-Many: y\n" * 25_001) == (
        "554 5.3.4 message: the header block has 25001 lines, at most 25000 are read"
    )
    assert refusal(b"X-Long: " + b"y" * 4 * 1024 * 1024) == (
        "554 5.3.4 message: the header block has 4194312 bytes, at most 4194304 are read"
    )


def fields(*values: str) -> Headers:
    return tuple(("x-mcmt-context", value) for value in values)


def test_context_variables_are_gathered_from_all_fields() -> None:
    headers = (("subject", "A=0"), *fields("DLV_Dest_ID=ab", "B = c = d ", "E=", "B=last"))

    assert context_variables(headers) == {"DLV_Dest_ID": "ab", "B": "last", "E": ""}
    assert context_variables(()) == {}


@pytest.mark.parametrize("value", ["", "A", "=x", "A-B=x", "A B=x", "Ä=x"])
def test_a_context_field_of_another_form_is_refused(value: str) -> None:
    with pytest.raises(MessageError) as caught:
        context_variables(fields(value))

    assert str(caught.value) == f"554 5.6.0 X-MCMT-Context: expected NAME=value, found {value!a}"


def test_context_variables_have_a_limit() -> None:
    assert len(context_variables(fields(*[f"V{number}=x" for number in range(100)]))) == 100
    with pytest.raises(MessageError, match="more than 100 variables"):
        context_variables(fields(*[f"V{number}=x" for number in range(101)]))

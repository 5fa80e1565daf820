"""A bounce, read back by the standard library and by a bounce parser that is not ours."""

from __future__ import annotations

import email
import email.policy
import re
from email.message import EmailMessage
from typing import Any

import pytest
from flufl.bounce import all_failures
from hypothesis import given
from hypothesis import strategies as st

from mcmt.message.dsn import MAX_HEADER_BLOCK, MAX_LISTED, Original, compose_report
from mcmt.message.failure import Failure, ReportTerms

TERMS = {"apn": ReportTerms("X-APNs", "X-Device-Token", "X-Apns-Id"), "smtp": ReportTerms("smtp")}
RECEIVED = 1_800_000_000.0
BATCH = "01a2047eff9c7d13a1d81519"
BOUNDARY = "01a2047f00007d13a1d8151a"
HEADER_BLOCK = b"From: app@example.com\r\nSubject: You have mail\r\n"


def failure(number: int = 1, **fields: Any) -> Failure:
    known: dict[str, Any] = {
        "recipient": "push@apn.example.com",
        "token": f"{number:064x}",
        "channel": "apn",
        "code": "410",
        "text": "Unregistered",
        "status": "5.1.6",
        "remote_id": f"01a2047e-ff9c-7d13-a1d8-1519{number:08x}",
        "remote_address": "192.0.2.7",
        "time": RECEIVED + 5,
        "return_path": "app@example.com",
    }
    return Failure(number=number, **{**known, **fields})


def report(
    *failures: Failure, count: int = 0, header_block: bytes = HEADER_BLOCK, return_path: str = "app@example.com"
) -> bytes:
    return compose_report(
        Original(BATCH, RECEIVED, header_block),
        failures,
        count or len(failures),
        return_path=return_path,
        terms=TERMS,
        hostname="mx.example.com",
        now=RECEIVED + 300,
        message_id="01a2047f00007d13a1d8151a@mx.example.com",
        boundary=BOUNDARY,
    )


def read(data: bytes) -> tuple[EmailMessage, str, list[EmailMessage], EmailMessage]:
    """The report, its text, its blocks of fields (the message's first), and the returned fields' part."""
    message = email.message_from_bytes(data, policy=email.policy.default)
    assert isinstance(message, EmailMessage)
    for part in message.walk():
        assert part.defects == []
    told, status, returned = message.iter_parts()
    blocks = status.get_payload()
    assert isinstance(blocks, list)
    return message, told.get_content().replace("\r\n", "\n"), blocks, returned  # type: ignore[return-value]  # the policy's own type


def fields(block: EmailMessage) -> dict[str, str]:
    found = {name: str(value) for name, value in block.items()}
    assert len(found) == len(block.items())
    return found


def test_a_dead_token_is_told_to_programs_in_the_fields_of_the_standard() -> None:
    message, _, (of_message, of_recipient), returned = read(report(failure()))
    assert message.get_content_type() == "multipart/report"
    assert message["content-type"].params["report-type"] == "delivery-status"
    assert [part.get_content_type() for part in message.iter_parts()] == [
        "text/plain",
        "message/delivery-status",
        "text/rfc822-headers",
    ]
    assert message["from"].addresses[0].addr_spec == "mailer-daemon@mx.example.com"
    assert message["to"].addresses[0].addr_spec == "app@example.com"
    assert message["auto-submitted"] == "auto-replied"
    assert message["message-id"] == "<01a2047f00007d13a1d8151a@mx.example.com>"
    assert message["date"].datetime.timestamp() == RECEIVED + 300
    assert fields(of_message) == {
        "Reporting-MTA": "dns; mx.example.com",
        "Arrival-Date": "Fri, 15 Jan 2027 08:00:00 +0000",
        "X-MCMT-Batch-Id": BATCH,
        "X-MCMT-Failures": "1",
    }
    assert fields(of_recipient) == {
        "Final-Recipient": "rfc822; push@apn.example.com",
        "Action": "failed",
        "Status": "5.1.6",
        "Remote-MTA": "dns; [192.0.2.7]",
        "Diagnostic-Code": "X-APNs; 410 Unregistered",
        "Last-Attempt-Date": "Fri, 15 Jan 2027 08:00:05 +0000",
        "X-Device-Token": f"{1:064x}",
        "X-Apns-Id": "01a2047e-ff9c-7d13-a1d8-151900000001",
        "X-MCMT-Delivery-Id": f"{BATCH}-1",
    }
    assert returned.get_content() == "From: app@example.com\r\nSubject: You have mail"


def test_people_are_told_what_was_sent_who_failed_why_and_what_to_do() -> None:
    expired = failure(2, code="554", text="5.4.7 [internal] exceeded max time", status="5.4.7", last="503 Shutdown")
    _, text, _, _ = read(report(failure(), expired))
    assert "sent on Fri, 15 Jan 2027 08:00:00 +0000" in text
    assert f"    X-Device-Token: {1:064x}\n    X-Apns-Id: 01a2047e-ff9c-7d13-a1d8-151900000001\n" in text
    assert "151900000001\n    410 Unregistered\n" in text
    assert "554 5.4.7 [internal] exceeded max time\n    the answer before: 503 Shutdown" in text
    assert "5.1.6: The address or device token is not in use" in text
    assert "5.4.7: It could not be delivered in time" in text


def test_our_own_verdict_is_not_passed_off_as_the_gateways() -> None:
    expired = failure(text="5.4.7 [internal] exceeded max time", code="554", status="5.4.7", last="503 Shutdown")
    _, _, (_, block), _ = read(report(expired))
    assert block["diagnostic-code"] == "X-MCMT; 554 5.4.7 [internal] exceeded max time"
    assert block["x-mcmt-last-answer"] == "503 Shutdown"
    assert "last-attempt-date" not in block


def test_mail_is_told_in_mails_own_terms() -> None:
    mail = failure(channel="smtp", recipient="u@example.org", token="u@example.org", code="550", text="5.1.1 unknown")
    _, text, (_, block), _ = read(report(mail))
    assert block["diagnostic-code"] == "smtp; 550 5.1.1 unknown"
    assert not [name for name in block if name.startswith("X-") and name != "X-MCMT-Delivery-Id"]
    assert text.count("u@example.org") == 1


def test_a_bounce_parser_finds_the_address_that_failed() -> None:
    temporary, permanent = all_failures(email.message_from_bytes(report(failure(), failure(2, recipient="b@x.org"))))
    assert not temporary
    assert permanent == {b"push@apn.example.com", b"b@x.org"}


def test_a_hundred_failures_are_listed_and_the_rest_counted() -> None:
    _, text, blocks, _ = read(report(*[failure(n) for n in range(1, 121)], count=500))
    assert len(blocks) == 1 + MAX_LISTED
    assert fields(blocks[0])["X-MCMT-Failures"] == "500"
    assert "not delivered to\n500 recipients or devices" in text
    assert "and 400 more, not listed." in text


def test_an_address_that_is_not_ascii_is_written_as_the_standard_has_it() -> None:
    """RFC 6533 3: utf-8-addr-xtext; the report stays readable for programs that know ASCII alone."""
    data = report(failure(recipient="j\u00f6+a@b\u00fccher.example"))
    assert data.isascii()
    _, _, (_, block), _ = read(data)
    assert block["final-recipient"] == "utf-8; j\\x{F6}\\x{2B}a@b\\x{FC}cher.example"


@pytest.mark.parametrize(
    "block",
    [
        b"Subject: gr\xc3\xbc\xc3\x9fe\r\n",
        b"Subject: not even UTF-8 \xff\r\n",
        b"X-Long: " + b"x" * 2000 + b"\r\nSubject: -- after\r\n",
        b"X-Bare: a\rb\r\n",
        f"--{BOUNDARY}--\r\n".encode(),
        b"Subject: trailing \t\r\n\tfolded=3D\r\n",
        b"",
    ],
)
def test_the_originals_fields_come_back_whatever_is_in_them(block: bytes) -> None:
    data = report(failure(), header_block=block)
    assert data.isascii()
    assert max(map(len, data.split(b"\r\n"))) <= 998
    *_, returned = read(data)
    payload = returned.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert payload.replace(b"\r\n", b"\n").rstrip(b"\n") == block.replace(b"\r\n", b"\n").rstrip(b"\n")


def test_of_endless_header_fields_whole_lines_come_back_up_to_a_limit() -> None:
    block = b"".join(b"X-Line: %d\r\n" % number for number in range(20_000))
    *_, returned = read(report(failure(), header_block=block))
    payload = returned.get_payload(decode=True)
    assert isinstance(payload, bytes)
    assert MAX_HEADER_BLOCK - 100 < len(payload) <= MAX_HEADER_BLOCK
    assert block.startswith(payload + b"\r\n")


characters = st.sampled_from('a-:; \t\r\n<>@"=\\\u00f6\u2028\x00\x0b\x85') | st.characters(exclude_categories=["Cs"])
attacks = [f"\r\n--{BOUNDARY}--\r\n", "\r\n\r\nAction: delivered", "a@b\r\nBcc: evil@example.com", "\n\n", "x" * 3000]
nasty = st.text(characters, max_size=80) | st.sampled_from(attacks)


@given(
    recipient=nasty, token=nasty, text=nasty, code=nasty, remote=nasty, last=nasty, return_path=nasty,
    block=st.binary(max_size=200) | nasty.map(str.encode)
    | st.lists(st.sampled_from([b"--", BOUNDARY.encode(), b"\r\n", b"\n", b"\r", b"-", b"=", b"\xff", b"a" * 71]))
    .map(b"".join),
)  # fmt: skip
def test_nothing_that_others_wrote_becomes_a_field_a_part_or_a_line_too_long(
    recipient: str, token: str, text: str, code: str, remote: str, last: str, return_path: str, block: bytes
) -> None:
    theirs = failure(
        recipient=recipient,
        token=token,
        text=text,
        code=code,
        remote_id=remote,
        remote_address=remote,
        last=last,
    )
    data = report(theirs, failure(2), header_block=block, return_path=return_path)

    lines = data.split(b"\r\n")
    assert not re.search(rb"\r(?!\n)|(?<!\r)\n", data)
    assert max(map(len, lines)) <= 998
    assert [line for line in lines if line.startswith(b"--")] == [f"--{BOUNDARY}".encode()] * 3 + [
        f"--{BOUNDARY}--".encode()
    ]
    head = data[: data.index(b"\r\n\r\n")].split(b"\r\n")
    assert [line.split(b":")[0] for line in head] == [
        b"From", b"To", b"Subject", b"Date", b"Message-ID", b"Auto-Submitted", b"MIME-Version", b"Content-Type"
    ]  # fmt: skip
    # The rest of it is ASCII; the return path may need SMTPUTF8.
    assert data.replace(head[1], b"").isascii()

    message: Any = email.message_from_bytes(data)  # compat32: the addresses are not what is tried here
    told, status, returned = message.get_payload()
    assert told.get_content_type() == "text/plain"
    blocks = status.get_payload()
    assert [block["Action"] for block in blocks] == [None, "failed", "failed"]
    known = {"final-recipient", "action", "status", "remote-mta", "diagnostic-code", "last-attempt-date"}
    known |= {"x-device-token", "x-apns-id", "x-mcmt-delivery-id", "x-mcmt-last-answer"}
    for each in blocks[1:]:
        names = [name.lower() for name, _ in each.items()]
        assert set(names) <= known
        assert len(names) == len(set(names))
    payload = returned.get_payload(decode=True).replace(b"\r\n", b"\n").rstrip(b"\n")
    assert payload == block.replace(b"\r\n", b"\n").rstrip(b"\n")

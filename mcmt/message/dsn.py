"""Bounces: the report that tells a sender which deliveries of a message failed (RFC 3464 in RFC 6522).

Senders that ask for it (RFC 3461) are told of those that were handed on and of those that are late as well, in the
same report.

Pure: values in, bytes out; ids and times are arguments. A report is 7bit with lines of at most 998 octets
(RFC 5321 4.5.3.1.6), whatever the message, the addresses and the gateway's texts have in them, so that any mail system
carries it as it is:

- every value on a line of its own is printable ASCII; other characters are written ``\\x{HEX}``, the form that
  RFC 6533 3 has for addresses;
- the original's fields go as they came where they are such lines, else quoted-printable (RFC 6522 4);
- only the boundaries of the report itself begin a line with ``--``.

The one exception is To, which names a return path with other characters as it is (RFC 6532): such a report can travel
only where SMTPUTF8 is spoken.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime
from email.utils import format_datetime

import msgspec

from mcmt.message.failure import INTERNAL, Failure, ReportTerms
from mcmt.message.notification import DELAYED, FAILED, RELAYED

MAX_LISTED = 100
"""Recipients that a report lists, failures first; it counts the rest."""
MAX_HEADER_BLOCK = 64 * 1024
"""Bytes of the original's fields that a report returns."""
MAX_TEXT = 500
"""Characters of a gateway's text that a report repeats."""

_OURS = "X-MCMT"
_UNKNOWN = ReportTerms("X-Unknown")
_MAX_LINE = 998
# RFC 2045 6.7: a line of quoted-printable has 76 octets with its soft break; two are kept for an escaped hyphen.
_MAX_QUOTED = 72
_is_plain_line = re.compile(rb"(?!--)[\t -~]{0,%d}" % _MAX_LINE).fullmatch
_is_ascii_line = re.compile(rb"[\t -~]{0,%d}" % _MAX_LINE).fullmatch
_quote = re.compile(rb"[^\t -<>-~]|[\t ]\Z").sub

_ADVICE: Sequence[tuple[str, str]] = (
    ("5.1.", "The address or device token is not in use: take it off your list."),
    ("5.3.4", "The message is too large for the gateway: make it smaller."),
    ("5.4.7", "It could not be delivered in time. Send it again if it still matters."),
    ("5.6.1", "The message has no part for the recipient's channel: add one, or do not send it there."),
    ("", "Sending the same again will fail the same way: see the reason given."),
)
"""What to do about a status that begins so; the first that fits."""


_TOLD = {
    DELAYED: "{batch} is late for the following. It is tried on; there is nothing to do:",
    RELAYED: "{batch} was handed to the gateway or mail server of the following,\nwhich sends no further report:",
}
"""What is said of recipients that did not fail, before they are listed."""


class Original(msgspec.Struct, frozen=True):
    """The message that a report is about."""

    batch_id: str
    received: float
    """Seconds since the epoch."""
    header_block: bytes
    body: bytes | None = None
    """What follows it, blank line included, where the sender asked for the whole message and it was kept."""
    envid: str = ""
    """The sender's name for its envelope; empty: it gave none."""
    release: str = ""
    deliver_by: float = 0.0
    """As of mcmt.message.model.Envelope."""


def compose_report(
    original: Original,
    failures: Sequence[Failure],
    count: int,
    *,
    return_path: str,
    terms: Mapping[str, ReportTerms],
    hostname: str,
    now: float,
    message_id: str,
    boundary: str,
    others: int = 0,
) -> bytes:
    """The report to *return_path* about *count* failures, of which *failures* are the first.

    *terms* are those of each channel, by name; *message_id* has no angle brackets; *boundary* is of letters and digits;
    *others*: how many of *count* did not fail, but were handed on or are late.
    """
    listed = failures[:MAX_LISTED]
    head = (
        f"From: Mail Delivery System <mailer-daemon@{hostname}>",
        f"To: {_to(return_path)}",
        f"Subject: {_subject(listed, count, others)}",
        f"Date: {_date(now)}",
        f"Message-ID: <{message_id}>",
        "Auto-Submitted: auto-replied",  # RFC 3834 5
        "MIME-Version: 1.0",
        f'Content-Type: multipart/report; report-type=delivery-status; boundary="{boundary}"',
    )
    media_type, block, encoding = _returned(original, failed=count > others)
    separator = f"--{boundary}"
    lines = (
        *head,
        "",
        "This is a report in the format of RFC 3464, for mail programs that do not show it.",
        separator,
        "Content-Type: text/plain; charset=us-ascii",
        "",
        *_told(original, listed, count, others, terms, hostname),
        separator,
        "Content-Type: message/delivery-status",
        "",
        *_status(original, listed, count, others, terms, hostname),
        separator,
        f"Content-Type: {media_type}",
        f"Content-Transfer-Encoding: {encoding}",
        "",
    )
    return "\r\n".join(lines).encode() + b"\r\n" + block + f"\r\n{separator}--\r\n".encode()


def _subject(listed: Sequence[Failure], count: int, others: int) -> str:
    actions = {one.action for one in listed} - {FAILED}
    word = "Relayed and delayed" if len(actions) > 1 else "Delayed" if DELAYED in actions else "Relayed"
    of_others = f"{word}: {_plural(others, 'recipient')}"
    if count == others:
        return of_others
    return f"Undelivered: {_plural(count - others, 'failure')}" + f"; {of_others.lower()}" * (others > 0)


def _plural(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _told(
    original: Original,
    failures: Sequence[Failure],
    count: int,
    others: int,
    terms: Mapping[str, ReportTerms],
    hostname: str,
) -> Iterator[str]:
    """For people: what was sent, who failed, why, what to do."""
    yield f"This is the message delivery system at {hostname}."
    yield ""
    yield f"The message that you sent on {_date(original.received)}"
    batch = f"(batch id {_plain(original.batch_id)})"
    failed = count - others
    if failed:
        yield f"{batch} was not delivered to"
        yield f"{'1 recipient' if failed == 1 else f'{failed} recipients or devices'}, and is not tried there again:"
        yield ""
    action = FAILED
    for failure in failures:
        if failure.action != action:
            if action != FAILED or failed:
                yield ""
            action = failure.action
            yield from _TOLD[action].format(batch="It" if failed else batch).split("\n")
            yield ""
        its = terms.get(failure.channel, _UNKNOWN)
        yield f"<{_plain(failure.recipient)}>"
        if its.token_field and failure.token:
            yield f"    {its.token_field}: {_plain(failure.token)}"
        if its.remote_id_field and failure.remote_id:
            yield f"    {its.remote_id_field}: {_plain(failure.remote_id)}"
        yield f"    {_plain(f'{failure.code} {failure.text}'.strip())}"
        if failure.last:
            yield f"    the answer before: {_plain(failure.last)}"
    if count > len(failures):
        yield f"and {count - len(failures)} more, not listed."
    yield ""
    if not failed:
        return
    yield "What to do:"
    advised: dict[str, list[str]] = {}
    for status in dict.fromkeys([failure.status for failure in failures if failure.action == FAILED]):
        advice = next(text for prefix, text in _ADVICE if status.startswith(prefix))
        advised.setdefault(advice, []).append(status)
    for advice, statuses in advised.items():
        yield f"{', '.join(statuses)}: {advice}"
    yield ""


def _status(
    original: Original,
    failures: Sequence[Failure],
    count: int,
    others: int,
    terms: Mapping[str, ReportTerms],
    hostname: str,
) -> Iterator[str]:
    """For programs: RFC 3464 2.2, the fields of the message, then 2.3, those of each recipient."""
    if original.envid:
        yield f"Original-Envelope-Id: {_plain(original.envid)}"
    yield f"Reporting-MTA: dns; {hostname}"
    yield f"Arrival-Date: {_date(original.received)}"
    if original.deliver_by:
        yield f"Deliver-By-Date: {_date(original.deliver_by)}"  # RFC 2852 5
    if original.release:
        yield f"Future-Release-Request: {_plain(original.release)}"  # RFC 4865 5.1.2
    yield f"X-MCMT-Batch-Id: {_plain(original.batch_id)}"
    yield f"X-MCMT-Failures: {count - others}"
    if others:
        yield f"X-MCMT-Reported: {count}"
    for failure in failures:
        its = terms.get(failure.channel, _UNKNOWN)
        internal = INTERNAL in failure.text
        yield ""
        if failure.original:
            yield f"Original-Recipient: {_plain(failure.original)}"
        yield f"Final-Recipient: {_typed(failure.recipient)}"
        yield f"Action: {failure.action}"
        yield f"Status: {failure.status}"
        if failure.remote_address:
            yield f"Remote-MTA: dns; [{_plain(failure.remote_address)}]"
        kind = _OURS if internal else its.diagnostic_type
        yield f"Diagnostic-Code: {kind}; {_plain(f'{failure.code} {failure.text}'.strip())}"
        if not internal:
            yield f"Last-Attempt-Date: {_date(failure.time)}"
        if failure.last:
            yield f"X-MCMT-Last-Answer: {_plain(failure.last)}"
        if failure.until:
            yield f"Will-Retry-Until: {_date(failure.until)}"
        if its.token_field and failure.token:
            yield f"{its.token_field}: {_plain(failure.token)}"
        if its.remote_id_field and failure.remote_id:
            yield f"{its.remote_id_field}: {_plain(failure.remote_id)}"
        yield f"X-MCMT-Delivery-Id: {_plain(original.batch_id)}-{failure.number}"
    yield ""


def _returned(original: Original, *, failed: bool) -> tuple[str, bytes, str]:
    """Media type, content and transfer encoding of what is returned.

    The whole message where it was kept, is to be told of as failed (RFC 3461 4.3), and needs no other encoding than
    7bit, which is all that message/rfc822 may have (RFC 2046 5.2.1). Else its fields.
    """
    block = original.header_block
    if failed and original.body is not None:
        whole = block + original.body
        if all(map(_is_ascii_line, whole.split(b"\r\n"))):
            return "message/rfc822", whole, "7bit"
    return ("text/rfc822-headers", *_returned_fields(block))


def _returned_fields(block: bytes) -> tuple[bytes, str]:
    """The original's fields, whole lines up to MAX_HEADER_BLOCK, and their transfer encoding."""
    if len(block) > MAX_HEADER_BLOCK:
        block = block[: max(block.rfind(b"\n", 0, MAX_HEADER_BLOCK) + 1, 0) or MAX_HEADER_BLOCK]
    lines = block.replace(b"\r\n", b"\n").rstrip(b"\n").split(b"\n")
    if all(map(_is_plain_line, lines)):
        return b"\r\n".join(lines), "7bit"
    return b"\r\n".join(map(_quoted, lines)), "quoted-printable"


def _quoted(line: bytes) -> bytes:
    """A line in quoted-printable, in which no line begins with a hyphen."""
    rest = _quote(lambda found: b"=%02X" % found[0][0], line)
    pieces = []
    while True:
        end = len(rest)
        if end > _MAX_QUOTED:
            escape = rest.rfind(b"=", _MAX_QUOTED - 2, _MAX_QUOTED)
            end = _MAX_QUOTED if escape < 0 else escape
        piece, rest = rest[:end], rest[end:]
        pieces.append(b"=2D" + piece[1:] if piece.startswith(b"-") else piece)
        if not rest:
            return b"=\r\n".join(pieces)


def _typed(address: str) -> str:
    """An address with its type: RFC 3464 2.3.2; RFC 6533 3 where it is not ASCII."""
    if address.isascii():
        return f"rfc822; {_plain(address)}"
    # utf-8-addr-xtext also writes "\\", "+" and "=" so.
    return "utf-8; " + "".join(
        [each if "!" <= each <= "~" and each not in "\\+=" else f"\\x{{{ord(each):X}}}" for each in address]
    )


def _plain(text: str) -> str:
    """One line of printable ASCII, of MAX_TEXT characters at most."""
    if not (text.isascii() and text.isprintable()):
        text = "".join([each if " " <= each <= "~" else f"\\x{{{ord(each):X}}}" for each in text[:MAX_TEXT]])
    return text if len(text) <= MAX_TEXT else f"{text[: MAX_TEXT - 3]}..."


def _to(path: str) -> str:
    """The return path for the field To; no address is as long as a line, so what is longer is none."""
    address = "".join([each for each in path if each.isprintable() and each not in "<>"])
    return f"<{address}>" if len(address.encode()) < _MAX_LINE // 2 else "undisclosed-recipients:;"


def _date(time: float) -> str:
    """RFC 5322 3.3."""
    return format_datetime(datetime.fromtimestamp(time, UTC))

"""A message as a client writes it in JSON, or as a raw one with its envelope beside it, read into our values.

Pure: bytes in, a Submission out. What is wrong is a Problem that names the field.
"""

from __future__ import annotations

import base64
import binascii
import re
from datetime import datetime
from typing import Annotated, Final, Literal, NamedTuple

import msgspec
from msgspec import UNSET, Meta, UnsetType

from mcmt.config.settings import HttpTokenSettings
from mcmt.errors import MessageError
from mcmt.intake.compose import Schedule
from mcmt.intake.http.problem import Problem, of_message
from mcmt.intake.http.tokens import may_send
from mcmt.intake.path import read_path
from mcmt.message.failure import is_mailbox
from mcmt.message.model import Headers, Part
from mcmt.message.priority import WORDS

HORIZON: Final = 366 * 86400.0
"""Seconds ahead that a message may be scheduled."""
_RAW: Final = ("message/rfc822", "multipart/vnd.msys.mcmt")

_Name = Annotated[str, Meta(pattern=r"^[!-9;-~]{1,200}$")]
# RFC 5322 2.2: no control characters; a field that is folded is not needed here.
_Value = Annotated[str, Meta(pattern=r"^[^\x00-\x1f\x7f]*$", max_length=64 * 1024)]
_Fields = dict[_Name, _Value | list[_Value]]
_Time = Annotated[datetime, Meta(tz=True)] | float
_Token = Annotated[str, Meta(pattern=r"^[^\x00-\x20,\x7f]+$", max_length=1000)]


class SubmittedPart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One channel's rendering: give one of json, text and base64."""

    media_type: Annotated[
        str, Meta(pattern=r"^[a-z0-9!#$&^_.+-]+/[a-z0-9!#$&^_.+-]+$", examples=["message/vnd.msys.apn"])
    ]
    headers: Annotated[_Fields, Meta(description="The rendering's own header fields, as apns-topic")] = {}
    tokens: Annotated[list[_Token], Meta(description="Device tokens that it is for")] = []
    json: Annotated[msgspec.Raw, Meta(description="The content, sent byte for byte")] | UnsetType = UNSET
    text: Annotated[str, Meta(description="The content as text, sent as UTF-8")] | UnsetType = UNSET
    base64: Annotated[str, Meta(description="The content as base64")] | UnsetType = UNSET


class SubmittedMessage(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename={"sender": "from"}):
    """A message. Times are RFC 3339 texts with an offset, or seconds since the epoch."""

    to: Annotated[list[str], Meta(min_length=1, description="Recipients; their domains choose the channels")]
    parts: Annotated[list[SubmittedPart], Meta(min_length=1, max_length=100)]
    sender: Annotated[str, Meta(description="Who hears of failures by mail; without it nobody does")] = ""
    headers: Annotated[_Fields, Meta(description="Header fields of the message")] = {}
    schedule: Annotated[_Time | None, Meta(description="When it is sent; without it at once")] = None
    expires: Annotated[_Time | None, Meta(description="When it is given up")] = None
    priority: Annotated[
        Literal["high", "normal", "bulk"] | None,
        Meta(description="What it overtakes in its domain; without it the domain's own"),
    ] = None


class Submission(NamedTuple):
    """What is to be kept."""

    sender: str
    recipients: tuple[str, ...]
    schedule: Schedule
    parts: tuple[Part, ...]
    headers: Headers
    raw: bytes | None = None
    """The whole message, in place of parts and headers."""
    priority: int | None = None
    """Its class (mcmt/message/priority.py); None: it asks for none."""


_decode = msgspec.json.Decoder(SubmittedMessage).decode
_query_time = re.compile(r"\d{1,12}(\.\d{1,9})?").fullmatch
_place = re.compile(r"(?:^(?P<what>.*?) - at (?:`key` in )?`\$\.?(?P<path>.*)`$)|(?:^(?P<all>.*)$)", re.DOTALL).match


def read_json(body: bytes, token: HttpTokenSettings, now: float) -> Submission:
    """The message that *body* is. Raises Problem."""
    try:
        given = _decode(body)
    except msgspec.ValidationError as error:
        found = _place(str(error))
        assert found is not None  # noqa: S101 - one of its branches takes everything
        raise Problem(400, found["what"] or found["all"], found["path"] or "", enhanced="5.6.0") from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Problem(400, f"this is not JSON: {error}", enhanced="5.6.0") from None
    recipients = _recipients(given.to, token)
    parts = tuple([_part(part, f"parts[{number}]") for number, part in enumerate(given.parts)])
    schedule = _schedule(_seconds(given.schedule), _seconds(given.expires), now)
    priority = None if given.priority is None else WORDS[given.priority]
    return Submission(_sender(given.sender), recipients, schedule, parts, _headers(given.headers), priority=priority)


def is_raw(media_type: str) -> bool:
    """Whether a body of that type is a message as it is."""
    return media_type in _RAW


def read_raw(
    body: bytes, content_type: str, query: list[tuple[str, str]], token: HttpTokenSettings, now: float
) -> Submission:
    """The message that *body* is, whose envelope is in the query: to, from, schedule, expires, priority.

    Raises Problem.
    """
    single: dict[str, str] = {}
    to: list[str] = []
    for name, value in query:
        if name == "to":
            to.append(value)
        elif name not in ("from", "schedule", "expires", "priority") or name in single:
            raise Problem(400, "it is not a parameter, or is given twice", name[:100], enhanced="5.5.4")
        else:
            single[name] = value
    if not to:
        raise Problem(400, "give the recipients of a raw message in the query: ?to=ADDRESS", "to", enhanced="5.5.4")
    # A file of lines that end as those of a text file do; SMTP's end in CR LF, and so do ours.
    lines = body if b"\r\n" in body else body.replace(b"\n", b"\r\n")
    if not content_type.lower().startswith(_RAW[0]):
        # RFC 2045 5: what is said of the body in HTTP is what its own header would say.
        said = content_type.encode(errors="surrogateescape")
        lines = b"MIME-Version: 1.0\r\nContent-Type: %b\r\n\r\n%b" % (said, lines)
    times = [_query_seconds(single, name) for name in ("schedule", "expires")]
    schedule = _schedule(times[0], times[1], now)
    word = single.get("priority")
    if word is not None and word not in WORDS:
        raise Problem(400, f"expected one of {', '.join(WORDS)}", "priority", enhanced="5.5.4")
    priority = None if word is None else WORDS[word]
    return Submission(_sender(single.get("from", "")), _recipients(to, token), schedule, (), (), lines, priority)


def _sender(address: str) -> str:
    if address and not is_mailbox(address):
        raise Problem(400, "expected a mail address such as push@example.com", "from", enhanced="5.1.7")
    return address


def _recipients(given: list[str], token: HttpTokenSettings) -> tuple[str, ...]:
    found = []
    for number, one in enumerate(given):
        field = f"to[{number}]"
        try:
            # The grammar of RCPT, in the same words.
            address, parameters = read_path(f"TO:<{one}>", "TO")
        except MessageError as error:
            raise of_message(error, field) from None
        if parameters:
            raise Problem(400, "expected one address", field, enhanced="5.1.3")
        may_send(token, address, field)
        found.append(address)
    return tuple(found)


def _part(given: SubmittedPart, field: str) -> Part:
    contents = [one for one in (given.json, given.text, given.base64) if one is not UNSET]
    if len(contents) != 1:
        raise Problem(400, "give the content as one of json, text and base64", field, enhanced="5.6.0")
    if isinstance(given.json, msgspec.Raw):
        content = bytes(given.json)
    elif isinstance(given.text, str):
        content = given.text.encode()
    else:
        try:
            content = base64.b64decode(str(given.base64), validate=True)
        except (binascii.Error, ValueError):
            raise Problem(400, "this is not base64", f"{field}.base64", enhanced="5.6.0") from None
    headers = _headers(given.headers)
    if given.tokens:
        headers = (*headers, ("x-device-token", ",".join(given.tokens)))
    return Part(given.media_type, headers, content)


def _headers(fields: _Fields) -> Headers:
    return tuple(
        (name.lower(), value.strip())
        for name, values in fields.items()
        for value in ([values] if isinstance(values, str) else values)
    )


def _seconds(time: datetime | float | None) -> float | None:
    return time.timestamp() if isinstance(time, datetime) else time


def _query_seconds(query: dict[str, str], name: str) -> float | None:
    text = query.get(name)
    if text is None:
        return None
    try:
        return float(text) if _query_time(text) else _seconds(msgspec.convert(text, Annotated[datetime, Meta(tz=True)]))
    except msgspec.ValidationError:
        raise Problem(400, "expected an RFC 3339 time with an offset, or seconds", name, enhanced="5.5.4") from None


def _schedule(due: float | None, expires: float | None, now: float) -> Schedule:
    begin = now if due is None else max(due, now)
    if begin > now + HORIZON:
        raise Problem(400, f"is more than {HORIZON / 86400:g} days ahead", "schedule", enhanced="5.5.4")
    if expires is not None and expires <= begin:
        raise Problem(400, "is over before the message is sent", "expires", enhanced="5.5.4")
    at_once = Schedule()
    return Schedule(begin if begin > now else at_once.due, at_once.expires if expires is None else expires)

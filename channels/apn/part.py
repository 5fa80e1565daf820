"""A ``message/vnd.msys.apn`` part read: what is stored of it, and the device tokens it goes to.

Pure, and called at DATA: every fault found here is told to the client, none is left for Apple to find.
The stored part's headers are the request headers that will be sent, normalised, in the order of
APNS_HEADERS, then ``return-path`` where it was given. Defaults of the domain (topic, expiry) are not
filled in: they are those of the moment of sending.

- ``X-Device-Token`` (repeated, or separated by commas); without one the context variable ``DLV_Dest_ID``;
  without that a local part of 64 or more hex digits. Equal tokens are one delivery.
- ``Return-Path``: who hears of failures, in the form of ``Envelope.reverse_path``: no angle brackets,
  empty for ``<>``.
- ``Target.expires`` is 0.0 for ``apns-expiration: 0`` (now or never): there is no clock here, so intake
  turns it into 60 seconds after the reception.
- ``X-Device-Registered``: when the app on the devices has registered last, in Unix seconds.
- ``Reading.sole`` is set for a given ``apns-id``: two tokens are refused here, two recipients by intake.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from itertools import repeat
from typing import Any

from mcmt.channel.port import Reading, Target
from mcmt.errors import MessageError
from mcmt.message.address import local_part_of
from mcmt.message.model import Headers, Part, header

from .payload import read_payload
from .request_headers import APNS_HEADERS, complete, read_request_headers

__all__ = ["APNS_HEADERS", "MEDIA_TYPE", "RETURN_PATH", "read"]

MEDIA_TYPE = "message/vnd.msys.apn"
TOKEN = "x-device-token"  # noqa: S105 - a field's name
RETURN_PATH = "return-path"
REGISTERED = "x-device-registered"
MAX_PATH = 254
"""Octets of an address (RFC 5321 4.5.3.1.3, without the angle brackets)."""

# Apple does not say how long a token is; the gateway judges what has this form.
_HEX_DIGITS = b"0123456789abcdef"
_MAX_TOKEN = 200
_is_time = re.compile(r"[0-9]{1,10}").fullmatch
_is_token = re.compile(r"[0-9a-f]{1,200}").fullmatch
_is_token_like = re.compile(r"[0-9A-Fa-f]{64,}").fullmatch
# RFC 5321 4.1.2 Mailbox, with RFC 6531's letters; address literals by their brackets alone.
_is_mailbox = re.compile(
    r'(?:[^\s\x00-\x1f\x7f"(),:;<>@\[\\\]]{1,64}|"(?:[^"\\\x00-\x1f\x7f]|\\[ -~]){0,62}")'
    r"@(?:[\w-]+(?:\.[\w-]+)*|\[[0-9A-Za-z.:-]+\])"
).fullmatch


def read(part: Part, recipient: str, context: Mapping[str, str], options: Any) -> Reading:  # noqa: ARG001 - the port's
    """The part as it is stored, and a target for every token.

    Raises MessageError: 554 5.1.1 no token, 5.1.3 a token that is none, 5.1.7 a Return-Path that is no
    address, 5.3.4 a payload too large, 5.6.0 whatever else is wrong with payload or headers.
    """
    tokens = _read_tokens(part.headers, recipient, context)
    given = read_request_headers(part.headers)
    if "apns-id" in given and len(tokens) > 1:
        raise MessageError(554, "5.6.0", f"apns-id: {len(tokens)} device tokens, an id names a single delivery")
    payload, aps = read_payload(part.content, given.get("apns-push-type"))
    headers = complete(given, aps)
    return_path = header(part.headers, RETURN_PATH)
    if return_path is not None:
        headers = (*headers, (RETURN_PATH, _read_return_path(return_path)))
    expiration = given.get("apns-expiration")
    expires = None if expiration is None else float(expiration)
    targets = tuple(map(Target, tokens, repeat(expires)))
    return Reading(
        Part(part.media_type, headers, payload),
        targets,
        sole="apns-id" in given,
        collapse_id=given.get("apns-collapse-id", ""),
        registered=_read_registered(part.headers),
    )


def _read_tokens(headers: Headers, recipient: str, context: Mapping[str, str]) -> list[str]:
    source = "X-Device-Token"
    tokens = _split_list(",".join([value for name, value in headers if name == TOKEN]))
    if not tokens:
        source = "DLV_Dest_ID"
        tokens = _split_list(context.get(source, ""))
    if not tokens:
        source = "recipient"
        local_part = local_part_of(recipient)
        if not _is_token_like(local_part):
            raise MessageError(
                554,
                "5.1.1",
                "no device token: expected the field X-Device-Token, the context variable DLV_Dest_ID, "
                "or a recipient whose local part is a token (64 or more hex digits)",
            )
        tokens = [local_part.lower()]
    # All at once: of 10,000 tokens 0.6 ms, one by one 1.9 ms. One by one only to name the one that is none.
    if "".join(tokens).encode().translate(None, _HEX_DIGITS) or len(max(tokens, key=len)) > _MAX_TOKEN:
        raise _no_token(source, tokens)
    return list(dict.fromkeys(tokens)) if len(tokens) > 1 else tokens


def _split_list(text: str) -> list[str]:
    """The elements of a list separated by commas, lower case; empty ones do not count."""
    return list(filter(None, map(str.strip, text.lower().split(",")))) if text else []


def _no_token(source: str, tokens: list[str]) -> MessageError:
    number, token = next(pair for pair in enumerate(tokens, 1) if not _is_token(pair[1]))
    which = f" (number {number} of {len(tokens)})" if len(tokens) > 1 else ""
    shown = ascii(token if len(token) <= 80 else token[:77] + "...")
    return MessageError(554, "5.1.3", f"{source}: {shown}{which} is not 1 to 200 hex digits")


def _read_registered(headers: Headers) -> float:
    value = header(headers, REGISTERED)
    if value is None:
        return 0.0
    if not _is_time(value):
        raise MessageError(554, "5.6.0", f"X-Device-Registered: {value[:80]!a} is not a time in Unix seconds")
    return float(value)


def _read_return_path(value: str) -> str:
    address = value[1:-1] if value.startswith("<") and value.endswith(">") else value
    if value == "<>" or (len(address.encode()) <= MAX_PATH and _is_mailbox(address)):
        return address
    raise MessageError(554, "5.1.7", f"Return-Path: {value[:80]!a} is neither an address nor <>")

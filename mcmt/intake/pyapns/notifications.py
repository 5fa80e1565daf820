"""What ``notify`` is given, as notifications: tokens and dictionaries, alone, in lists, or mixed. Pure.

Rules: one dictionary, alone or as a list of one, goes to every token: so the ruby client, which puts every dictionary
into a list, is served with one token and with many. Otherwise there are as many dictionaries as tokens. What pyapns
would have cut to the shorter list without a word is refused. A payload is the JSON that pyapns wrote: compact, UTF-8,
in the order of the members.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

from mcmt.errors import MessageError
from mcmt.wire.apns_binary import Notification

_is_hex = re.compile(r"(?:[0-9A-Fa-f]{2}){1,100}").fullmatch


def read_notifications(tokens: Any, dictionaries: Any) -> Sequence[Notification]:
    """The notifications, in order. Raises MessageError: 5.1.3 of a token, 5.6.0 of anything else."""
    of_tokens = tokens if isinstance(tokens, list) else [tokens]
    payloads = [_payload(each) for each in (dictionaries if isinstance(dictionaries, list) else [dictionaries])]
    if len(payloads) == 1:
        payloads *= len(of_tokens)
    if len(payloads) != len(of_tokens):
        raise _wrong(f"{len(of_tokens)} tokens and {len(payloads)} notifications: give one, or one for each token")
    return [Notification(0, _token(token), payload) for token, payload in zip(of_tokens, payloads, strict=True)]


def _token(token: Any) -> bytes:
    text = token.replace(" ", "") if isinstance(token, str) else ""
    if not _is_hex(text):
        raise MessageError(554, "5.1.3", f"{ascii(token)[:80]} is no device token: expected hex digits")
    return bytes.fromhex(text)


def _payload(given: Any) -> bytes:
    if not isinstance(given, dict):
        raise _wrong(f"a notification is a struct, and this is a {type(given).__name__}")
    try:
        return json.dumps(given, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise _wrong(f"this cannot be written as JSON: {error}") from None


def _wrong(text: str) -> MessageError:
    return MessageError(554, "5.6.0", text)

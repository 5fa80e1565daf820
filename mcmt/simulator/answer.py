"""Answers and last-stream-ids, made from actions: pure."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
from hpack import HeaderTuple, NeverIndexedHeaderTuple

from mcmt.simulator.action import Action, Goaway

_JSON = HeaderTuple(b"content-type", b"application/json; charset=utf-8")


def answer_headers(action: Action, apns_id: str, unique_id: str, body: bytes) -> list[HeaderTuple]:
    """The header block of an answer; apns-unique-id as the development gateway gives it."""
    headers = [
        HeaderTuple(b":status", b"%d" % action.status),
        # Never indexed: a value that comes once would only push others out of the table.
        NeverIndexedHeaderTuple(b"apns-id", apns_id.encode("latin-1")),
        NeverIndexedHeaderTuple(b"apns-unique-id", unique_id.encode("ascii")),
    ]
    if body:
        headers.append(_JSON)
    if action.retry_after is not None:
        headers.append(HeaderTuple(b"retry-after", b"%d" % action.retry_after))
    return headers


def answer_body(action: Action, now: float) -> bytes:
    """The JSON of a refusal, nothing for 200; *now* is seconds since the epoch."""
    if action.body is not None:
        return action.body
    if not action.reason:
        return b""
    content: dict[str, Any] = {"reason": action.reason}
    if action.status == 410:
        # Apple: when the token was last known to be no longer valid for the topic, in milliseconds.
        content["timestamp"] = int(now * 1000) if action.timestamp is None else action.timestamp
    return msgspec.json.encode(content)


def last_stream(goaway: Goaway, unanswered: Sequence[int], highest: int, answered: int) -> int:
    """The last-stream-id of a GOAWAY.

    *unanswered* are the open streams, ascending; *highest* the highest id seen, *answered* the highest
    one answered. RFC 9113 6.8: what was answered was processed, so a word never yields less than that.
    """
    if isinstance(goaway.last, int):
        return goaway.last
    if goaway.last == "all":
        return highest
    if goaway.last == "middle" and unanswered:
        return max(unanswered[(len(unanswered) - 1) // 2], answered)
    return answered

"""``traceparent``: the trace that a message belongs to, as its sender says (W3C Trace Context, Recommendation of 2021).

It comes as a header field of the message, or of the HTTP request that brings it, and stays with the message as the
context variable of that name, so that every event of it, and every log line that shows context variables, has it.

Pure.
"""

from __future__ import annotations

import re
from typing import Final, NamedTuple

VARIABLE: Final = "traceparent"
"""The header field, and the context variable."""
_LENGTH: Final = 55
_SAMPLED: Final = 0x01

# 3.2.2: the fields of version 00; neither id is all zeros. 4.3: of a higher version, which is not ff, the first 55
# characters are read, and a dash stands before what follows.
_read = re.compile(
    r"(?!ff)(?P<version>[0-9a-f]{2})-(?!0{32})(?P<trace>[0-9a-f]{32})-(?!0{16})(?P<span>[0-9a-f]{16})"
    r"-(?P<flags>[0-9a-f]{2})(?P<more>-.*)?"
).fullmatch


class Parent(NamedTuple):
    """The span of the sender that a message was sent in."""

    trace_id: str
    """32 hex digits in lower case."""
    span_id: str
    """16 of them."""
    sampled: bool
    """The sender records this trace."""


def parent_of(value: str) -> Parent | None:
    """What *value* says; None where it is not a traceparent: then it counts as not given (3.2.2.1)."""
    if (found := _read(value)) is None or (found["version"] == "00" and found["more"]):
        return None
    return Parent(found["trace"], found["span"], bool(int(found["flags"], 16) & _SAMPLED))


def kept(value: str) -> str:
    """What is kept of *value*; empty where it is not a traceparent."""
    return value[:_LENGTH] if parent_of(value) else ""

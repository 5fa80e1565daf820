"""What becomes of a notification: by its own faults first, then by the rules that the HTTP/2 simulator has too.

The protocol has no word for most of what an action can be. Of an answer the reason chooses the status; a 410 is silence
and a tuple of the feedback service, as it was with Apple; ``close`` and ``reset`` drop the connection, ``goaway`` is a
shutdown, ``silent`` takes nothing more without a word, ``delay`` holds this notification and those behind it.
"""

from __future__ import annotations

import json
from typing import Final, NamedTuple

from mcmt.simulator.action import Action
from mcmt.simulator.binary.frames import Frame

SHUTDOWN: Final = 10
PROTOCOL_ERROR: Final = 128
UNKNOWN: Final = 255
STATUSES: Final[dict[int, str]] = {
    1: "Processing Error",
    2: "Missing Device Token",
    3: "Missing Topic",
    4: "Missing Payload",
    5: "Invalid Token Size",
    6: "Invalid Topic Size",
    7: "Invalid Payload Size",
    8: "Invalid Token",
    SHUTDOWN: "Shutdown",
    PROTOCOL_ERROR: "Protocol Error",
    UNKNOWN: "Unknown",
}
_BY_REASON: Final[dict[str, int]] = {
    "BadDeviceToken": 8,
    "DeviceTokenNotForTopic": 8,
    "BadTopic": 6,
    "InternalServerError": 1,
    "MissingDeviceToken": 2,
    "MissingTopic": 3,
    "PayloadEmpty": 4,
    "PayloadTooLarge": 7,
    "ServiceUnavailable": SHUTDOWN,
    "Shutdown": SHUTDOWN,
    "TopicDisallowed": 3,
}
"""The status for a reason of the HTTP/2 gateway; UNKNOWN for the others."""
_TOKEN_SIZE: Final = 32
# Apple, "Legacy Notification Format" and "Binary Provider API".
_MAX_PAYLOAD: Final = {0: 256, 1: 256, 2: 2048}
_PRIORITIES: Final = (None, 5, 10)


class Verdict(NamedTuple):
    """What the gateway does with one notification."""

    status: int = 0
    """Of the error packet; 0: it is taken."""
    gone: bool = False
    """Taken, and its token is told by the feedback service."""
    reason: str = ""
    """Of a token that is gone."""
    timestamp: int | None = None
    """Milliseconds since the epoch; None: now."""
    drop: bool = False
    """The connection is dropped in place of an answer."""
    hang: bool = False
    """It is not taken, nothing behind it is read, and nothing is said."""


def judge(frame: Frame, any_token_length: bool) -> int:
    """The status of a notification's own fault; 0: it has none."""
    if not frame.token:
        return 2
    if not frame.payload:
        return 4
    if len(frame.token) != _TOKEN_SIZE and not any_token_length:
        return 5
    if len(frame.payload) > _MAX_PAYLOAD[frame.command]:
        return 7
    if frame.priority not in _PRIORITIES:
        return PROTOCOL_ERROR
    try:
        payload = json.loads(frame.payload)
    except ValueError:
        payload = None
    return 0 if isinstance(payload, dict) and payload else 4


def verdict_of(action: Action | None) -> Verdict:
    """What an action, made for the other protocol, is here."""
    if action is None:
        return Verdict()
    if action.close or action.reset is not None:
        return Verdict(drop=True)
    if action.silent:
        return Verdict(hang=True)
    if action.goaway is not None:
        return Verdict(SHUTDOWN)
    if action.status == 200:
        return Verdict()
    if action.status == 410:
        return Verdict(gone=True, reason=action.reason, timestamp=action.timestamp)
    return Verdict(_BY_REASON.get(action.reason, UNKNOWN))

"""Device tokens that provoke an answer or a fault, without any rule: docs/simulator.md has the table.

``dead SSS II T`` - status SSS, the II-th reason of that status (reasons.py), T times for this token, then
200; T of 0 is always. ``fa11 KK T`` - the KK-th fault below, T times. What follows only fills the token
up to 64 hex digits, and makes it a device of its own.
"""

from __future__ import annotations

import re

from mcmt.simulator.action import Action, Goaway, Settings
from mcmt.simulator.reasons import BY_STATUS

_ANSWER = re.compile(r"dead(\d{3})(\d\d)([0-9a-f])")
_FAULT = re.compile(r"fa11(\d\d)([0-9a-f])")

FAULTS: tuple[tuple[str, Action], ...] = (
    ("no answer", Action(silent=True)),
    ("RST_STREAM REFUSED_STREAM", Action(reset=7)),
    ("RST_STREAM INTERNAL_ERROR", Action(reset=2)),
    ("RST_STREAM CANCEL", Action(reset=8)),
    ("200, then RST_STREAM NO_ERROR", Action(reset_after_answer=0)),
    ("GOAWAY that lets every stream live", Action(goaway=Goaway("all"))),
    ("GOAWAY that lets no unanswered stream live", Action(goaway=Goaway("none"))),
    ("GOAWAY that lets half of the unanswered streams live", Action(goaway=Goaway("middle"))),
    (
        'GOAWAY with {"reason":"Shutdown"} as debug data',
        Action(goaway=Goaway("none", debug=b'{"reason":"Shutdown"}')),
    ),
    ("TCP connection dropped", Action(close=True)),
    ("200 after one second", Action(delay=1.0)),
    ("200, its end one second behind its headers", Action(slow=1.0)),
    ("400 with a reason nobody knows", Action(status=400, reason="FutureReason")),
    ("500 with a body that is not JSON", Action(status=500, reason="unreadable", body=b"<html>500</html>")),
    ("200, and one stream at a time for two seconds", Action(settings=Settings(1, None, 2.0))),
    ("200, and a window of 0 for every stream for two seconds", Action(settings=Settings(None, 0, 2.0))),
)
"""What ``fa11 KK`` does, by KK."""


def reserved(token: str) -> tuple[Action, int] | None:
    """The action that a lower-case *token* asks for and how often (0: always), or None for any other token."""
    if token.startswith("dead") and (match := _ANSWER.match(token)):
        status = int(match[1])
        reasons = BY_STATUS.get(status, ())
        index = int(match[2])
        if index < len(reasons):
            return Action(status=status, reason=reasons[index]), int(match[3], 16)
    elif token.startswith("fa11") and (match := _FAULT.match(token)):
        index = int(match[1])
        if index < len(FAULTS):
            return FAULTS[index][1], int(match[2], 16)
    return None

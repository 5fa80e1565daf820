"""What is said with a beanstalkd, for those who watch (mcmt/wire/trace.py). It has no secrets but the jobs."""

from __future__ import annotations

from collections.abc import Sequence

from mcmt.wire.beanstalk import Answer, Reserved, Stats
from mcmt.wire.trace import Trace


def show_commands(trace: Trace, commands: Sequence[bytes]) -> None:
    """These are written now."""
    for number, command in enumerate(commands):
        if not trace.has_room:
            trace.left_out(len(commands) - number)
            return
        trace.tell("sent", "command", command.decode("utf-8", "backslashreplace").rstrip("\r\n"))


def show_answer(trace: Trace, answer: Answer) -> None:
    """The server's next one."""
    if not trace.has_room:
        trace.left_out(1)
    elif isinstance(answer, Reserved):
        trace.tell("received", "RESERVED", f"job {answer.job}", octets=answer.size, body=answer.body or b"")
    elif isinstance(answer, Stats):
        trace.tell("received", "stats", fields=tuple(answer.values.items()))
    else:
        trace.tell("received", "reply", str(answer))

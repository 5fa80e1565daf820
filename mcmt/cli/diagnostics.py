"""The engine's own diagnostics: logging to standard error, one line a message.

Under systemd a line begins with the priority that journald reads (sd-daemon(3)) and has no time, since the journal has
one; elsewhere it has the time in UTC. A traceback, which is always a bug of ours, follows its message, indented.
"""

from __future__ import annotations

import logging
import os
import re
import sys
import time
from collections.abc import Mapping

_PRIORITY = {logging.DEBUG: 7, logging.INFO: 6, logging.WARNING: 4, logging.ERROR: 3, logging.CRITICAL: 2}
"""syslog(3) priorities."""
_CONTROL = re.compile("[\x00-\x1f\x7f-\x9f\u2028\u2029\u202a-\u202e\u2066-\u2069]")
"""Control characters, line ends of every kind, and what turns the direction of writing around."""


class _OneLine(logging.Formatter):
    converter = staticmethod(time.gmtime)

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802 - logging's
        record.message = _plain(record.message)
        record.priority = _PRIORITY.get(record.levelno, 6)
        record.level = record.levelname.lower()
        return super().formatMessage(record)

    def formatException(self, ei: object) -> str:  # noqa: N802 - logging's
        text = super().formatException(ei)  # type: ignore[arg-type] # logging's own type is private
        return "\n".join(f"    {_plain(line)}" for line in text.split("\n"))


def _plain(text: str) -> str:
    """*text* as one line that no terminal obeys: what others sent may stand in it."""
    return _CONTROL.sub(lambda match: ascii(match[0])[1:-1], text)


def set_up_diagnostics(environ: Mapping[str, str], whose: str = "") -> None:
    """Send what is logged from INFO on to standard error; other libraries' from WARNING on. *whose*: begins each
    message."""
    handler = logging.StreamHandler(sys.stderr)
    if _is_journal(environ):
        handler.setFormatter(_OneLine(f"<%(priority)d>%(level)s: {whose}%(message)s"))
    else:
        handler.setFormatter(_OneLine(f"%(asctime)s %(level)s: {whose}%(message)s", "%Y-%m-%dT%H:%M:%SZ"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("mcmt").setLevel(logging.INFO)


def _is_journal(environ: Mapping[str, str]) -> bool:
    # systemd.exec(5): device and inode of the stream, so that a redirected child is not mistaken.
    given = environ.get("JOURNAL_STREAM", "")
    try:
        status = os.fstat(sys.stderr.fileno())
    except (OSError, ValueError):
        return False
    return given == f"{status.st_dev}:{status.st_ino}"

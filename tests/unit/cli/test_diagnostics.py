"""What the engine says on standard error."""

from __future__ import annotations

import re
import subprocess
import sys

SAY = """
import logging, os, sys
from mcmt.cli.diagnostics import set_up_diagnostics
status = os.fstat(2)
environ = {"JOURNAL_STREAM": sys.argv[1].format(status.st_dev, status.st_ino)} if sys.argv[1] else {}
set_up_diagnostics(environ)
log = logging.getLogger("mcmt.engine")
log.debug("unsaid"); log.info("one\\ntwo"); log.error("three")
logging.getLogger("other").info("unsaid"); logging.getLogger("other").warning("four")
try: 1 / 0
except ZeroDivisionError: log.exception("five")
"""


def said(journal: str) -> list[str]:
    done = subprocess.run([sys.executable, "-c", SAY, journal], capture_output=True, text=True, check=True)
    return done.stderr.splitlines()


def test_a_message_is_one_line_with_time_and_level() -> None:
    lines = said("")
    assert all(re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ ", line) for line in lines[:4])
    assert [line.split(" ", 1)[1] for line in lines[:4]] == [
        "info: one\\ntwo",
        "error: three",
        "warning: four",
        "error: five",
    ]


def test_nothing_that_others_sent_is_obeyed_by_a_terminal() -> None:
    nasty = "\\x1b[31m\\x07\\x85\\u2028\\u202e"
    say = SAY.replace("one\\ntwo", nasty).replace("1 / 0", f'raise ZeroDivisionError("{nasty}")')
    assert say != SAY
    done = subprocess.run([sys.executable, "-c", say, ""], capture_output=True, check=True)
    assert b"info: \\x1b[31m\\x07\\x85\\u2028\\u202e\n" in done.stderr
    assert b"    ZeroDivisionError: \\x1b[31m\\x07\\x85\\u2028\\u202e\n" in done.stderr


def test_a_traceback_follows_its_message_indented() -> None:
    lines = said("")
    assert lines[-1] == "    ZeroDivisionError: division by zero"
    assert all(line.startswith("    ") for line in lines[4:])


def test_the_journal_gets_priorities_and_no_time() -> None:
    assert said("{}:{}")[:4] == ["<6>info: one\\ntwo", "<3>error: three", "<4>warning: four", "<3>error: five"]


def test_a_stream_that_is_not_the_journals_is_not_mistaken_for_it() -> None:
    assert said("0:0")[1].endswith("Z error: three")

"""Ending at once, as if killed, so that the next process opens everything anew: what a kill loses is nothing."""

from __future__ import annotations

import logging
import os
import sys


def execute_again() -> None:
    """With the command line that we had: the same process to whoever watches it."""
    logging.shutdown()
    os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])  # noqa: S606 - our own command line


def end() -> None:
    """With exit code 1: whoever started this process starts another."""
    logging.shutdown()
    os._exit(1)

"""A log file is written by one logger of one engine: two that write at offsets of their own would lose lines.

The lock is an flock: it goes with the descriptor, however the process ends, and readers do not notice it.
"""

from __future__ import annotations

import errno
import fcntl
import os
from pathlib import Path


def open_alone(path: Path, flags: int, mode: int) -> int:
    """A descriptor of the file at *path*, locked. Raises OSError: EBUSY when somebody else holds the lock."""
    descriptor = os.open(path, flags, mode)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        os.close(descriptor)
        raise OSError(errno.EBUSY, "another engine or logger writes to it", str(path)) from error
    except OSError:
        pass  # a file system without locks: nobody can tell
    return descriptor

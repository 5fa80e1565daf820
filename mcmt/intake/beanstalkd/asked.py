"""Why a command was written, and the words of the server that may answer it. Anything else ends the connection."""

from __future__ import annotations

from collections.abc import Mapping
from enum import Enum, auto
from types import MappingProxyType
from typing import Final


class Asked(Enum):
    """Why a command was written."""

    WATCH = auto()
    RESERVE = auto()
    DELETE = auto()
    TOUCH = auto()
    AGE = auto()
    """Statistics, of a job that may be a repeat."""
    TO_BURY = auto()
    """Statistics: a job keeps its priority."""
    TO_RELEASE = auto()
    BURY = auto()
    RELEASE = auto()


_NOT_FOUND = "NOT_FOUND"
WORDS: Final[Mapping[Asked, frozenset[str]]] = MappingProxyType(
    {
        Asked.WATCH: frozenset({"WATCHING"}),
        Asked.RESERVE: frozenset({"TIMED_OUT", "DEADLINE_SOON"}),
        # NOT_FOUND: the job's time to run was over. It comes again, and is known then.
        Asked.DELETE: frozenset({"DELETED", _NOT_FOUND}),
        Asked.TOUCH: frozenset({"TOUCHED", _NOT_FOUND}),
        Asked.AGE: frozenset({_NOT_FOUND}),
        Asked.TO_BURY: frozenset({_NOT_FOUND}),
        Asked.TO_RELEASE: frozenset({_NOT_FOUND}),
        Asked.BURY: frozenset({"BURIED", _NOT_FOUND}),
        # BURIED: the server has no memory to order it.
        Asked.RELEASE: frozenset({"RELEASED", "BURIED", _NOT_FOUND}),
    }
)
"""The words that may answer each."""
TELLING: Final = frozenset({Asked.AGE, Asked.TO_BURY, Asked.TO_RELEASE})
"""Those that statistics answer."""

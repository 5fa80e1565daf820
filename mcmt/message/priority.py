"""How urgent a message is: three classes, a larger number goes first; and what clients may say of it.

RFC 6710 gives a message a priority from -9 to 9, 0 where nothing is said, and leaves it to the relay how many levels it
tells apart; RFC 6758 writes the same number into the header field ``MT-Priority``. Here what is above 0 overtakes what
is not, and what is below 0 lets everything else pass.

Pure. What the classes do is the queue's business (mcmt/engine/ready.py) and the spool's.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from mcmt.message.model import Headers, header

HIGH: Final = 1
NORMAL: Final = 0
BULK: Final = -1
CLASSES: Final = (HIGH, NORMAL, BULK)
"""All of them, the most urgent first."""
WORDS: Final[Mapping[str, int]] = {"high": HIGH, "normal": NORMAL, "bulk": BULK}
"""What an operator or the sender of a request calls them."""
FIELD: Final = "mt-priority"

# RFC 6710 section 6: priority-value; RFC 6758 section 2 allows comments around it.
_is_value = re.compile(r"\s*(?:\([^()]*\)\s*)*([+-]?[0-9])\s*(?:\([^()]*\)\s*)*").fullmatch


def word_of(priority: int) -> str:
    """What a class is called."""
    return next(word for word, value in WORDS.items() if value == class_of(priority))


def class_of(value: int) -> int:
    """The class of a priority of RFC 6710, -9 to 9."""
    return HIGH if value > 0 else BULK if value < 0 else NORMAL


def read_priority(headers: Headers) -> int | None:
    """The class that a message's header fields ask for; None where they say nothing, or nothing that can be read."""
    value = header(headers, FIELD)
    found = None if value is None else _is_value(value)
    return None if found is None else class_of(int(found[1]))

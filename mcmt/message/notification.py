"""What a sender asks for beyond delivery: which reports, under which names, from when on, and until when.

Values only. They come with a message's envelope and travel with each delivery. Rows must stay readable by later
versions: fields are only added, at the end, with defaults.
"""

from __future__ import annotations

import msgspec

from mcmt.message.xtext import encode_xtext

NEVER = 1
SUCCESS = 2
FAILURE = 4
DELAY = 8
"""What NOTIFY may ask for (RFC 3461 4.1), to be added up; 0: nothing was said, which is FAILURE alone."""

FAILED = "failed"
RELAYED = "relayed"
DELAYED = "delayed"
"""What a report says of a recipient (RFC 3464 2.3.3)."""


class Asked(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """What is asked of one recipient's deliveries."""

    notify: int = 0
    original: str = ""
    """ORCPT: type, ``;`` and address, printable ASCII, decoded (RFC 3461 4.2)."""
    begin: float = 0.0
    """When their life begins, seconds since the epoch; 0: with the reception."""
    deadline: float = 0.0
    """Seconds since the epoch, after which they are worth nothing to the sender; 0: it did not say."""

    def wants(self, action: str) -> bool:
        """Whether a report of *action* is to be sent."""
        return bool(_WANTED[action] & (self.notify or FAILURE))


def rcpt_parameters(asked: Asked) -> str:
    """What RCPT says of *asked* to a server that offers DSN, each with a space before it (RFC 3461 4.1, 4.2, 5.2.1)."""
    words = [word for word, flag in _NOTIFY if asked.notify & flag]
    kind, _, address = asked.original.partition(";")
    return f" NOTIFY={','.join(words)}" * bool(words) + f" ORCPT={kind};{encode_xtext(address)}" * bool(address)


_NOTIFY = (("NEVER", NEVER), ("SUCCESS", SUCCESS), ("FAILURE", FAILURE), ("DELAY", DELAY))
_WANTED = {FAILED: FAILURE, RELAYED: SUCCESS, DELAYED: DELAY}


def wants(asked: Asked | None, action: str) -> bool:
    """``Asked.wants``; of None as where nothing is said."""
    return action == FAILED if asked is None else asked.wants(action)

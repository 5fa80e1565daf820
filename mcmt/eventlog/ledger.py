"""What a line of the main log tells, read back from either format (mainlog.py, jsonline.py).

Rules: pure; what is no line of the main log is None. Only what commands ask for is looked at.

Measured on one core: 1 us a text line of a delivery.
"""

from __future__ import annotations

import msgspec

OUTCOMES = {
    "received": "R",
    "delivered": "D",
    "transient": "T",
    "permanent": "P",
    "rejected": "J",
    "route": "N",
    "quarantined": "Q",
}
"""What each type of line is called on the command line."""
WORDS = {letter: word for word, letter in OUTCOMES.items()}

# By type: the columns of the domain, of what is the reason, and of the seconds since the reception.
_COLUMNS: dict[bytes, tuple[int, tuple[int, ...], int | None, int]] = {
    b"R": (6, (), None, 15),
    b"D": (5, (), 10, 12),
    b"T": (5, (13,), 11, 14),
    b"P": (5, (13,), 11, 14),
    b"J": (10, (7, 8), None, 13),
    b"N": (5, (6, 7), None, 8),
    b"Q": (5, (7,), None, 8),
}


class Entry(msgspec.Struct, frozen=True, gc=False):
    """One line."""

    time: float
    """Seconds since the epoch."""
    type: str
    """The letter."""
    id: str = ""
    batch_id: str = ""
    domain: str = ""
    """Lower case; of a rejection: the recipient's."""
    reason: str = ""
    """Code and text; of a route: its news and why."""
    queued: float | None = None
    """Seconds since the reception, where it is an attempt's."""
    token: str = ""
    """As the log has it; only in JSON."""


class _Json(msgspec.Struct, frozen=True):
    type: str
    time: float
    id: str = ""
    batch_id: str = ""
    domain: str = ""
    recipient: str = ""
    code: str = ""
    phase: str = ""
    text: str = ""
    queued: float | None = None
    token: str = ""


_decode = msgspec.json.Decoder(_Json).decode


def parse(line: bytes) -> Entry | None:
    """The entry that *line* is; None for a heartbeat, and for what is none of the main log's."""
    return _from_json(line) if line[:1] == b"{" else _from_text(line)


def _from_text(line: bytes) -> Entry | None:
    columns = line.split(b"@")
    known = _COLUMNS.get(columns[4]) if len(columns) > 4 else None
    if known is None or len(columns) != known[3]:
        return None
    domain, reason, queued, _ = known
    try:
        return Entry(
            float(columns[0]),
            columns[4].decode(),
            columns[1].decode(),
            columns[2].decode(),
            columns[domain].decode().lower(),
            " ".join([columns[number].decode() for number in reason]),
            None if queued is None else float(columns[queued]),
        )
    except ValueError:
        return None


def _from_json(line: bytes) -> Entry | None:
    try:
        found = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return None
    if found.type not in WORDS:
        return None
    reason = (found.phase, found.text) if found.type == "N" else (found.code, found.text)
    domain = found.recipient.rpartition("@")[2] if found.type == "J" else found.domain
    return Entry(
        found.time,
        found.type,
        found.id,
        found.batch_id,
        domain.lower(),
        " ".join(filter(None, reason)),
        found.queued,
        found.token,
    )

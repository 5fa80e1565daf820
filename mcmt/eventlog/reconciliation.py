"""The ledger's sums: accepted = delivered + failed + queued + quarantined, and the ids for which that is not so.

It is told lines of the main log (``take``, text and JSON) and what the spool holds (``queue``), in any order, and says
what became of each delivery (``account``).

Of every message it keeps one integer with a byte for each delivery, where every bit is one thing known of it. The trick
is that nothing is made per delivery: for the usual message of one delivery the integer is one of the small ones that
Python keeps, and the sums go over the distinct integers.

Rules: pure; no I/O.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from typing import Literal

import msgspec

ACCEPTED, DELIVERED, FAILED, QUARANTINED, DUE, WAITING, HELD = (1 << bit for bit in range(7))
_FINAL = DELIVERED | FAILED
_QUEUED = DUE | WAITING | HELD
_BITS: Mapping[bytes, int] = {b"R": ACCEPTED, b"D": DELIVERED, b"P": FAILED}
_UNCOUNTED = (b"T", b"J", b"N", b"M")
_NAMES = (
    (DELIVERED, "delivered"),
    (FAILED, "failed"),
    (DUE, "due"),
    (WAITING, "waiting"),
    (HELD, "held"),
    (QUARANTINED, "quarantined"),
)
"""What a delivery counts as that was accepted: the first that is known of it."""
_NAMES_EARLIER = ((DELIVERED, "delivered"), (FAILED, "failed"), (_QUEUED, "queued"), (QUARANTINED, "quarantined"))
_LARGEST = 1_000_000
"""A number of a delivery, or of deliveries, beyond this was never ours."""

What = Literal[
    "missing",
    "not ended",
    "delivered twice",
    "failed twice",
    "delivered and failed",
    "accepted twice",
    "ended and still queued",
    "no reception",
    "quarantined",
]
WRONG: frozenset[What] = frozenset(
    {
        "missing",
        "delivered twice",
        "failed twice",
        "delivered and failed",
        "accepted twice",
        "ended and still queued",
        "no reception",
    }
)
"""What disproves the ledger."""
_TWICE: dict[int, What] = {
    ACCEPTED: "accepted twice",
    DELIVERED: "delivered twice",
    FAILED: "failed twice",
}


class Finding(msgspec.Struct, frozen=True):
    """One delivery, and what is to be said of it."""

    id: str
    what: What


class Earlier(msgspec.Struct, kw_only=True):
    """Deliveries whose reception stands in a file that is no more, by what became of them."""

    delivered: int = 0
    failed: int = 0
    queued: int = 0
    quarantined: int = 0


class Account(msgspec.Struct, kw_only=True):
    """What became of every delivery whose reception the log has."""

    accepted: int = 0
    delivered: int = 0
    failed: int = 0
    due: int = 0
    waiting: int = 0
    held: int = 0
    """By hand."""
    quarantined: int = 0
    unknown: int = 0
    """None of these: missing, or where nobody knows the queue, perhaps in it."""
    earlier: Earlier = msgspec.field(default_factory=Earlier)
    unnamed: int = 0
    """Rows in quarantine, or still in the spool, whose delivery cannot be known: unknown ones may be among them."""
    lost_rows: int = 0
    """Rows of the outbox in quarantine: their lines are not in the log."""
    undeliverable: int = 0
    """Reports that could not be made into messages."""
    unreadable: int = 0
    """Lines that are none of the main log."""
    findings: list[Finding] = []

    @property
    def wrong(self) -> bool:
        """The ledger is disproved."""
        return any(finding.what in WRONG for finding in self.findings)


class _Line(msgspec.Struct):
    """What counts of a line with format: json."""

    type: str
    id: str = ""
    batch_id: str = ""
    deliveries: int = 0
    text: str = ""
    protocol: str = ""


_decode = msgspec.json.Decoder(_Line).decode


class Reconciliation:
    """Gathers what is known of every delivery."""

    def __init__(self) -> None:
        self._state: dict[bytes, int] = {}
        self._twice: list[Finding] = []
        self._set_aside: set[bytes] = set()
        """Messages in quarantine: their deliveries follow them as they become due."""
        self._unnumbered: Counter[bytes] = Counter()
        """Of a message, deliveries in quarantine or in the spool that have lost their number."""
        self._account = Account()

    def take(self, lines: Iterable[bytes], *, known: bool = False) -> None:
        """Lines of the main log. *known*: only those of messages that something is known of already."""
        state = self._state
        get = state.get
        bits = _BITS
        for line in lines:
            if line[:1] == b"{":
                self._take_json(line, known)
                continue
            try:
                _, delivery, batch, connection, kind, rest = line.split(b"@", 5)
            except ValueError:
                self._account.unreadable += not line.endswith(b"@@@@M")
                continue
            bit = bits.get(kind)
            if bit is None:
                if kind == b"Q":
                    self._note("Q", delivery, batch, known, text=rest.rpartition(b"@")[2])
                else:
                    self._account.unreadable += kind not in _UNCOUNTED
                continue
            if connection and bit == FAILED:
                self._account.undeliverable += 1
                continue
            single = delivery[len(batch) :] == b"-1"
            if bit == ACCEPTED:
                count = rest[rest.rfind(b"@") + 1 :]
                if count != b"1" or not single:
                    self._note("R", delivery, batch, known, count)
                    continue
            elif not single:
                self._note(kind.decode(), delivery, batch, known)
                continue
            old = get(batch)
            if old is None:
                if not known:
                    state[batch] = bit
            elif old & bit:
                self._twice.append(Finding(_text(delivery), _TWICE[bit]))
            else:
                state[batch] = old | bit

    def queue(self, due: Iterable[str], waiting: Iterable[str], held: Iterable[str] = ()) -> None:
        """Ids of deliveries that are in the spool."""
        state = self._state
        for bit, ids in ((DUE, due), (WAITING, waiting), (HELD, held)):
            for delivery in ids:
                batch_id, _, number = delivery.rpartition("-")
                batch = batch_id.encode()
                if not batch:
                    self._account.unnamed += 1
                elif number == "0":
                    self._unnumbered[batch] += 1
                else:
                    state[batch] = state.get(batch, 0) | bit << _shift(number)

    def ended_and_queued(self) -> set[str]:
        """Ids of deliveries that ended and are in the spool: they ended after it was listed, or something is wrong."""
        return {
            f"{_text(batch)}-{number}"
            for batch, groups in self._where(_ended_and_queued)
            for number, group in enumerate(groups, 1)
            if _ended_and_queued(group)
        }

    def account(self, began: float, still_queued: Collection[str] = (), *, queue_known: bool = True) -> Account:
        """The sums, for a log whose first file began at *began* (seconds since the epoch). To be called once.

        *still_queued*: of ``ended_and_queued``, those that were in the spool later on, too.
        """
        account = self._account
        account.findings = self._twice
        for state, times in Counter(self._state.values()).items():
            groups = Counter(_groups(state))
            if not any(map(_wants_a_look, groups)):
                for group, each in groups.items():
                    _count(account, group, times * each)
        for batch, groups_of in self._where(_wants_a_look):
            self._look_into(batch, groups_of, began, still_queued, queue_known)
        return account

    def _where(self, wanted: Callable[[int], bool]) -> Iterator[tuple[bytes, bytes]]:
        """The messages of which a delivery's group is *wanted*, with the groups of all its deliveries."""
        states = {state for state in set(self._state.values()) if any(map(wanted, _groups(state)))}
        for batch, state in self._state.items() if states else ():
            if state in states:
                yield batch, _groups(state)

    # ---- lines out of the ordinary

    def _take_json(self, line: bytes, known: bool) -> None:
        try:
            found = _decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError):
            self._account.unreadable += 1
            return
        if found.type == "P" and found.protocol == "internal":
            self._account.undeliverable += 1
        elif found.type in ("R", "D", "P", "Q"):
            delivery, batch = found.id.encode(), found.batch_id.encode()
            count = b"%d" % found.deliveries if found.type == "R" else b"1"
            self._note(found.type, delivery, batch, known, count, found.text.encode())

    def _note(
        self, kind: str, delivery: bytes, batch: bytes, known: bool, count: bytes = b"1", text: bytes = b""
    ) -> None:
        old = self._state.get(batch)
        if old is None and known:
            return
        if kind == "Q" and not delivery:
            self._note_unnamed(batch, text)
            return
        try:
            first, number = _shift(delivery[len(batch) + 1 :]), _number(count)
        except ValueError:
            self._account.unreadable += 1
            return
        bit = QUARANTINED if kind == "Q" else _BITS[kind.encode()]
        # The bit for each: a byte 01 so many times is ff.. / ff.
        mark = (((1 << 8 * number) - 1) // 0xFF * bit) << first
        old = old or 0
        if old & mark and kind != "Q":
            again = enumerate(_groups(old & mark), 1)
            self._twice += [Finding(f"{_text(batch)}-{at}", _TWICE[bit]) for at, found in again if found]
        self._state[batch] = old | mark

    def _note_unnamed(self, batch: bytes, text: bytes) -> None:
        """A row went to quarantine that is no delivery's, or nobody knows whose."""
        match text.partition(b" ")[0]:
            case b"outbox":
                self._account.lost_rows += 1
            case b"message" if batch:
                self._set_aside.add(batch)
            case b"delivery" if batch:
                self._unnumbered[batch] += 1
            case b"message" | b"delivery":
                self._account.unnamed += 1

    # ---- sums

    def _look_into(
        self, batch: bytes, groups: bytes, began: float, still_queued: Collection[str], queue_known: bool
    ) -> None:
        account = self._account
        unknown = groups.count(ACCEPTED)
        set_aside = batch in self._set_aside or 0 < unknown <= self._unnumbered[batch]
        for number, group in enumerate(groups, 1):
            if not group:
                continue
            id_ = f"{_text(batch)}-{number}"
            if group == ACCEPTED and set_aside:
                group |= QUARANTINED
            what: What | None = None
            if not group & ACCEPTED:
                if not _count_earlier(account.earlier, batch, group, began):
                    what = "no reception"
            else:
                _count(account, group)
                if group & _FINAL == _FINAL:
                    what = "delivered and failed"
                elif _ended_and_queued(group):
                    what = "ended and still queued" if id_ in still_queued else None
                elif group == ACCEPTED:
                    what = "missing" if queue_known else "not ended"
                elif group == ACCEPTED | QUARANTINED:
                    what = "quarantined"
            if what is not None:
                account.findings.append(Finding(id_, what))


def _ended_and_queued(group: int) -> bool:
    return bool(group & _FINAL and group & _QUEUED)


def _wants_a_look(group: int) -> bool:
    """Whether there may be something to say of a delivery of which this is known."""
    if not group:
        return False
    ended = group & _FINAL
    return not group & ACCEPTED or ended == _FINAL or bool(group & _QUEUED) == bool(ended)


def _count(account: Account, group: int, times: int = 1) -> None:
    account.accepted += times
    name = next((name for bits, name in _NAMES if group & bits), "unknown")
    setattr(account, name, getattr(account, name) + times)


def _count_earlier(earlier: Earlier, batch: bytes, group: int, began: float) -> bool:
    """Whether a delivery without a reception is older than the log; then it is counted."""
    try:
        # Ids begin with the milliseconds of the reception (mcmt/message/identity.py).
        received = int(batch[:12], 16) / 1000
    except ValueError:
        return False
    if received < began:
        name = next(name for bits, name in _NAMES_EARLIER if group & bits)
        setattr(earlier, name, getattr(earlier, name) + 1)
    return received < began


def _groups(state: int) -> bytes:
    """A byte for each delivery of a message."""
    return state.to_bytes((state.bit_length() + 7) // 8, "little")


def _shift(number: bytes | str) -> int:
    """Where the byte of the delivery of that number stands. Raises ValueError."""
    return 8 * (_number(number) - 1)


def _number(text: bytes | str) -> int:
    number = int(text)
    if not 0 < number <= _LARGEST:
        raise ValueError("not a number of deliveries")
    return number


def _text(id_: bytes) -> str:
    return id_.decode("utf-8", "backslashreplace")

"""The contract of whatever keeps messages: narrow enough for a replicated log to stand behind it.

Accept atomically over recipients, pull due deliveries by domain, settle in batches, deliver again at a
time, count; and the outbox, whose rows are part of the transaction that makes them true. Nothing here
needs a scan, and no operation touches rows in proportion to the backlog.

A delivery that was pulled is out: no pull returns it again until it is settled, released, or the spool is
opened anew. What is out is known in memory only, so after a crash everything unsettled is due again.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Literal, Protocol

import msgspec

from mcmt.message.event import Event, OutboxRow
from mcmt.message.failure import Failure
from mcmt.message.model import Delivery, Message, NewDelivery, Sender
from mcmt.message.priority import BULK


class Pulled(msgspec.Struct, frozen=True):
    """The answer to a pull."""

    deliveries: tuple[Delivery, ...]
    next_due: float | None
    """When fewer than asked for were due: when the domain's next one is, seconds since the epoch, if there is one."""


class Settlement(msgspec.Struct, frozen=True, gc=False):
    """What an attempt did to a delivery: finished, or due again."""

    row: int
    retry_at: float | None = None
    """Seconds since the epoch; None: finished, the delivery goes."""
    attempts: int = 0
    """Attempts made by now, where it is due again."""
    last: str = ""
    """Code and text of the last answer, for ``mcmt queue show``."""
    failure: Failure | None = None
    """Where it has ended and somebody is owed a report of that."""
    watched: bool = False
    """Where it has ended and had NewDelivery.warn: it cannot be late any more."""


class OwedReport(msgspec.Struct, frozen=True):
    """The failures of one message that one return path is owed a report of, at this moment."""

    key: int
    return_path: str
    sender: Sender
    """Of the message that the failures are of."""
    header_block: bytes
    """That message's own header fields."""
    failures: tuple[Failure, ...]
    """The first of them, what failed before what did not, MAX_LISTED at most."""
    count: int
    """All of them."""
    through: int
    """The spool's mark behind the last of them: what fails from now on is told by another report."""
    others: int = 0
    """How many of them did not fail, but are told of as well (Failure.action)."""
    release: str = ""
    deliver_by: float = 0.0
    """As of the message's Envelope."""


class Backlog(msgspec.Struct, frozen=True):
    """How much a domain has in the spool."""

    domain: str
    deliveries: int
    """All of them, those that are out included."""
    oldest: float | None
    """When the oldest of them was received, seconds since the epoch."""
    next_due: float | None
    """The earliest due time; 0 for a delivery never tried. None: all are held."""
    held: int = 0
    """How many of them are held."""
    high: int = 0
    """How many of them are of high priority (mcmt/message/priority.py)."""
    bulk: int = 0
    """How many of them may wait for all others."""


class Selection(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Which deliveries are meant: those for which everything that is given here holds; nothing given: all."""

    ids: tuple[str, ...] = ()
    """Ids of deliveries, and batch ids, which stand for every delivery of the message."""
    domain: str | None = None
    recipient: str = ""
    """A forward-path, in whatever case."""
    token: str = ""
    """The address on the channel, in whatever case."""
    received_before: float | None = None
    """Seconds since the epoch."""
    last_error: str = ""
    """Stands in the last answer, in whatever case."""
    held: bool | None = None
    """None: held or not."""


class DomainTally(msgspec.Struct, frozen=True, gc=False):
    """What one page of a selection has of one domain."""

    domain: str
    deliveries: int
    messages: int
    held: int
    first: int
    """The key of its first message: where it is the last one of the page before, that one is counted twice."""
    last: int


class TallyPage(msgspec.Struct, frozen=True):
    """A part of a selection, counted."""

    domains: tuple[DomainTally, ...]
    after: int | None
    """The row to go on from; None: that was all."""
    through: int
    """The last row that the spool had when it was asked for the first page."""


class Chosen(msgspec.Struct, frozen=True):
    """A part of a selection, by row."""

    domains: dict[int, str]
    """The domain of each row, as it was then."""
    after: int | None
    """The row to go on from; None: that was all."""


class Taken(msgspec.Struct, frozen=True):
    """Deliveries that are out now, for whoever asked."""

    deliveries: tuple[Delivery, ...]
    """Without the contents of their parts."""
    busy: int
    """How many more of those asked for were out already."""


class Change(msgspec.Struct, frozen=True):
    """What is done to deliveries that stay in the spool."""

    verb: Literal["hold", "release", "retry", "reroute"]
    now: float = 0.0
    """``retry``: the time that they are due from now on, seconds since the epoch."""
    domain: str = ""
    """``reroute``: theirs from now on."""


class Entry(msgspec.Struct, frozen=True):
    """One delivery as ``mcmt queue show`` tells it."""

    id: str
    domain: str
    recipient: str
    token: str
    sender: str
    received: float
    due: float
    """0: now."""
    expires: float
    attempts: int
    last: str
    size: int
    """Bytes of the part's content."""
    active: bool
    """It is out: offered to a connection or on the wire."""
    held: bool = False
    """It is not sent until it is released."""
    priority: str = "normal"
    """Its class, by its word (mcmt/message/priority.py)."""


class IdPage(msgspec.Struct, frozen=True):
    """Ids of some deliveries, for an account of all of them.

    ``-<number>`` has lost its message, ``<batch id>-0`` its number: rows that cannot be read, until a pull meets them.
    """

    last: int
    """The row to go on from."""
    due: Sequence[str]
    """Never tried, due, or out."""
    waiting: Sequence[str]
    """Due later."""
    held: Sequence[str] = ()
    """Due when they are released."""


class GoneToken(msgspec.Struct, frozen=True, gc=False):
    """A device token that its gateway calls gone. Times are seconds since the epoch."""

    domain: str
    """The routing domain, lower case."""
    token: str
    """Lower case."""
    since: float
    """Since when, as the gateway said; where it did not say, when it answered."""
    state: Literal["gone", "invalid"] = "gone"
    """``invalid``: the gateway says that it is no token of this app, and not that it was one."""
    learned: float = 0.0
    """When it was written down here."""
    reason: str = ""
    """Code and text of the answer."""
    source: str = ""
    """``push``, ``feedback``, ``import``."""
    delivery: str = ""
    """Id of the delivery that was answered so."""
    number: int = 0
    """Grows whenever a token is learned, or learned anew with a later ``since``."""


class GoneTokens(Protocol):
    """The device tokens that gateways call gone, of all domains: one table for the machine.

    Blocking; from any thread of any process of the engine; all may raise SpoolError. What one process saved is seen by
    all."""

    def since(self, domain: str, tokens: Sequence[str]) -> Mapping[str, float]:
        """Those of *tokens*, in lower case, that are gone or invalid, and since when."""

    def page(self, domain: str | None, after: int, limit: int) -> Sequence[GoneToken]:
        """Up to *limit* with numbers past *after*, of *domain* or of all, by number."""

    def unread(self, domain: str, after: int, limit: int) -> Sequence[GoneToken]:
        """Up to *limit* that are gone (not those that are invalid) with numbers past *after*, and past what the
        senders of *domain* have been told, by number."""

    def told(self, domain: str, through: int) -> None:
        """The senders of *domain* have been told of all with numbers up to *through*; on disk when this returns."""


class TokenTable(GoneTokens, Protocol):
    """The same for the one process that writes it."""

    def learn(self, tokens: Iterable[GoneToken]) -> int:
        """Write these down too; how many were news. On disk when this returns."""

    def forget(self, domain: str, tokens: Sequence[str]) -> int:
        """Let go of *tokens*; how many were there. On disk when this returns."""

    def forget_page(self, domain: str, learned_before: float, limit: int) -> int:
        """Let go of up to *limit* tokens of *domain* that were learned before a time; how many it were."""


class Arrived(Protocol):
    """What a commit brought into one domain. What is due at once may be taken as it is while the listener is called.

    Whoever has a pull of the domain under way gets by it what came before: to keep the order, take nothing then."""

    @property
    def rest(self) -> int:
        """How many of them nobody has taken: these are due in the spool, for pulls."""

    @property
    def highest(self) -> int | None:
        """The highest priority among those that nobody has taken."""

    @property
    def superseded(self) -> Mapping[int, str]:
        """Rows of earlier deliveries that these have replaced, and the batch ids of the messages that did. They are
        marked as such: whoever pulls one sees it, and is to end it."""

    next_due: float | None
    """When the first of those that came with them for a later time is due, seconds since the epoch."""

    def take(self, limit: int, max_bytes: int, lowest: int = BULK) -> Sequence[Delivery]:
        """Up to *limit* of them, of priority *lowest* and above, the most urgent first, then by arrival, with bodies of
        at most *max_bytes* together (but at least one): out from then on, as if they had been pulled. None of a
        priority of which others that were never tried wait before them."""


class Keeper(Protocol):
    """What a door needs. Every coroutine returns after the transaction is on disk, and raises SpoolError when nothing
    was done."""

    async def accept(
        self,
        message: Message,
        deliveries: Sequence[NewDelivery],
        events: Sequence[Event],
        failures: Sequence[Failure] = (),
    ) -> None:
        """Keep a message with all its deliveries; then tell the listener of their domains. *failures* are
        those of recipients for whom there is nothing to deliver.

        Raises SpoolFull when the disk has less than ``min_free`` left."""

    async def record(self, events: Sequence[Event]) -> None:
        """Keep events that change nothing else."""


class Spool(Keeper, Protocol):
    """Every coroutine returns after the transaction is on disk, and raises SpoolError when nothing was done."""

    async def pull(self, domain: str, now: float, limit: int, max_bytes: int, lowest: int = BULK) -> Pulled:
        """Up to *limit* due deliveries of a domain, the most urgent first, then oldest first, with bodies of at most
        *max_bytes* together (but at least one). Those never tried come by arrival, those tried before by due time. Of
        what is less urgent a small share comes all the same. A row that cannot be read goes to quarantine with an
        event, and the rest are returned. *lowest*: what is of a lower priority is left, and no next due time told."""

    async def settle(self, settlements: Sequence[Settlement], events: Sequence[Event]) -> None:
        """Finish or reschedule deliveries that are out, and keep the events and failures, in one transaction."""

    async def pull_reports(self, now: float, limit: int) -> Sequence[OwedReport]:
        """Up to *limit* reports that are due: those whose message has nothing pending, then those whose first failure
        was GATHER_SECONDS ago. For one caller: until they are made they are returned again."""

    async def report(
        self,
        owed: OwedReport,
        bounce: Message | None,
        deliveries: Sequence[NewDelivery],
        events: Sequence[Event],
    ) -> None:
        """Accept the message that makes a report, and let go of the failures that it tells, in one transaction.
        Without a message they go all the same: the events say why. A second time it is a SpoolError.

        Raises SpoolFull as ``accept`` does, where there is a message."""

    async def pull_late(self, now: float, limit: int) -> Mapping[int, Delivery | None]:
        """Up to *limit* rows of deliveries whose senders want to hear that they are late (NewDelivery.warn), and are by
        *now*; without the contents of their parts. None: it has ended, or cannot be read. For one caller: until they
        are warned of they are returned again."""

    async def warn(self, late: Mapping[int, Failure | None]) -> None:
        """Their senders are owed these (None: nothing), of those that are still there, in one transaction with the end
        of their being late: a delivery is warned of once."""

    def release(self, rows: Collection[int]) -> None:
        """These are not out any more, and as due as they were: no attempt was made."""

    async def pull_expired(self, now: float, limit: int) -> tuple[Delivery, ...]:
        """Up to *limit* deliveries of any domain whose life has ended and that are not out; then they are."""

    async def domains(self) -> Sequence[str]:
        """The domains that have deliveries. Cheap: in proportion to the domains."""

    async def backlog(self, domain: str | None = None) -> Sequence[Backlog]:
        """How much there is, by domain or of one."""

    async def browse(self, selection: Selection, after: int, limit: int) -> Sequence[tuple[int, Entry]]:
        """Up to *limit* entries by row, beginning past row *after*: for listings in pages. Fewer: there are no more."""

    async def tally(self, selection: Selection, after: int, through: int) -> TallyPage:
        """Count part of what is selected, past row *after* and up to row *through* (0: up to the last that there is
        now)."""

    async def choose(self, selection: Selection, after: int, through: int, limit: int) -> Chosen:
        """Up to *limit* rows of what is selected, past row *after* and up to row *through*."""

    async def answers(self, domain: str) -> Mapping[str, int]:
        """How many of a domain's deliveries had which last answer; empty: not tried yet."""

    async def take(self, chosen: Mapping[int, str]) -> Taken:
        """Those of these rows that are in the spool, of the same domain still, and not out; then they are."""

    async def change(self, rows: Collection[int], change: Change, events: Sequence[Event]) -> None:
        """Change deliveries that are out, and keep the events, in one transaction; then they are not out any more.
        Those for which there is nothing to change stay as they were."""

    async def owed(self) -> int:
        """How many reports are owed to senders."""

    async def ids(self, after: int, limit: int, now: float) -> IdPage | None:
        """Ids of up to *limit* deliveries past row *after*, whichever can be read; None: there are no more."""

    async def find(self, id: str) -> Sequence[Entry]:  # noqa: A002 - the word of the log lines
        """The delivery of that id, or all deliveries of that batch id."""

    async def read_outbox(self, after: int, limit: int) -> Sequence[OutboxRow]:
        """Up to *limit* rows with a sequence past *after*, in order."""

    async def acknowledge(self, through: int) -> None:
        """The lines of all rows up to *through* are on disk: let the rows go, some time. Returns at once, and a crash
        may bring the rows back."""

    async def quarantined(self) -> int:
        """How many rows are in quarantine."""

    def on_due(self, listener: Callable[[Mapping[str, Arrived]], None]) -> None:
        """Call *listener* on the event loop with what a commit brought, by domain."""

    def on_events(self, listener: Callable[[], None]) -> None:
        """Call *listener* on the event loop when a commit brought rows into the outbox."""

    async def close(self) -> None:
        """Finish what was begun and let go of the lock."""

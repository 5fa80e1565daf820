"""What supervisor and workers say to each other over the bus (bus.py).

Rules: values only. Both are always of one version: a worker is started by its supervisor, from the same files.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from mcmt.config.made_settings import MadeDomain
from mcmt.control.protocol import Resume, Retry, Suspend
from mcmt.engine.hands import Work
from mcmt.intake.xmpp.attachment import Attachment
from mcmt.message.event import Event, OutboxRow
from mcmt.message.failure import Failure
from mcmt.message.model import Message, NewDelivery
from mcmt.spool.port import Entry, IdPage, Selection
from mcmt.spool.standing import Known, Once, Standing
from mcmt.wire.trace import Watch
from mcmt.workers.life_words import Order
from mcmt.workers.rule_words import FromSupervisor, FromWorker

# -- the supervisor calls ---------------------------------------------------------------------------------------------


class ReadOutbox(msgspec.Struct, frozen=True, tag="outbox"):
    """See mcmt.eventlog.outbox. Answered by Rows."""

    shard: int
    after: int
    limit: int


class Acknowledge(msgspec.Struct, frozen=True, tag="acknowledge"):
    """See mcmt.eventlog.outbox. Answered by Nothing."""

    shard: int
    through: int


class Look(msgspec.Struct, frozen=True, tag="look"):
    """See mcmt.control.station. Answered by Seen."""

    shard: int


class Act(msgspec.Struct, frozen=True, tag="act"):
    """See mcmt.control.station. Answered by DomainStatus."""

    shard: int
    do: Literal["suspend", "resume", "retry"]
    domain: str
    reason: str
    trust: bool
    tell: bool
    duration: float = 0.0

    @classmethod
    def of(cls, shard: int, action: Suspend | Resume | Retry, *, tell: bool) -> Act:
        """Of an action of the control socket, which has tags of its own."""
        match action:
            case Suspend(domain, reason, duration):
                return cls(shard, "suspend", domain, reason, False, tell, duration)
            case Resume(domain, trust):
                return cls(shard, "resume", domain, "", trust, tell)
            case Retry(domain):
                return cls(shard, "retry", domain, "", False, tell)

    def action(self) -> Suspend | Resume | Retry:
        """The action of the control socket."""
        match self.do:
            case "suspend":
                return Suspend(self.domain, self.reason, self.duration)
            case "resume":
                return Resume(self.domain, self.trust)
            case "retry":
                return Retry(self.domain)


class ReadPage(msgspec.Struct, frozen=True, tag="page"):
    """See mcmt.control.station. Answered by Entries."""

    shard: int
    selection: Selection
    after: int
    limit: int


class ListIds(msgspec.Struct, frozen=True, tag="ids"):
    """See mcmt.control.station. Answered by Ids."""

    shard: int
    after: int
    limit: int


class CountSelected(msgspec.Struct, frozen=True, tag="tally"):
    """See mcmt.control.station, ``tally``. Answered by TallyPage."""

    shard: int
    selection: Selection
    after: int
    through: int


class CountAnswers(msgspec.Struct, frozen=True, tag="answers"):
    """See mcmt.control.station, ``answers``. Answered by Counted."""

    shard: int
    domain: str


class DoWork(msgspec.Struct, frozen=True, tag="work"):
    """See mcmt.control.station. Answered by Worked."""

    shard: int
    work: Work
    selection: Selection
    after: int
    through: int


class Find(msgspec.Struct, frozen=True, tag="find"):
    """See mcmt.control.station. Answered by Entries."""

    shard: int
    id: str


class Note(msgspec.Struct, frozen=True, tag="note"):
    """See mcmt.control.station. Answered by Nothing."""

    shard: int
    domain: str
    text: str


class FetchTrace(msgspec.Struct, frozen=True, tag="fetch trace"):
    """See mcmt.control.station. Answered by Told."""

    shard: int
    watch: Watch


class Accept(msgspec.Struct, frozen=True, tag="accept"):
    """Keep a message that another worker has received. Answered by Nothing when it is on disk."""

    message: Message
    deliveries: tuple[NewDelivery, ...]
    events: tuple[Event, ...]
    failures: tuple[Failure, ...]


class AcceptOnce(msgspec.Struct, frozen=True, tag="accept once"):
    """Keep a message unless its key is known: the worker that is asked is the one for this key. Answered by Known."""

    once: Once
    accept: Accept


class FindStanding(msgspec.Struct, frozen=True, tag="standing"):
    """See mcmt.spool.standing.Tracker. Answered by MaybeStanding, of all shards of the worker."""

    batch_id: str
    after: int
    limit: int


# -- the worker calls -------------------------------------------------------------------------------------------------


class FindKey(msgspec.Struct, frozen=True, tag="key"):
    """The message that was accepted under *key*. Answered by MaybeKnown, of all shards of the worker."""

    key: str


class HandOver(msgspec.Struct, frozen=True, tag="hand over"):
    """Have *owner* keep a message. Answered as what it is given is; refused with OutboxAway when *owner* was not even
    asked."""

    owner: int
    accept: msgspec.Raw
    """An Accept or AcceptOnce, encoded: the supervisor passes it on unread, and the answer back."""


class AskAll(msgspec.Struct, frozen=True, tag="ask all"):
    """Have every worker asked. Answered as one does who knows it; refused with OutboxAway when none does, and not all
    could be asked."""

    question: FindStanding | FindKey


class Retired(msgspec.Struct, frozen=True, tag="retired"):
    """An adopted shard is empty and closed. Answered by Nothing when its file may be removed."""

    shard: int


class MakeDomain(msgspec.Struct, frozen=True, tag="make domain"):
    """Have a domain be there for an app, with the PEM of certificate and key. Answered by Verdict."""

    made: MadeDomain
    pem: bytes


class Move(msgspec.Struct, frozen=True, tag="move"):
    """A session that counts for *address* is to count for *to* (mcmt/intake/door.py). Answered by Verdict."""

    address: str
    to: str


# -- answers ----------------------------------------------------------------------------------------------------------


class Nothing(msgspec.Struct, frozen=True):
    """It was done."""


class Verdict(msgspec.Struct, frozen=True):
    """Why it is refused, as the client is told; None: it is done."""

    refusal: tuple[int, str, str] | None


class Rows(msgspec.Struct, frozen=True):
    """Rows of an outbox."""

    rows: tuple[OutboxRow, ...]


class Entries(msgspec.Struct, frozen=True):
    """Entries with their rows; of ``Find`` the rows are 0."""

    entries: tuple[tuple[int, Entry], ...]


class Counted(msgspec.Struct, frozen=True):
    """How many of each."""

    counts: dict[str, int]


class Ids(msgspec.Struct, frozen=True):
    """A page of ids; None: there are no more."""

    page: IdPage | None


class MaybeKnown(msgspec.Struct, frozen=True):
    """What is kept of a message, if it is known."""

    found: Known | None


class MaybeStanding(msgspec.Struct, frozen=True):
    """Where a message stands, if it is known."""

    found: Standing | None


# -- notices ----------------------------------------------------------------------------------------------------------


class Granted(msgspec.Struct, frozen=True, tag="granted"):
    """To a worker: one connection of the stanza more may be opened by the engine of that shard."""

    shard: int
    stanza: str


class Recalled(msgspec.Struct, frozen=True, tag="recalled"):
    """To a worker: one of the stanza's connections is wanted back from the engine of that shard."""

    shard: int
    stanza: str
    busy: bool


class Wanted(msgspec.Struct, frozen=True, tag="wanted"):
    """To the supervisor: the engine of that shard wants a connection of the stanza."""

    shard: int
    stanza: str


class GivenBack(msgspec.Struct, frozen=True, tag="given back"):
    """To the supervisor: a connection of the stanza is not needed any more."""

    shard: int
    stanza: str


class Permitted(msgspec.Struct, frozen=True, tag="permitted"):
    """To a worker: so many permits of the throttle are for the engine of that shard."""

    shard: int
    throttle: str
    count: int


class PermitsWanted(msgspec.Struct, frozen=True, tag="permits wanted"):
    """To the supervisor: the engine of that shard has use for so many permits of the throttle."""

    shard: int
    throttle: str
    count: int


class PermitsUnused(msgspec.Struct, frozen=True, tag="permits unused"):
    """To the supervisor: so many permits of the throttle were not used."""

    shard: int
    throttle: str
    count: int


class Left(msgspec.Struct, frozen=True, tag="left"):
    """To the supervisor: a session has ended."""

    address: str
    """Whom it counted for (mcmt/intake/door.py, client_of)."""


class Events(msgspec.Struct, frozen=True, tag="events"):
    """To the supervisor: there is something in the shard's outbox."""

    shard: int


class EndTrace(msgspec.Struct, frozen=True, tag="end trace"):
    """To a worker: the watch of that number is over."""

    number: int


class Attached(msgspec.Struct, frozen=True, tag="attached"):
    """To the supervisor: how the worker's components stand with their XMPP servers."""

    attachments: tuple[Attachment, ...]


class Gossip(msgspec.Struct, frozen=True, tag="gossip"):
    """To the supervisor, which passes it on to all other workers: what one has learned and all should know."""

    news: msgspec.Raw
    """A News or a Login, encoded: the supervisor passes it on unread."""


_Listings = ReadPage | ListIds | Find | FindStanding | FindKey | CountSelected | CountAnswers
_Questions = ReadOutbox | Look | _Listings | DoWork | Note | FetchTrace
_Notices = Granted | Recalled | Permitted | EndTrace | Gossip | FromSupervisor
ToWorker = Order | Acknowledge | Act | Accept | AcceptOnce | _Notices | _Questions
"""What a worker hears."""
_Wishes = HandOver | AskAll | Retired | Move | MakeDomain | PermitsWanted | PermitsUnused
ToSupervisor = _Wishes | FromWorker | Wanted | GivenBack | Left | Events | Gossip | Attached
"""What the supervisor hears."""


def raw(value: msgspec.Struct) -> msgspec.Raw:
    """*value* as the part of a frame that is passed on unread."""
    return msgspec.Raw(msgspec.msgpack.encode(value))

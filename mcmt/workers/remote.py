"""Parts of a worker as the supervisor's other parts see them: an outbox, a station, a holder of connections or permits.

Rules: while the worker is not there, an outbox is away and a station is out of reach; nothing is kept for later.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from mcmt.control.protocol import Action, DomainStatus
from mcmt.control.station import Page, Seen, Worked
from mcmt.engine.hands import Work
from mcmt.engine.lender import Holder
from mcmt.engine.throttles import PermitHolder
from mcmt.errors import BusError, ControlError, OutboxAway
from mcmt.message.event import OutboxRow
from mcmt.spool.port import Entry, IdPage, Selection, TallyPage
from mcmt.wire.trace import Told, Watch
from mcmt.workers.bus import Bus
from mcmt.workers.words import (
    Acknowledge,
    Act,
    CountAnswers,
    Counted,
    CountSelected,
    DoWork,
    EndTrace,
    Entries,
    FetchTrace,
    Find,
    GivenBack,
    Granted,
    Ids,
    ListIds,
    Look,
    Note,
    Nothing,
    PermitsUnused,
    PermitsWanted,
    Permitted,
    ReadOutbox,
    ReadPage,
    Recalled,
    Rows,
    Wanted,
)

T = TypeVar("T")
_Question = ReadPage | ListIds | Find | CountSelected | CountAnswers | DoWork | Note | FetchTrace

Reach = Callable[[], Bus | None]
"""The bus to the worker that serves a shard, while it does."""


class RemoteOutbox:
    """``mcmt.eventlog.outbox.Outbox`` of a shard in a worker."""

    def __init__(self, shard: int, reach: Reach) -> None:
        self._shard = shard
        self._reach = reach

    async def read_outbox(self, after: int, limit: int) -> Sequence[OutboxRow]:
        """See Outbox."""
        return (await self._ask(ReadOutbox(self._shard, after, limit), Rows)).rows

    async def acknowledge(self, through: int) -> None:
        """See Outbox."""
        await self._ask(Acknowledge(self._shard, through), Nothing)

    async def _ask(self, request: ReadOutbox | Acknowledge, answer: type[T]) -> T:
        bus = self._reach()
        if bus is None:
            raise OutboxAway(f"the worker of shard {self._shard} is being started")
        try:
            return await bus.call(request, answer)
        except BusError as error:
            raise OutboxAway(f"the worker of shard {self._shard} does not answer: {error}") from error


class RemoteStation:
    """``mcmt.control.station.Station`` of a shard in a worker."""

    def __init__(self, shard: int, reach: Reach) -> None:
        self.shard = shard
        self._reach = reach

    async def look(self) -> Seen:
        """See Station."""
        return await self._ask(Look(self.shard), Seen)

    async def act(self, action: Action, *, tell: bool) -> DomainStatus:
        """See Station."""
        return await self._ask(Act.of(self.shard, action, tell=tell), DomainStatus)

    async def page(self, selection: Selection, after: int, limit: int) -> Page:
        """See Station."""
        return (await self._ask(ReadPage(self.shard, selection, after, limit), Entries)).entries

    async def tally(self, selection: Selection, after: int, through: int) -> TallyPage:
        """See Station."""
        return await self._ask(CountSelected(self.shard, selection, after, through), TallyPage)

    async def answers(self, domain: str) -> Mapping[str, int]:
        """See Station."""
        return (await self._ask(CountAnswers(self.shard, domain), Counted)).counts

    async def work(self, work: Work, selection: Selection, after: int, through: int) -> Worked:
        """See Station."""
        return await self._ask(DoWork(self.shard, work, selection, after, through), Worked)

    async def ids(self, after: int, limit: int) -> IdPage | None:
        """See Station."""
        return (await self._ask(ListIds(self.shard, after, limit), Ids)).page

    async def find(self, id: str) -> Sequence[Entry]:  # noqa: A002 - the spool's word
        """See Station."""
        return [entry for _, entry in (await self._ask(Find(self.shard, id), Entries)).entries]

    async def note(self, domain: str, text: str) -> None:
        """See Station."""
        await self._ask(Note(self.shard, domain, text), Nothing)

    async def fetch_trace(self, watch: Watch) -> Told:
        """See Station."""
        return await self._ask(FetchTrace(self.shard, watch), Told)

    async def end_trace(self, number: int) -> None:
        """See Station."""
        if (bus := self._reach()) is not None:
            bus.tell(EndTrace(number))

    async def _ask(self, request: Look | Act | _Question, answer: type[T]) -> T:
        bus = self._reach()
        if bus is None:
            raise ControlError(f"the worker of shard {self.shard} is being started: try again in a moment")
        try:
            return await bus.call(request, answer)
        except BusError as error:
            raise ControlError(f"the worker of shard {self.shard} did not answer: {error}") from error


class RemoteHolder:
    """``mcmt.engine.lender.Holder``: the engine of a shard in a worker, for one stanza."""

    def __init__(self, shard: int, stanza: str, reach: Reach) -> None:
        self._shard = shard
        self._stanza = stanza
        self._reach = reach

    def granted(self) -> None:
        """See Holder."""
        self._tell(Granted(self._shard, self._stanza))

    def recalled(self, *, busy: bool) -> None:
        """See Holder."""
        self._tell(Recalled(self._shard, self._stanza, busy))

    def _tell(self, notice: Granted | Recalled) -> None:
        if (bus := self._reach()) is not None:
            bus.tell(notice)


class RemoteLending:
    """``mcmt.engine.lender.Lending`` in a worker: the lender is the supervisor's."""

    def __init__(self, shard: int, bus: Bus) -> None:
        self._shard = shard
        self._bus = bus
        self._holders: dict[str, Holder] = {}

    def want(self, stanza: str, holder: Holder) -> None:
        """See Lending."""
        self._holders[stanza] = holder
        self._bus.tell(Wanted(self._shard, stanza))

    def give_back(self, stanza: str, holder: Holder) -> None:  # noqa: ARG002 - the protocol's
        """See Lending."""
        self._bus.tell(GivenBack(self._shard, stanza))

    def heard(self, notice: Granted | Recalled) -> None:
        """The lender's word."""
        holder = self._holders.get(notice.stanza)
        if holder is None:
            return
        if isinstance(notice, Recalled):
            holder.recalled(busy=notice.busy)
        else:
            holder.granted()


class RemotePermitHolder:
    """``mcmt.engine.throttles.PermitHolder``: the engine of a shard in a worker, for one throttle."""

    def __init__(self, shard: int, throttle: str, reach: Reach) -> None:
        self._shard = shard
        self._throttle = throttle
        self._reach = reach

    def permitted(self, count: int) -> None:
        """See PermitHolder. What is granted to a worker that has just died is lost with it."""
        if (bus := self._reach()) is not None:
            bus.tell(Permitted(self._shard, self._throttle, count))


class RemoteGrantings:
    """Those of a worker, one a shard."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._by_shard: dict[int, RemoteGranting] = {}

    def of(self, shard: int) -> RemoteGranting:
        """The one for the engine of *shard*."""
        return self._by_shard.setdefault(shard, RemoteGranting(shard, self._bus))

    def heard(self, notice: Permitted) -> None:
        """What was granted to the engine of a shard."""
        if (granting := self._by_shard.get(notice.shard)) is not None:
            granting.heard(notice)


class RemoteGranting:
    """``mcmt.engine.throttles.Granting`` in a worker: the throttles are the supervisor's."""

    def __init__(self, shard: int, bus: Bus) -> None:
        self._shard = shard
        self._bus = bus
        self._holders: dict[str, PermitHolder] = {}

    def ask(self, throttle: str, holder: PermitHolder, count: int) -> None:
        """See Granting."""
        self._holders[throttle] = holder
        self._bus.tell(PermitsWanted(self._shard, throttle, count))

    def give_back(self, throttle: str, holder: PermitHolder, count: int) -> None:  # noqa: ARG002 - the protocol's
        """See Granting."""
        self._bus.tell(PermitsUnused(self._shard, throttle, count))

    def heard(self, notice: Permitted) -> None:
        """What was granted."""
        if (holder := self._holders.get(notice.throttle)) is not None:
            holder.permitted(notice.count)

"""Pulls, on a connection of their own that never waits behind an fsync.

A pull takes what came back from behind the cursors, then walks on from them, leaves out what is out, and
reads bodies only when it knows which: the sizes stand in the deliveries. Damaged rows are set aside for
quarantine and the rest go on. While pulls are under way nothing leaves the set of what is out, so what a
snapshot shows cannot have become untrue by the time that it is handed over.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

import apsw
import msgspec

from mcmt.message.model import Delivery, Part, Sender
from mcmt.message.priority import BULK
from mcmt.spool.away import Away, Lane, Ledger
from mcmt.spool.fetch import PAGE, Fetch, Page
from mcmt.spool.rows import StoredDelivery, StoredMessage, microseconds, seconds
from mcmt.spool.transaction import Damaged

MAX_EXPIRED_BYTES = 16 * 1024**2
"""Bodies that one pull of expired deliveries brings, at most; but at least one delivery."""
NO_LIMIT = 2**63 - 1
"""Bytes, for a pull that reads no bodies."""
# Messages of several deliveries whose small parts are kept from pull to pull.
_SHARED_MESSAGES = 64
_SHARED_PART = 64 * 1024


class Request(msgspec.Struct):
    """One pull: what is asked for, and what came of it."""

    domain: str | None
    """None: what has expired, of any domain; or ``chosen``."""
    now: float
    limit: int
    max_bytes: int
    lowest: int = BULK
    """Of what priority, or of a higher one, where it is of a domain."""
    chosen: Mapping[int, str] | None = None
    """These rows, where they are of these domains; without the contents of their parts."""
    deliveries: tuple[Delivery, ...] = ()
    next_due: float | None = None
    exhausted: list[tuple[int, int]] = []
    """Priority, and the row past which nothing of it was found that was never tried, where the pull came so far."""
    damaged: list[Damaged] = []
    error: Exception | None = None

    @property
    def domains(self) -> Collection[str | None]:
        """Those of which it may bring something; None: of any."""
        return (self.domain,) if self.chosen is None else self.chosen.values()


class _Known(msgspec.Struct):
    """A message as deliveries share it."""

    stored: StoredMessage
    sender: Sender
    parts: dict[int, Part]


class Reader:
    """Owns the reading connection of the pulls."""

    def __init__(self, connection: apsw.Connection, ledger: Ledger) -> None:
        self._connection = connection
        self._fetch = Fetch(connection)
        self._ledger = ledger
        self._shared: OrderedDict[int, _Known] = OrderedDict()

    def run(self, requests: Sequence[Request]) -> None:
        """Answer pulls, each on its own: the error of one is kept in it."""
        for request in requests:
            pull = _Pull(self._fetch, self._ledger, self._shared, request)
            try:
                pull.run()
            except Exception as error:
                pull.undo()
                request.error = error
        while len(self._shared) > _SHARED_MESSAGES:
            self._shared.popitem(last=False)

    def close(self) -> None:
        """Close the connection."""
        self._connection.close()


class _Pull:
    """One request on its way."""

    def __init__(self, fetch: Fetch, ledger: Ledger, shared: OrderedDict[int, _Known], request: Request) -> None:
        self._fetch = fetch
        self._ledger = ledger
        self._shared = shared
        self._request = request
        self._now = microseconds(request.now)
        self._taken: dict[int, StoredDelivery] = {}
        self._bodies: set[tuple[int, int]] = set()
        self._bytes = 0
        self._full = False
        self._hints: list[tuple[Lane, int, int]] = []

    def run(self) -> None:
        """Answer the request."""
        request = self._request
        if request.chosen is not None:
            self._take(self._chosen(request.chosen))
        elif request.domain is None:
            for page in self._expired():
                self._take(page)
        else:
            lanes = self._lanes(request.domain, request.lowest)
            shares = [lane.lower_share(request.limit) for lane in lanes[1:]]
            for place, lane in enumerate(lanes):
                self._walk(request.domain, lane, request.limit - sum(shares[place:]))
            for lane in lanes[:-1]:  # what those below have left of their shares
                self._walk(request.domain, lane, request.limit)
        self._hand_over()
        if request.domain is not None:
            request.next_due = self._next_due(request.domain)

    def undo(self) -> None:
        """The pull failed: everything is as due as it was."""
        for stored in self._taken.values():
            self._ledger.out.pop(stored.row, None)
            self._ledger.lanes(stored.domain).lane(stored.priority).come_back(stored.due, stored.row)
        for lane, due, row in self._hints:
            lane.come_back(due, row)

    def _lanes(self, domain: str, lowest: int) -> list[Lane]:
        lanes = self._ledger.lanes(domain)
        if not lanes.asked:
            # In this order: what comes into the spool after the question is told to lanes that are there to be told.
            for priority in self._fetch.priorities(domain):
                lanes.lane(priority)
            lanes.asked = True
        return lanes.all(lowest)

    def _walk(self, domain: str, lane: Lane, room: int) -> None:
        """Take what a lane has due, up to *room* in all."""
        before = len(self._taken)
        share = before + lane.share(room - before)
        for through, end in ((self._now, share), (0, room), (self._now, room)):
            for page in self._due(domain, lane, through, end):
                self._take(page)

    def _due(self, domain: str, queue: Lane, through: int, room: int) -> Iterator[Page]:
        """Pages of what is due by *through* (0: never tried), up to *room* taken in all; the cursor goes along."""
        while (wanted := self._room(room)) and (hints := queue.take_returned(through, wanted)):
            self._hints += [(queue, due, row) for due, row in hints]
            page = self._fetch.by_row(domain, [row for _, row in hints])
            page.deliveries = [stored for stored in page.deliveries if stored.due <= through]
            yield page
        more = True
        while more and (wanted := self._room(room)):
            page = self._fetch.walk(domain, queue.priority, queue.deferred if through else queue.fresh, through, wanted)
            if page.last is not None:
                due, _, row = page.last
                if through:
                    queue.deferred = (due, row)
                else:
                    queue.fresh = (due, row)
            more = page.full
            yield page
        if not (through or more or self._full):
            self._request.exhausted.append((queue.priority, queue.fresh[1]))

    def _expired(self) -> Iterator[Page]:
        after = (-1, 0)
        more = True
        while more and (wanted := self._room(self._request.limit)):
            page = self._fetch.expired(after, self._now, wanted)
            if page.last is not None:
                after = page.last[1:]
            more = page.full
            yield page

    def _chosen(self, chosen: Mapping[int, str]) -> Page:
        page = self._fetch.by_rows(list(chosen))
        page.deliveries = [stored for stored in page.deliveries if stored.domain == chosen[stored.row]]
        return page

    def _room(self, room: int) -> int:
        return 0 if self._full else min(PAGE, room - len(self._taken))

    def _take(self, page: Page) -> None:
        out, taken = self._ledger.out, self._taken
        for stored in page.deliveries:
            row = stored.row
            if row in out or row in taken:
                continue
            if self._full or not self._fits(stored):
                self._full = True
                self._ledger.lanes(stored.domain).lane(stored.priority).come_back(stored.due, row)
            else:
                taken[row] = stored
        for damaged in page.damaged:
            self._set_aside(damaged)

    def _fits(self, stored: StoredDelivery) -> bool:
        """Count a body once, however many deliveries share it."""
        body = (stored.message, stored.data.part)
        if body in self._bodies:
            return True
        if self._taken and self._bytes + stored.data.size > self._request.max_bytes:
            return False
        self._bodies.add(body)
        self._bytes += stored.data.size
        return True

    def _set_aside(self, damaged: Damaged) -> None:
        # It is out from now on: were quarantine to fail, no other pull would stumble over it.
        if damaged.source == "delivery":
            if damaged.key in self._ledger.out:
                return
            self._ledger.out[damaged.key] = Away(damaged.domain, 0, 0, 0, 0)
        self._request.damaged.append(damaged)

    def _next_due(self, domain: str) -> float | None:
        if len(self._request.deliveries) >= self._request.limit or self._request.lowest > BULK:
            return None
        if self._full or len(self._taken) >= self._request.limit:
            # The bytes ended it, or part of what it took was damaged: more may be due.
            return self._request.now
        out = self._ledger.out
        found = []
        for lane in self._ledger.lanes(domain).all(BULK):
            for due, row in self._fetch.due_after(domain, lane.priority, self._now):
                if row not in out:
                    found.append(seconds(due))
                    break
        return min(found, default=None)

    def _hand_over(self) -> None:
        if not self._taken:
            return
        known = self._messages()
        deliveries = []
        out = self._ledger.out
        taken: Iterable[StoredDelivery] = self._taken.values()
        if self._request.domain is not None:
            # The share of the less urgent and of the retries was taken first; what was never tried stands first.
            taken = sorted(taken, key=lambda stored: (-stored.priority, stored.due > 0))
        for stored in taken:
            data = stored.data
            message = known.get(stored.message)
            part = None if message is None else message.parts.get(data.part)
            if message is None or part is None:
                reason = f"its message {stored.message} or part {data.part} is missing or cannot be read"
                self._set_aside(Damaged("delivery", stored.row, reason, stored.domain))
                continue
            domain = self._request.domain or stored.domain
            deliveries.append(
                Delivery(
                    stored.row,
                    data.number,
                    domain,
                    data.recipient,
                    data.token,
                    stored.attempts,
                    data.expires,
                    message.sender,
                    part,
                    stored.priority,
                    data.asked,
                    data.superseded,
                )
            )
            of_message = stored.message, message.stored.deliveries, message.stored.parts
            out[stored.row] = Away(domain, stored.due, *of_message, stored.priority)
        self._request.deliveries = tuple(deliveries)

    def _messages(self) -> dict[int, _Known]:
        """The messages of what was taken, with the parts that it needs."""
        wanted = {stored.message for stored in self._taken.values()}
        contents = self._request.chosen is None
        # What is shared has contents, and gets none without.
        known = {key: found for key in wanted if contents and (found := self._shared.get(key)) is not None}
        messages, damaged = self._fetch.messages([key for key in wanted if key not in known])
        for stored in messages:
            known[stored.id] = _Known(stored, stored.sender.sender(), {})
        for row in damaged:
            self._set_aside(row)
        missing = {
            message + part: (message, part)
            for message, part in self._bodies
            if message in known and part not in known[message].parts and 0 <= part < known[message].stored.parts
        }
        parts, damaged = self._fetch.parts(list(missing), contents=contents)
        for row in damaged:
            self._set_aside(row)
        for key, found_part in parts:
            message, part = missing[key]
            known[message].parts[part] = found_part
        if contents:
            self._share(known)
        return known

    def _share(self, known: dict[int, _Known]) -> None:
        for key, message in known.items():
            if message.stored.deliveries > 1:
                small = {n: part for n, part in message.parts.items() if len(part.content) <= _SHARED_PART}
                self._shared[key] = _Known(message.stored, message.sender, small)
                self._shared.move_to_end(key)

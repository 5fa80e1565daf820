"""How the outboxes of all shards are read: each by itself, so that none waits for another, and all in turn.

A round takes at most one burst of each. An outbox that had no more rests for PACE; one that is away or refuses is asked
again when something new is said of it, and every second.

Rules: lives on the event loop; asks the loggers only how far they have come.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mcmt.clock import Clock
from mcmt.errors import OutboxAway, SpoolError
from mcmt.eventlog.outbox import Outbox
from mcmt.eventlog.progress import Progress
from mcmt.eventlog.shard import Burst, Shard

PACE = 0.02
"""Seconds that an outbox which had no more is left alone, unless somebody waits. A round costs some 300 us, however
little it finds: with two logs and a commit each 2 ms an event cost 320 us where it was read at once and 85 with this;
with ten events a commit 47 and 17."""
_EVENTS = 2000
"""Events in a round, at most; a row with more is a burst of its own."""
_FEWEST = 250
"""Events of one shard in a round that has to do for many."""


class Reading:
    """Of every shard. *ring* calls for another round of the writer, *again* for one in a second; *trip* is told when an
    outbox refuses."""

    def __init__(
        self,
        loggers: Sequence[Progress],
        clock: Clock,
        ring: Callable[[], None],
        again: Callable[[], None],
        trip: Callable[[Exception], None],
    ) -> None:
        self._loggers = loggers
        self._clock = clock
        self._ring = ring
        self._again = again
        self._trip = trip
        self.shards: dict[str, Shard] = {}
        """By name."""

    def add(self, name: str, outbox: Outbox) -> None:
        """Read this outbox too, or in place of the one that the shard had."""
        if name in self.shards:
            self.shards[name].cancel()
        self.shards[name] = Shard(name, outbox, self._ring)

    def remove(self, name: str) -> None:
        """Read the shard no more."""
        self.shards.pop(name).cancel()

    def wake(self, name: str | None) -> None:
        """There may be new rows in the shard, or in any."""
        for shard in self.shards.values():
            shard.wanted = shard.wanted or name in (None, shard.name)
        if any(shard.wanted and not shard.resting for shard in self.shards.values()):
            self._ring()

    def behind(self, turn: int) -> bool:
        """Rows of that turn are still to be read."""
        return any(shard.behind(turn) and not shard.refusing for shard in self.shards.values())

    @property
    def begun(self) -> bool:
        """Every shard that is there has been read once."""
        return all(shard.served or shard.away or shard.refusing for shard in self.shards.values())

    def done(self, turn: int) -> bool:
        """Of that turn every row is remembered by every logger, but for shards that are away."""
        for shard in self.shards.values():
            if shard.behind(turn):
                return False
            if not shard.away and any(each.saved_cursor(shard.name) < shard.end for each in self._loggers):
                return False
        return not any(each.changed for each in self._loggers)

    def take(self) -> list[Burst]:
        """What was read."""
        return [burst for shard in self.shards.values() if (burst := self._take(shard))]

    def ask(self, turn: int, hurry: bool) -> None:
        """Begin to read where there may be more, each from where the last of the loggers is. *hurry*: none may rest."""
        ready = [progress for progress in self._loggers if progress.ready]
        events = max(_FEWEST, _EVENTS // max(1, len(self.shards)))
        for shard in self.shards.values() if ready else ():
            if shard.wanted and not shard.reading and (hurry or not shard.resting):
                shard.begin(min(progress.cursor(shard.name) for progress in ready), events, turn)

    def wrote(self, bursts: Sequence[Burst], whole: bool) -> None:
        """These were offered to the loggers. *whole*: none that could be written has to be offered them again."""
        for burst in bursts:
            shard = self.shards.get(burst.shard)
            if shard is None:
                continue
            shard.served = True
            if not burst.drained or not whole:
                shard.wanted = True
                continue
            shard.drained, shard.end = burst.turn, burst.last
            if burst.rows:
                shard.rest(self._clock, PACE)

    async def acknowledge(self) -> None:
        """Let the rows go that every logger remembers."""
        for shard in self.shards.values():
            through = min([progress.saved_cursor(shard.name) for progress in self._loggers], default=0)
            if through <= shard.acknowledged or shard.away or shard.refusing:
                continue
            try:
                await shard.outbox.acknowledge(through)
                shard.acknowledged = through
            except OutboxAway:
                shard.away = True
                self._again()
            except SpoolError as error:
                shard.refusing = True
                self._trip(error)

    def cancel(self) -> None:
        """Read no more."""
        for shard in self.shards.values():
            shard.cancel()

    def _take(self, shard: Shard) -> Burst | None:
        try:
            return shard.take()
        except Exception as error:  # this one refuses; the others go on
            self._trip(error)
            return None
        finally:
            if shard.away:
                self._again()

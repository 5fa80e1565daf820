"""An outbox in a file, events, loggers: what the event log's tests stand on."""

from __future__ import annotations

import asyncio
import gzip
import re
import sqlite3
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import msgspec

from mcmt.clock import Timer
from mcmt.config.settings import EventLogSettings, RotateSettings
from mcmt.errors import OutboxAway, SpoolError
from mcmt.eventlog.format import compile_format
from mcmt.eventlog.loggers import EventLogger
from mcmt.eventlog.reading import PACE
from mcmt.eventlog.writer import EventLogWriter
from mcmt.message.event import Event, Kind, OutboxRow, Remembered
from tests.support.manual_clock import ManualClock, ManualTimer

_EVENTS = msgspec.msgpack.Decoder(tuple[Event, ...])
_REMEMBERED = msgspec.msgpack.Decoder(Remembered)


class FileOutbox:
    """The outbox's contract over one SQLite file, which survives the process."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None)
        self._database.executescript(
            """PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;
            CREATE TABLE IF NOT EXISTS outbox (sequence INTEGER PRIMARY KEY AUTOINCREMENT, events BLOB);"""
        )
        self.on_acknowledge: Callable[[], None] = lambda: None
        self.on_acknowledged: Callable[[], None] = lambda: None
        self.refusing = False
        self.away = False
        self.reads = 0

    def put(self, events: Sequence[Event]) -> None:
        """One transaction's events."""
        self._database.execute("INSERT INTO outbox (events) VALUES (?)", (msgspec.msgpack.encode(tuple(events)),))

    def next_sequence(self) -> int:
        """The sequence of the row that is put next."""
        found = self._database.execute("SELECT seq FROM sqlite_sequence").fetchone()
        return 1 if found is None else int(found[0]) + 1

    def depth(self) -> int:
        count: int = self._database.execute("SELECT count(*) FROM outbox").fetchone()[0]
        return count

    def close(self) -> None:
        self._database.close()

    async def read_outbox(self, after: int, limit: int) -> Sequence[OutboxRow]:
        self.reads += 1
        self._check()
        rows = self._database.execute(
            "SELECT sequence, events FROM outbox WHERE sequence > ? ORDER BY sequence LIMIT ?", (after, limit)
        )
        return [OutboxRow(sequence, _EVENTS.decode(events)) for sequence, events in rows.fetchall()]

    async def acknowledge(self, through: int) -> None:
        self._check()
        self.on_acknowledge()
        self._database.execute("DELETE FROM outbox WHERE sequence <= ?", (through,))
        self.on_acknowledged()

    def _check(self) -> None:
        if self.away:
            raise OutboxAway("away, says the test")
        if self.refusing:
            raise SpoolError("refused by the test")


class FileMemory:
    """The memory's contract over one SQLite file, which survives the process."""

    def __init__(self, path: Path) -> None:
        self._database = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self._database.executescript(
            """PRAGMA journal_mode=WAL; PRAGMA synchronous=OFF;
            CREATE TABLE IF NOT EXISTS memory (logger TEXT PRIMARY KEY, value BLOB);"""
        )
        self.before_save: Callable[[], None] = lambda: None
        self.after_save: Callable[[], None] = lambda: None
        self.saves = 0
        self.refusing = False

    def load(self) -> Mapping[str, Remembered]:
        rows = self._database.execute("SELECT logger, value FROM memory").fetchall()
        return {logger: _REMEMBERED.decode(value) for logger, value in rows}

    def save(self, remembered: Sequence[Remembered]) -> None:
        if self.refusing:
            raise SpoolError("not remembered, says the test")
        self.before_save()
        values = [(each.logger, msgspec.msgpack.encode(each)) for each in remembered]
        self._database.execute("BEGIN")
        self._database.executemany("INSERT OR REPLACE INTO memory VALUES (?, ?)", values)
        self._database.execute("COMMIT")
        self.saves += 1
        self.after_save()

    def close(self) -> None:
        self._database.close()


class WatchedClock(ManualClock):
    """A manual clock that tells whether a timer runs. Those that only save work, up to PACE, run by themselves."""

    def __init__(self) -> None:
        super().__init__()
        self._waiting: list[ManualTimer] = []

    @property
    def pending(self) -> bool:
        """A call is due later."""
        self._waiting = [timer for timer in self._waiting if timer.callback is not None]
        return bool(self._waiting)

    def call_later(self, delay: float, callback: Callable[[], None]) -> Timer:  # type: ignore[override]
        if delay <= PACE:
            return asyncio.get_running_loop().call_later(delay, callback)

        def call() -> None:
            self._waiting.remove(timer)
            callback()

        timer = super().call_later(delay, call)
        self._waiting.append(timer)
        return timer


def delivery(number: int, **fields: object) -> Event:
    """A delivery's event that the number tells from every other."""
    return msgspec.structs.replace(
        Event(
            kind=Kind.DELIVERY,
            time=1_700_000_000.0 + number,
            id=f"018bcfe568007123a8b9c0d1-{number}",
            batch_id="018bcfe568007123a8b9c0d1",
            channel="apn",
            domain="apn.example.com",
            sender="app@example.com",
            recipient="user42@apn.example.com",
            token="ab" * 32,
            size=187,
            remote_id="018bcfe5-6800-7123-a8b9-c0d100000001",
            remote_address="17.188.1.2",
        ),
        **fields,
    )


def logger(
    path: Path,
    name: str = "apn_logger.one",
    text: str = "%i %t",
    heartbeat: float = 0,
    rotate: RotateSettings | None = None,
) -> EventLogger:
    """A channel-independent logger of deliveries, and of its own heartbeats."""
    settings = EventLogSettings(
        name=name, channel=None, logfile=path, heartbeat=heartbeat, delivery_format=text, rotate=rotate
    )
    return EventLogger(name, settings, {Kind.DELIVERY: compile_format(text), Kind.HEARTBEAT: compile_format("%t@M")})


def lines(*events: Event, text: str = "%i %t") -> str:
    """What *logger* writes of these events."""
    render = compile_format(text)
    return "".join(f"{render(event)}\n" for event in events)


class Bench:
    """A writer over an outbox and log files in one folder, to be crashed and started again."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.clock = WatchedClock()
        self.told: list[str] = []
        self.path = folder / "log.ec"
        self.outbox = FileOutbox(folder / "outbox.sqlite")
        self.memory = FileMemory(folder / "memory.sqlite")

    def unstarted(self, loggers: Iterable[EventLogger] | None = None) -> EventLogWriter:
        """A writer; by default with one logger, of log.ec."""
        chosen = [logger(self.path)] if loggers is None else list(loggers)
        writer = EventLogWriter(self.memory, chosen, self.clock, self.told.append)
        writer.add("0", self.outbox)
        return writer

    async def writer(self, loggers: Iterable[EventLogger] | None = None) -> EventLogWriter:
        """A started writer."""
        writer = self.unstarted(loggers)
        await writer.start()
        return writer

    async def write_all(self, *events: Event, loggers: Iterable[EventLogger] | None = None) -> None:
        """Start, write what is owed and these events, stop."""
        for event in events:
            self.outbox.put([event])
        await (await self.writer(loggers)).stop()

    def text(self) -> str:
        return self.path.read_text()


def rotated_files(path: Path) -> list[Path]:
    """What rotations left of the log *path*, in the order of names."""
    pattern = re.escape(path.name) + r"-\d{8}T\d{6}Z(\.gz)?(\.tmp)?"
    return sorted(each for each in path.parent.iterdir() if re.fullmatch(pattern, each.name))


def whole_text(path: Path) -> str:
    """Every line of the log *path*, over all of its files."""
    files = [
        gzip.decompress(old.read_bytes()) if old.suffix == ".gz" else old.read_bytes() for old in rotated_files(path)
    ]
    return b"".join([*files, path.read_bytes()]).decode()


class RotatingBench(Bench):
    """A bench with one log that rotates."""

    def rotating(self, rotate: RotateSettings | None, text: str = "%i %t") -> list[EventLogger]:
        return [logger(self.path, text=text, rotate=rotate)]

    async def put(self, writer: EventLogWriter, *numbers: int) -> None:
        """Have these deliveries written, a burst for each."""
        for number in numbers:
            self.outbox.put([delivery(number)])
            await writer.flushed()

    def names(self) -> list[str]:
        """The rotated files, without the log's own name."""
        return [file.name.removeprefix(f"{self.path.name}-") for file in rotated_files(self.path)]


async def until(true: Callable[[], object]) -> None:
    """Return once *true* is, or fail within ten seconds."""
    async with asyncio.timeout(10):
        while not true():
            await asyncio.sleep(0.002)

"""The one thread that writes, and the group commit.

It takes whatever jobs have gathered while the last transaction was on its way to the disk, does them in one
transaction, and tells the event loop of all of them with one call. A job that cannot be done is found by
doing the jobs one by one and fails alone; a disk that cannot be written fails them all, nothing is half
done, and the next transaction tries afresh.

A sync that failed is not tried again, for it would succeed without the disk having the data (schema.py, write_anew):
the next transaction begins with a new connection and everything written anew, and until that is done all jobs fail.

Checkpoints run here too, after the jobs were told: small ones when nothing is to be done, and one that is
not put off when the WAL has grown to its limit under load.
"""

from __future__ import annotations

import math
import queue
import threading
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path

import apsw

from mcmt.errors import NotKept, SpoolDamaged, SpoolError
from mcmt.spool.jobs import SpoolJob
from mcmt.spool.schema import BUSY_WAIT, reopen_writer
from mcmt.spool.transaction import Keys, Transaction

MAX_JOBS = 1000
"""Jobs in one transaction."""
# What comes after a transaction costs by the batch, all the way to the gateway and the log: the wake-ups, the settling,
# the reading. So while many come, a transaction waits a moment for as many as the last one had. Messages by
# smtp-source, runs in turn on a machine that others used too: with two workers and 100 sessions 199 us of CPU each
# without it, 176 with 2 ms, 161 with 4, 150 with 8, and 5,400, 6,100, 7,100, 8,600 a second; with 10 sessions 424, 426,
# 396, 370 us. Who comes alone waits for nobody.
COMPANY_SECONDS = 0.005
_MANY = 6
_IDLE = 0.05
_IDLE_PAGES = 256
# Measured with 700-byte bodies: a checkpoint of 1,000 pages takes 6 ms, of 4,000 pages 20 ms, of 12,000 pages 55 ms,
# at the same messages a second. So the smallest, for the smallest wait of whoever comes in the middle of it.
_LOAD_PAGES = 1000
_LIMIT_PAGES = 16_000
_RESTART_WAIT = 200  # ms
# What no single job is to blame for: the disk, its room, the memory. Any other error is a job's own.
_MEDIUM = (
    apsw.IOError,
    apsw.FullError,
    apsw.ReadOnlyError,
    apsw.CantOpenError,
    apsw.NoMemError,
    apsw.BusyError,
    apsw.NotADBError,
    apsw.CorruptError,
    MemoryError,
)

# A write that failed left nothing behind that anybody takes for written. Any other trouble with the disk may.
_HARMLESS = apsw.SQLITE_IOERR_WRITE

Done = Callable[[Sequence[SpoolJob], Sequence[SpoolError | None]], None]
"""Told, on the writer's thread, what became of the jobs of a transaction: an error or None for each."""


class Writer:
    """Owns the writing connection; ``put`` may be called from any thread, the rest happens on its own."""

    def __init__(self, connection: apsw.Connection, done: Done) -> None:
        self._connection = connection
        self._path = Path(connection.filename)
        self._unsure = False
        """A sync failed, and not everything was written anew since."""
        self._done = done
        self._keys = Keys(connection)
        self._jobs: queue.SimpleQueue[tuple[Sequence[SpoolJob], float] | None] = queue.SimpleQueue()
        self._last = 0
        """Jobs in the last transaction."""
        self._wal_pages = 0
        self._copied_pages = 0
        self._checkpoint_at = _LOAD_PAGES
        connection.set_wal_hook(self._note_wal)
        self._thread = threading.Thread(target=self._run, name="mcmt-spool-writer", daemon=True)
        self._thread.start()

    def put(self, jobs: Sequence[SpoolJob], patience: float) -> None:
        """Have jobs done, in the order of calls. *patience*: seconds that they may wait for others' transaction."""
        self._jobs.put((jobs, patience))

    def close(self) -> None:
        """Do what was put, bring the WAL into the file, and end. Blocks."""
        self._jobs.put(None)
        self._thread.join()

    def _run(self) -> None:
        more = True
        while more:
            jobs, more = self._gather()
            if jobs:
                self._done(jobs, self._commit(jobs))
                # The references to bodies must not outlive their transaction on an idle thread.
                jobs = []
            if self._wal_pages >= self._checkpoint_at:
                self._checkpoint_under_load()
        self._checkpoint(apsw.SQLITE_CHECKPOINT_TRUNCATE)
        self._connection.close()

    def _gather(self) -> tuple[list[SpoolJob], bool]:
        """The jobs of the next transaction, and whether there may be more after it."""
        jobs: list[SpoolJob] = []
        until = math.inf
        wait: float | None = _IDLE if self._wal_pages - self._copied_pages >= _IDLE_PAGES else None
        while len(jobs) < MAX_JOBS:
            try:
                item = self._jobs.get(timeout=wait) if wait != 0 else self._jobs.get_nowait()
            except queue.Empty:
                if not jobs:
                    self._checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)
                    wait = None
                    continue
                break
            if item is None:
                return jobs, False
            put, patience = item
            jobs += put
            if patience:
                now = time.monotonic()
                until = min(until, now + patience)
                wait = max(0.0, until - now)
            elif self._last >= _MANY and len(jobs) < self._last:
                now = time.monotonic()
                until = min(until, now + COMPANY_SECONDS)
                wait = max(0.0, until - now)
            else:
                until = wait = 0.0
        self._last = len(jobs)
        return jobs, True

    def _commit(self, jobs: list[SpoolJob]) -> Sequence[SpoolError | None]:
        try:
            if self._unsure:
                self._recover()
            try:
                self._begin()
                transaction = Transaction(self._keys)
                for job in jobs:
                    job.stage(transaction)
                transaction.apply(self._connection)
                self._connection.execute("COMMIT")
            except _MEDIUM:
                raise
            except Exception:
                self._rollback()
                return self._commit_one_by_one(jobs)
        except Exception as error:
            self._rollback()
            # apsw's own types do not know of the attribute; a VFS in Python raises errors without it.
            if isinstance(error, apsw.IOError) and getattr(error, "extendedresult", 0) != _HARMLESS:
                self._unsure = True
            return [self._failed(error)] * len(jobs)
        return [None] * len(jobs)

    def _commit_one_by_one(self, jobs: list[SpoolJob]) -> list[SpoolError | None]:
        """One transaction still, with a savepoint a job."""
        errors: list[SpoolError | None] = []
        self._begin()
        for job in jobs:
            self._connection.execute("SAVEPOINT job")
            try:
                transaction = Transaction(self._keys)
                job.stage(transaction)
                transaction.apply(self._connection)
            except _MEDIUM:
                raise
            except Exception as error:
                self._connection.execute("ROLLBACK TO job")
                errors.append(NotKept(f"not kept: {error}"))
            else:
                errors.append(None)
            self._connection.execute("RELEASE job")
        self._connection.execute("COMMIT")
        return errors

    def _begin(self) -> None:
        self._connection.execute("BEGIN IMMEDIATE")

    def _recover(self) -> None:
        """Raises SpoolUnusable: everything is as unsure as it was."""
        self._wal_pages = self._copied_pages = 0
        self._checkpoint_at = _LOAD_PAGES
        self._connection.close()
        self._connection = reopen_writer(self._path)
        self._connection.set_wal_hook(self._note_wal)
        self._unsure = False

    def _rollback(self) -> None:
        if self._unsure:
            return  # there was no transaction, and perhaps no connection
        # SQLite has rolled back by itself after some errors.
        if self._connection.in_transaction:
            with suppress(apsw.Error):
                self._connection.execute("ROLLBACK")

    def _failed(self, error: Exception) -> SpoolError:
        if isinstance(error, apsw.CorruptError):
            return SpoolDamaged(f"{self._path} has damaged pages: {error}; nothing was kept. Check the disk")
        text = "nothing was kept. Check the disk and its room"
        return SpoolError(f"cannot write the spool {self._path}: {error}; {text}")

    def _note_wal(self, _connection: apsw.Connection, _name: str, pages: int) -> int:
        if pages < self._wal_pages:
            # All had been copied and no reader needed it any more, so SQLite began it anew.
            self._copied_pages = 0
            self._checkpoint_at = _LOAD_PAGES
        self._wal_pages = pages
        return apsw.SQLITE_OK

    def _checkpoint_under_load(self) -> None:
        if self._wal_pages < _LIMIT_PAGES:
            self._checkpoint(apsw.SQLITE_CHECKPOINT_PASSIVE)
        else:
            # Readers were always in the way of a new beginning. Wait for them a little, rather than grow without end.
            self._connection.set_busy_timeout(_RESTART_WAIT)
            self._checkpoint(apsw.SQLITE_CHECKPOINT_RESTART)
            self._connection.set_busy_timeout(BUSY_WAIT)
        self._checkpoint_at = self._wal_pages + _LOAD_PAGES

    def _checkpoint(self, mode: int) -> None:
        # Were there no room, or a reader in the way: what is in the WAL is safe there, and is tried again later.
        with suppress(apsw.Error):
            self._copied_pages = self._connection.wal_checkpoint(mode=mode)[1]

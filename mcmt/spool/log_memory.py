"""What the event log remembers, in the state store: one value a logger, so that loggers know nothing of each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import msgspec

from mcmt.errors import SpoolError
from mcmt.message.event import Remembered
from mcmt.spool.state import StateStore

_SCOPE = "eventlog"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(Remembered).decode


class StoredLogMemory:
    """The event log's memory (mcmt/eventlog/outbox.py, LogMemory). May be used from any thread."""

    def __init__(self, store: StateStore) -> None:
        self._store = store

    def load(self) -> Mapping[str, Remembered]:
        """What was saved last, by logger. Raises SpoolError."""
        try:
            return {logger: _decode(value) for logger, value in self._store.all(_SCOPE).items()}
        except msgspec.MsgspecError as error:
            raise SpoolError(f"what the event log remembers cannot be read: {error}; restore state.sqlite") from error

    def save(self, remembered: Sequence[Remembered]) -> None:
        """Replace what these loggers remember; on disk when this returns. Raises SpoolError."""
        self._store.put_all({each.logger: _encode(each) for each in remembered}, _SCOPE)

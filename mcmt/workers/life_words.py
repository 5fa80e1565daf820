"""The words by which a supervisor has a worker live (process.py). Calls all."""

from __future__ import annotations

import msgspec

from mcmt.config.sources import Content


class Begin(msgspec.Struct, frozen=True, tag="begin"):
    """Open the shards and begin to work. Answered by Nothing when connections may be passed."""

    number: int
    config: str
    """The configuration's path, for the paths that are relative to it."""
    content: Content
    """What was read when the supervisor read it: the file, those that it includes, and the secrets."""
    adopted: tuple[int, ...]
    """Shards beside its own."""
    rehashed: float = 0.0
    """See mcmt/app/rehash.py."""
    reloaded: Content | None = None
    """What was read since and holds now, but for what stays as it was at the start."""


class Prepare(msgspec.Struct, frozen=True, tag="prepare"):
    """The configuration was read again: be ready to go on by it. Answered by Nothing, refused where that cannot be."""

    content: Content


class Swap(msgspec.Struct, frozen=True, tag="swap"):
    """Go on by what was prepared last. Answered by Nothing."""


class Drain(msgspec.Struct, frozen=True, tag="drain"):
    """Take and send nothing more, within ``drain_timeout``. Answered by Nothing when everything is on disk."""


class Stop(msgspec.Struct, frozen=True, tag="stop"):
    """Close the shards and end. Answered by Nothing, just before the end."""


class Ping(msgspec.Struct, frozen=True, tag="ping"):
    """Be there. Answered by Nothing."""


Order = Begin | Prepare | Swap | Drain | Stop | Ping
"""What a worker hears of this."""

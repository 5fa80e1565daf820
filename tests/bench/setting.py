"""What every table is given: a folder, certificates, the form, a voice, and an eye on the machine's noise."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import NamedTuple, TypeVar

from tests.bench.usage import Noise
from tests.support.tls import Certificates

_T = TypeVar("_T")


class Setting(NamedTuple):
    """One call of the benchmark."""

    folder: Path
    certificates: Certificates
    short: bool
    noise: Noise
    started: float

    def choose(self, long: _T, short: _T) -> _T:
        """The value for this form."""
        return short if self.short else long

    def say(self, text: str) -> None:
        """Tell whoever waits how far it is, and look at the machine while nothing of ours is at work."""
        print(f"{time.monotonic() - self.started:7.1f} s  {text}", file=sys.stderr, flush=True)
        self.noise.look()

    def below(self, name: str) -> Path:
        """A new folder."""
        folder = self.folder / name
        folder.mkdir(parents=True)
        return folder

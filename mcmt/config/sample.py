"""The sample configuration, config/mcmt.yaml: the one place where every option is described, in the comment behind it.

The JSON Schema (json_schema.py) and the manual page take their descriptions from here; a test has none be missing. The
wheel brings the sample along as ``mcmt/sample/mcmt.yaml``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

from mcmt.config.document import Path as Place
from mcmt.config.document import Reading, read
from mcmt.config.includes import INCLUDE

ANY = "*any*"
"""In a place: whatever name stands there."""
_DOMAINS: tuple[Place, ...] = ((), ("domain", ANY), ("domain_group", ANY))
"""Where an option of a domain may stand."""


def sample_file() -> Path:
    """Where it is: in the package that is installed, else in the checkout."""
    package = Path(__file__).parents[1]
    installed = package / "sample" / "mcmt.yaml"
    return installed if installed.exists() else package.parent / "config" / "mcmt.yaml"


def uncommented(sample: str) -> str:
    """The sample with every option set: what begins with # and no blank is an option."""
    return re.sub(r"^( *)#(?=[^ #\n])", r"\1", sample, flags=re.MULTILINE)


class Descriptions:
    """What the sample says of each option."""

    def __init__(self, sample: str) -> None:
        text = uncommented(sample)
        # Under another name: what is included is not to be read.
        (reading,) = read(text.replace(f"\n{INCLUDE}:", "\nhere:", 1).encode(), "mcmt.yaml").readings
        self._told = _comments(reading, text.splitlines())
        self._told[(INCLUDE,)] = self._told.pop(("here",), "")
        self._methods = {
            name: str(stanza.get("delivery_method", "")) for name, stanza in reading.data.get("domain", {}).items()
        }

    def of(self, place: Place) -> str:
        """What is said of the option at *place*, where names of instances are ANY; empty: nothing."""
        for places in self._nearest_first(place):
            if found := {where: told for where, told in self._told.items() if _is_at(where, places)}:
                return self._together(found)
        return ""

    def _nearest_first(self, place: Place) -> list[Place]:
        tails = [place[len(head) :] for head in _DOMAINS if place[: len(head)] == head]
        elsewhere = [(ANY, ANY, *place[2:])] if len(place) > 3 else []  # as of another stanza of the kind
        return [place, *(head + min(tails, key=len) for head in _DOMAINS), *elsewhere]

    def _together(self, found: Mapping[Place, str]) -> str:
        """Of an option that several channels have, what each makes of it."""
        if len(set(found.values())) == 1:
            return next(iter(found.values()))
        told = {self._methods.get(where[1], "") if len(where) > 1 else "": text for where, text in found.items()}
        return "; ".join(f"{method}: {text}" if method else text for method, text in told.items())


def _is_at(where: Place, place: Place) -> bool:
    return len(where) == len(place) and all(want in (ANY, name) for want, name in zip(place, where, strict=True))


def _comments(reading: Reading, lines: list[str]) -> dict[Place, str]:
    """Behind each key that begins its line."""
    found = {}
    for place, mark in reading.keys.items():
        line = lines[mark.line - 1]
        inside = place[:-1] and reading.mark(place[:-1], key=True).line == mark.line
        if " # " in line and not inside:
            found[place] = line.rpartition(" # ")[2].strip()
    return found

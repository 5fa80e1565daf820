"""YAML text read into plain data, with the place of every key and value.

Rules: keys are always text, as written. Values are what they look like (nodes.py). A repeated key is a fault, and all
its values are read: a document has as many readings as it takes to see each of them once. Anchors, aliases and merge
keys (``<<``) work. ``!env NAME`` and ``!file PATH`` are text that stands elsewhere.

It knows nothing of options, and opens files through sources.py alone.
"""

from __future__ import annotations

from typing import Any

import msgspec
import yaml

from mcmt.config.includes import Includes
from mcmt.config.nodes import MAX_DEPTH, MERGE, Mark, Path, dotted, mark_of, named_by, place, scalar
from mcmt.config.sources import Content, Sources, beside
from mcmt.errors import Fault

__all__ = ["NOT_SHOWN", "UNRESOLVED", "Document", "Mark", "Path", "Reading", "Referred", "dotted", "place", "read"]

_Occurrences = list[tuple[yaml.Node, yaml.Node]]
_Entries = dict[str, _Occurrences]

_MAX_NODES = 500_000
_MAX_READINGS = 1000
_REFERENCES = ("!env", "!file")


class Referred(str):
    """Text that a reference led to. It may be secret, so it is shown nowhere."""

    __slots__ = ()


NOT_SHOWN = "(what !env or !file leads to)"
_TELLING = 6
"""Characters of a value by which it can be told from other text."""
UNRESOLVED = Referred()
"""In place of what a reference leads to, where that was not looked for."""


class Reading(msgspec.Struct, frozen=True):
    """The document as data, each repeated key with one of its values."""

    data: dict[str, Any]
    keys: dict[Path, Mark]
    values: dict[Path, Mark]
    references: dict[Path, tuple[str, str]] = {}
    """The values that stand elsewhere: the reference as written, and what it led to."""
    telling: set[str] = set()
    """Those of them that are long enough to be looked for in any text."""

    def mark(self, path: Path, *, key: bool = False) -> Mark:
        """Where the value (or with *key* the key) at *path* stands, or the nearest thing around it that has a place."""
        for end in range(len(path), 0, -1):
            places = self.keys if key or end < len(path) else self.values
            if mark := places.get(path[:end]) or self.values.get(path[:end]):
                return mark
        return Mark()

    def shown(self, text: str, path: Path = ()) -> str:
        """*text*, about the option at *path*, without what references lead to."""
        found = [value for value in self.telling if value in text]
        # A short one stands in any text: it is looked for where it is the matter.
        around = (self.references.get(path[:end], ("", ""))[1] for end in range(1, len(path) + 1))
        for value in sorted({*found, *filter(None, around)}, key=len, reverse=True):
            text = text.replace(value, NOT_SHOWN)
        return text


class Document(msgspec.Struct, frozen=True):
    """What a file says, and what is wrong with it as YAML."""

    readings: tuple[Reading, ...]
    """One, unless keys are repeated. None where the text cannot be read at all."""
    faults: tuple[tuple[Mark, Fault], ...]


def read(content: bytes, file: str, sources: Sources | None = None, *, resolve: bool = True) -> Document:
    """Read a configuration file's *content*; *file* is its name as the user gave it. Never raises.

    *sources*: of what it includes and refers to; None: it has nothing but itself. Without *resolve* a reference that
    leads nowhere is no fault: its value is UNRESOLVED.
    """
    sources = sources or Sources(Content({}))
    builder = _Builder(file, sources, resolve)
    root = Includes(sources, file, builder.fault).read(content)
    if root is None:
        return Document(() if builder.faults else (Reading({}, {}, {}),), tuple(builder.faults))
    rounds = builder.scan(root, (), ())
    readings = tuple(builder.build(root, turn) for turn in range(rounds)) if builder.finite else ()
    return Document(readings, tuple(builder.faults))


class _Builder:
    """Two passes over the nodes: ``scan`` finds faults and counts the readings, ``build`` makes one of them."""

    def __init__(self, file: str, sources: Sources, resolve: bool) -> None:
        self.faults: list[tuple[Mark, Fault]] = []
        self.finite = True
        self._file = file
        self._sources = sources
        self._resolve = resolve
        self._nodes = 0
        self._turns: dict[int, int] = {}
        """How many readings it takes to see everything in a node, by its identity."""
        self._known: dict[int, _Entries] = {}

    def fault(self, mark: Mark, path: Path, text: str) -> None:
        self.faults.append((mark, Fault(place(self._file, mark), dotted(path), text)))

    def scan(self, node: yaml.Node, path: Path, around: tuple[int, ...]) -> int:
        """Note what is wrong in *node*; return how many readings it takes to see everything in it."""
        self._nodes += 1
        if id(node) in around or self._nodes > _MAX_NODES or len(around) > 2 * MAX_DEPTH:
            if self.finite:
                text = "contains itself" if id(node) in around else "makes the document too large"
                self.fault(mark_of(node), path, f"an alias of this value {text}")
            self.finite = False
            return 1
        around = (*around, id(node))
        turns = 1
        if isinstance(node, yaml.SequenceNode):
            turns = max((self.scan(child, (*path, n), around) for n, child in enumerate(node.value)), default=1)
        elif isinstance(node, yaml.MappingNode):
            self._scan_keys(node, path)
            for name, occurrences in self._entries(node).items():
                for key, _ in occurrences[1:]:
                    mark, first = mark_of(key), mark_of(occurrences[0][0])
                    where = f"line {first.line}" if first.file == mark.file else place(self._file, first)
                    self.fault(mark, (*path, name), f"already given in {where}; keep one of the two")
                turns = max(turns, sum(self.scan(value, (*path, name), around) for _, value in occurrences))
        elif node.tag in _REFERENCES:
            try:
                self._referred(node)
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) else error
                what = f"{node.tag} {node.value[:60]} leads to nothing: " if isinstance(error, OSError) else ""
                if self._resolve:
                    self.fault(mark_of(node), path, f"{what}{why}")
        else:
            try:
                scalar(node)
            except (ValueError, KeyError):
                kind = node.tag.removeprefix("tag:yaml.org,2002:")
                self.fault(mark_of(node), path, f"{node.value[:40]!r} cannot be read as a value of type {kind}")
        self._turns[id(node)] = turns = min(turns, _MAX_READINGS)
        return turns

    def _scan_keys(self, node: yaml.MappingNode, path: Path) -> None:
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.fault(mark_of(key), path, "a name cannot be a list or a mapping; put it in quotes")
            elif key.tag in _REFERENCES:
                self.fault(mark_of(key), path, "a name cannot be a reference; write it out")
            elif key.tag == MERGE and not all(isinstance(each, yaml.MappingNode) for each in named_by(value)):
                self.fault(mark_of(value), (*path, "<<"), "expected an alias of a mapping, or a list of them")

    def _entries(self, node: yaml.MappingNode) -> _Entries:
        """The occurrences of each key. What is merged in ranks below the mapping's own."""
        if id(node) in self._known:
            return self._known[id(node)]
        entries: _Entries = {}
        self._known[id(node)] = entries  # a mapping that merges itself in ends here
        merged = [each for key, value in node.value if key.tag == MERGE for each in named_by(value)]
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE:
                entries.setdefault(key.value, []).append((key, value))
        for source in merged:
            if isinstance(source, yaml.MappingNode):
                for name, occurrences in self._entries(source).items():
                    entries.setdefault(name, occurrences[:1])
        return entries

    def build(self, root: yaml.MappingNode, turn: int) -> Reading:
        """Reading number *turn* of a document that was scanned and found finite."""
        reading = Reading({}, {}, {})
        reading.data.update(self._value(root, (), turn, reading))
        return reading

    def _value(self, node: yaml.Node, path: Path, turn: int, reading: Reading) -> Any:
        if path:
            reading.values[path] = mark_of(node)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(child, (*path, n), turn, reading) for n, child in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            data = {}
            for name, occurrences in self._entries(node).items():
                key, value, its_turn = self._choose(occurrences, turn)
                reading.keys[*path, name] = mark_of(key)
                data[name] = self._value(value, (*path, name), its_turn, reading)
            return data
        if node.tag in _REFERENCES:
            try:
                referred = self._referred(node)
            except (OSError, ValueError):
                referred = UNRESOLVED
            reading.references[path] = (f"{node.tag} {node.value}", referred)
            if len(referred) >= _TELLING:
                reading.telling.add(str(referred))
            return referred
        try:
            return scalar(node)
        except (ValueError, KeyError):
            return None

    def _referred(self, node: yaml.Node) -> Referred:
        """What a reference leads to. Raises OSError or ValueError."""
        if node.tag == "!env":
            text = self._sources.variable(node.value)
        else:
            text = self._sources.secret(beside(self._file, node.value))
        if not text:
            raise ValueError(f"{node.tag} {node.value[:60]} leads to nothing: it is empty")
        return Referred(text)

    def _choose(self, occurrences: _Occurrences, turn: int) -> tuple[yaml.Node, yaml.Node, int]:
        for key, value in occurrences:
            if turn < self._turns[id(value)]:
                return key, value, turn
            turn -= self._turns[id(value)]
        key, value = occurrences[-1]
        return key, value, self._turns[id(value)] - 1

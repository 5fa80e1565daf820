"""YAML text read into plain data, with the place of every key and value.

Rules: keys are always text, as written. Values are what they look like: decimal numbers; true and false, also as YAML
1.1's yes, no, on and off; null; everything else is text. YAML 1.1's traps are left out: 22:22 is no number, 010 is not
8, a date is text. A repeated key is a fault, and all its values are read: a document has as many readings as it takes
to see each of them once. Anchors, aliases and merge keys (``<<``) work.

It knows nothing of options, and opens no files.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Any

import msgspec
import yaml

from mcmt.errors import Fault

Path = tuple[str | int, ...]
"""Keys and list indexes from the root of the document."""

_Occurrences = list[tuple[yaml.Node, yaml.Node]]
_Entries = dict[str, _Occurrences]

_MAX_DEPTH = 50
_MAX_NODES = 100_000
_MAX_READINGS = 1000
_TAG = "tag:yaml.org,2002:"
_MERGE = _TAG + "merge"
_BOOLEANS = {"yes": True, "on": True, "true": True, "no": False, "off": False, "false": False}


def _resolvers() -> dict[str, list[tuple[str, re.Pattern[str]]]]:
    """What a plain scalar is, by its first character: PyYAML's table with our rules."""
    table: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    for kind, firsts, pattern in (
        ("bool", "yYnNtTfFoO", "(?i:yes|no|true|false|on|off)"),
        ("null", ("~", "n", "N", ""), "(?:~|null|Null|NULL|)"),
        ("int", "-+0123456789", "[-+]?(?:0|[1-9][0-9_]*)"),
        ("float", "-+0123456789", r"[-+]?[0-9]+\.[0-9]*(?:[eE][-+]?[0-9]+)?"),
        ("merge", "<", "<<"),
    ):
        for first in firsts:
            table.setdefault(first, []).append((_TAG + kind, re.compile(pattern + r"\Z")))
    return table


class _Loader(yaml.CSafeLoader):
    yaml_implicit_resolvers = _resolvers()


class Mark(msgspec.Struct, frozen=True, order=True):
    """Line and column, both from 1; 0 where no line is to blame."""

    line: int = 0
    column: int = 0


class Reading(msgspec.Struct, frozen=True):
    """The document as data, each repeated key with one of its values."""

    data: dict[str, Any]
    keys: dict[Path, Mark]
    values: dict[Path, Mark]

    def mark(self, path: Path, *, key: bool = False) -> Mark:
        """Where the value (or with *key* the key) at *path* stands, or the nearest thing around it that has a place."""
        for end in range(len(path), 0, -1):
            places = self.keys if key or end < len(path) else self.values
            if mark := places.get(path[:end]) or self.values.get(path[:end]):
                return mark
        return Mark()


class Document(msgspec.Struct, frozen=True):
    """What a file says, and what is wrong with it as YAML."""

    readings: tuple[Reading, ...]
    """One, unless keys are repeated. None where the text cannot be read at all."""
    faults: tuple[tuple[Mark, Fault], ...]


def place(file: str, mark: Mark) -> str:
    """``file:line:column``, or the file alone."""
    return f"{file}:{mark.line}:{mark.column}" if mark.line else file


def dotted(path: Path) -> str:
    """``domain.apn.example.com.routes``"""
    return ".".join(map(str, path))


def read(content: bytes, file: str) -> Document:
    """Read a configuration file's *content*; *file* is its name as the user gave it. Never raises."""
    builder = _Builder(file)
    try:
        root = _compose(content.decode("utf-8-sig"))
    except _UnreadableError as error:
        builder.fault(error.mark, (), str(error))
        return Document((), tuple(builder.faults))
    except UnicodeDecodeError as error:
        builder.fault(_mark_at(content[: error.start]), (), f"byte 0x{content[error.start]:02x} is not UTF-8")
        return Document((), tuple(builder.faults))
    if root is None:
        return Document((Reading({}, {}, {}),), ())
    if not isinstance(root, yaml.MappingNode):
        builder.fault(_mark(root), (), "expected options as name: value lines")
        return Document((), tuple(builder.faults))
    rounds = builder.scan(root, (), ())
    readings = tuple(builder.build(root, turn) for turn in range(rounds)) if builder.finite else ()
    return Document(readings, tuple(builder.faults))


class _UnreadableError(Exception):
    def __init__(self, mark: Mark, text: str) -> None:
        super().__init__(text)
        self.mark = mark


def _compose(text: str) -> yaml.Node | None:
    try:
        # libyaml's composer recurses on the C stack: look at the depth before it does.
        depth = 0
        for event in yaml.parse(text, Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > _MAX_DEPTH:
                raise _UnreadableError(_mark(event), f"nested more than {_MAX_DEPTH} levels deep")
        loader = _Loader(text)
        return loader.get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = (
            f" ({error.context}, line {error.context_mark.line + 1})" if error.context and error.context_mark else ""
        )
        raise _UnreadableError(
            Mark(mark.line + 1, mark.column + 1) if mark else Mark(), f"not valid YAML: {error.problem}{where}"
        ) from None
    except yaml.reader.ReaderError as error:
        before = text.encode()[: error.position]
        raise _UnreadableError(
            _mark_at(before), f"not valid YAML: character U+{error.character:04X} is not allowed"
        ) from None


def _mark_at(before: bytes) -> Mark:
    last_line = before.rpartition(b"\n")[2].decode("utf-8-sig", "replace")
    return Mark(before.count(b"\n") + 1, len(last_line) + 1)


def _mark(node: Any) -> Mark:
    return Mark(node.start_mark.line + 1, node.start_mark.column + 1)


class _Builder:
    """Two passes over the nodes: ``scan`` finds faults and counts the readings, ``build`` makes one of them."""

    def __init__(self, file: str) -> None:
        self.faults: list[tuple[Mark, Fault]] = []
        self.finite = True
        self._file = file
        self._nodes = 0
        self._turns: dict[int, int] = {}
        """How many readings it takes to see everything in a node, by its identity."""
        self._known: dict[int, _Entries] = {}

    def fault(self, mark: Mark, path: Path, text: str) -> None:
        self.faults.append((mark, Fault(place(self._file, mark), dotted(path), text)))

    def scan(self, node: yaml.Node, path: Path, around: tuple[int, ...]) -> int:
        """Note what is wrong in *node*; return how many readings it takes to see everything in it."""
        self._nodes += 1
        if id(node) in around or self._nodes > _MAX_NODES or len(around) > 2 * _MAX_DEPTH:
            if self.finite:
                text = "contains itself" if id(node) in around else "makes the document too large"
                self.fault(_mark(node), path, f"an alias of this value {text}")
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
                    first = _mark(occurrences[0][0]).line
                    self.fault(_mark(key), (*path, name), f"already given in line {first}; keep one of the two")
                turns = max(turns, sum(self.scan(value, (*path, name), around) for _, value in occurrences))
        else:
            try:
                _scalar(node)
            except (ValueError, KeyError):
                kind = node.tag.removeprefix(_TAG)
                self.fault(_mark(node), path, f"{node.value[:40]!r} cannot be read as a value of type {kind}")
        self._turns[id(node)] = turns = min(turns, _MAX_READINGS)
        return turns

    def _scan_keys(self, node: yaml.MappingNode, path: Path) -> None:
        for key, value in node.value:
            if not isinstance(key, yaml.ScalarNode):
                self.fault(_mark(key), path, "a name cannot be a list or a mapping; put it in quotes")
            elif key.tag == _MERGE and not all(isinstance(each, yaml.MappingNode) for each in _merged(value)):
                self.fault(_mark(value), (*path, "<<"), "expected an alias of a mapping, or a list of them")

    def _entries(self, node: yaml.MappingNode) -> _Entries:
        """The occurrences of each key. What is merged in ranks below the mapping's own."""
        if id(node) in self._known:
            return self._known[id(node)]
        entries: _Entries = {}
        self._known[id(node)] = entries  # a mapping that merges itself in ends here
        merged = [each for key, value in node.value if key.tag == _MERGE for each in _merged(value)]
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != _MERGE:
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
            reading.values[path] = _mark(node)
        if isinstance(node, yaml.SequenceNode):
            return [self._value(child, (*path, n), turn, reading) for n, child in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            data = {}
            for name, occurrences in self._entries(node).items():
                key, value, its_turn = self._choose(occurrences, turn)
                reading.keys[*path, name] = _mark(key)
                data[name] = self._value(value, (*path, name), its_turn, reading)
            return data
        try:
            return _scalar(node)
        except (ValueError, KeyError):
            return None

    def _choose(self, occurrences: _Occurrences, turn: int) -> tuple[yaml.Node, yaml.Node, int]:
        for key, value in occurrences:
            if turn < self._turns[id(value)]:
                return key, value, turn
            turn -= self._turns[id(value)]
        key, value = occurrences[-1]
        return key, value, self._turns[id(value)] - 1


def _merged(value: yaml.Node) -> Iterable[yaml.Node]:
    return value.value if isinstance(value, yaml.SequenceNode) else (value,)


def _scalar(node: yaml.Node) -> Any:
    """The value of a scalar. Raises ValueError or KeyError where its tag or its digits are not understood."""
    text = node.value
    match node.tag.removeprefix(_TAG):
        case "str" | "merge":
            return text
        case "bool":
            return _BOOLEANS[text.lower()]
        case "int":
            return int(text.replace("_", ""))
        case "float":
            return float(text)
        case "null":
            return None
    raise ValueError(node.tag)

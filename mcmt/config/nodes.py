"""YAML text as nodes with their places: what a scalar is, and what of YAML is left out.

Values are what they look like: decimal numbers; true and false, also as YAML 1.1's yes, no, on and off; null;
everything else is text. YAML 1.1's traps are left out: 22:22 is no number, 010 is not 8, a date is text.
"""

from __future__ import annotations

import io
import re
from collections.abc import Iterable
from typing import Any

import msgspec
import yaml

Path = tuple[str | int, ...]
"""Keys and list indexes from the root of the document."""

MAX_DEPTH = 50
MERGE = "tag:yaml.org,2002:merge"
_TAG = "tag:yaml.org,2002:"
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
    file: str = ""
    """An included one; nothing for the configuration itself."""


def place(file: str, mark: Mark) -> str:
    """``file:line:column``, or the file alone. *file*: the configuration itself."""
    return f"{mark.file or file}:{mark.line}:{mark.column}" if mark.line else mark.file or file


def dotted(path: Path) -> str:
    """``domain.apn.example.com.routes``"""
    return ".".join(map(str, path))


class UnreadableError(Exception):
    """A text is no YAML; ``mark`` is where."""

    def __init__(self, mark: Mark, text: str) -> None:
        super().__init__(text)
        self.mark = mark


class _Text(io.StringIO):
    """libyaml gives every mark the name of what it reads."""

    def __init__(self, text: str, name: str) -> None:
        super().__init__(text)
        self.name = name


def compose(content: bytes, file: str) -> yaml.Node | None:
    """The root of what stands in *file*, a name for the marks; None where nothing does. Raises UnreadableError."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        byte = content[error.start]
        raise UnreadableError(_mark_at(content[: error.start], file), f"byte 0x{byte:02x} is not UTF-8") from None
    try:
        # libyaml's composer recurses on the C stack: look at the depth before it does.
        depth = 0
        for event in yaml.parse(_Text(text, file), Loader=_Loader):
            depth += isinstance(event, yaml.CollectionStartEvent) - isinstance(event, yaml.CollectionEndEvent)
            if depth > MAX_DEPTH:
                raise UnreadableError(mark_of(event), f"nested more than {MAX_DEPTH} levels deep")
        return _Loader(_Text(text, file)).get_single_node()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark
        where = (
            f" ({error.context}, line {error.context_mark.line + 1})" if error.context and error.context_mark else ""
        )
        raise UnreadableError(
            Mark(mark.line + 1, mark.column + 1, file) if mark else Mark(file=file),
            f"not valid YAML: {error.problem}{where}",
        ) from None
    except yaml.reader.ReaderError as error:
        before = text.encode()[: error.position]
        raise UnreadableError(
            _mark_at(before, file), f"not valid YAML: character U+{error.character:04X} is not allowed"
        ) from None


def _mark_at(before: bytes, file: str) -> Mark:
    last_line = before.rpartition(b"\n")[2].decode("utf-8-sig", "replace")
    return Mark(before.count(b"\n") + 1, len(last_line) + 1, file)


def mark_of(node: Any) -> Mark:
    """Where a node or an event begins."""
    mark = node.start_mark
    return Mark(mark.line + 1, mark.column + 1, mark.name)


def named_by(value: yaml.Node) -> Iterable[yaml.Node]:
    """What the *value* of a merge key names."""
    return value.value if isinstance(value, yaml.SequenceNode) else (value,)


def scalar(node: yaml.Node) -> Any:
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

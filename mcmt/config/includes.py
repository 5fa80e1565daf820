"""``include``: a configuration in several files, put together as nodes before anything is read out of them.

Rules: a file is included once; what it includes is looked for relative to its own folder. Stanzas of one name are one
stanza, whatever files they stand in; an option that is given twice is a fault, as it is in one file.
"""

from __future__ import annotations

import os.path
from collections.abc import Callable, Iterator, Sequence

import yaml

from mcmt.config.nodes import MERGE, Mark, Path, UnreadableError, compose, mark_of
from mcmt.config.sources import Sources, beside

INCLUDE = "include"
_DEEPEST = 20
_TEXT = "tag:yaml.org,2002:str"
_NULL = "tag:yaml.org,2002:null"

_Fault = Callable[[Mark, Path, str], None]


class Includes:
    """The files of one configuration."""

    def __init__(self, sources: Sources, file: str, fault: _Fault) -> None:
        """*file*: the configuration's name. *fault*: who is told of what is wrong."""
        self._sources = sources
        self._file = file
        self._fault = fault
        self._roots: list[yaml.MappingNode] = []
        self._taken: dict[str, str] = {}
        """Files that were included, and who did."""

    def read(self, content: bytes) -> yaml.MappingNode | None:
        """The root of everything together; None where there is nothing, or nothing that can be read."""
        self._add(content, self._file, "", ())
        return _together(self._roots) if self._roots else None

    def _add(self, content: bytes, file: str, name: str, around: tuple[str, ...]) -> None:
        """Take on *file* and what it includes. *name*: of it in marks, nothing for the configuration itself."""
        try:
            root = compose(content, name)
        except UnreadableError as error:
            self._fault(error.mark, (), str(error))
            return
        if root is None:
            return
        if not isinstance(root, yaml.MappingNode):
            self._fault(mark_of(root), (), "expected options as name: value lines")
            return
        included = [value for key, value in root.value if _named(key, INCLUDE)]
        root.value = [(key, value) for key, value in root.value if not _named(key, INCLUDE)]
        self._roots.append(root)
        around = (*around, os.path.realpath(file))
        for path, item in (each for value in included for each in self._items(value)):
            try:
                files = self._sources.matching(beside(file, item.value))
            except ValueError as error:
                self._fault(mark_of(item), path, str(error))
                continue
            for found in files:
                self._include(found, path, item, around)

    def _items(self, value: yaml.Node) -> Iterator[tuple[Path, yaml.ScalarNode]]:
        items = value.value if isinstance(value, yaml.SequenceNode) else [value]
        for index, item in enumerate(items):
            path: Path = (INCLUDE, index)
            is_text = isinstance(item, yaml.ScalarNode) and item.tag == _TEXT
            if is_text and item.value and "\0" not in item.value:
                yield path, item
            else:
                self._fault(mark_of(item), path, "expected a file, or a pattern such as conf.d/*.yaml")

    def _include(self, file: str, path: Path, item: yaml.ScalarNode, around: tuple[str, ...]) -> None:
        mark = mark_of(item)
        real = os.path.realpath(file)
        if real in around:
            self._fault(mark, path, f"{file} includes itself")
        elif real in self._taken:
            self._fault(mark, path, f"{file} is included already, by {self._taken[real]}")
        elif len(around) > _DEEPEST:
            self._fault(mark, path, f"files include one another more than {_DEEPEST} levels deep")
        else:
            self._taken[real] = f"{mark.file or self._file}:{mark.line}"
            try:
                content = self._sources.file(file)
            except (OSError, ValueError) as error:
                self._fault(mark, path, f"{file} cannot be read: {getattr(error, 'strerror', None) or error}")
            else:
                self._add(content, file, file, around)


def _named(key: yaml.Node, name: str) -> bool:
    return isinstance(key, yaml.ScalarNode) and key.value == name


def _together(nodes: Sequence[yaml.MappingNode]) -> yaml.MappingNode:
    """One mapping of several: what are mappings in each of them becomes one again."""
    if len(nodes) == 1:
        return nodes[0]
    first: dict[str, list[tuple[yaml.Node, yaml.Node]]] = {}
    rest: list[tuple[yaml.Node, yaml.Node]] = []  # merge keys, and what one file has twice
    for node in nodes:
        here: set[str] = set()
        for key, value in node.value:
            if isinstance(key, yaml.ScalarNode) and key.tag != MERGE and key.value not in here:
                here.add(key.value)
                first.setdefault(key.value, []).append((key, value))
            else:
                rest.append((key, value))
    together: list[tuple[yaml.Node, yaml.Node]] = []
    for given in first.values():
        mappings = [value for _, value in given if isinstance(value, yaml.MappingNode)]
        if len(given) > 1 and mappings and all(_empty_or_mapping(value) for _, value in given):
            together.append((given[0][0], _together(mappings)))
        else:
            together += given
    return yaml.MappingNode(nodes[0].tag, together + rest, nodes[0].start_mark, nodes[0].end_mark)


def _empty_or_mapping(value: yaml.Node) -> bool:
    return isinstance(value, yaml.MappingNode) or value.tag == _NULL

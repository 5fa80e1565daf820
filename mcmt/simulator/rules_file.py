"""The rules file: YAML to rules, every fault at once with its line and column.

    rules:
      - {token: "aa*", first: 1, per: token, answer: 500 InternalServerError}
      - {nth: 250, goaway: middle}

Fields and meanings: rules.py, docs/simulator.md. Nothing in the file is executed.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import yaml
from pydantic import ValidationError

from mcmt.errors import ConfigError, Fault
from mcmt.options import OptionsModel
from mcmt.simulator.rules import Rule

_Place = tuple[int, int]
_Path = tuple[str | int, ...]
_MAX_SIZE = 1024 * 1024


class _File(OptionsModel):
    rules: list[Rule] = []  # noqa: RUF012 - pydantic copies it


def read_rules(path: Path) -> tuple[Rule, ...]:
    """The rules in *path*. Raises ConfigError with every fault found."""
    try:
        with path.open("rb") as file:
            content = file.read(_MAX_SIZE + 1)
    except OSError as error:
        raise ConfigError((Fault(str(path), "", f"cannot be read: {error.strerror}"),)) from error
    if len(content) > _MAX_SIZE:
        raise ConfigError((Fault(str(path), "", "is longer than 1 MB; give fewer rules"),))
    loader = yaml.CSafeLoader(content)
    try:
        node = loader.get_single_node()
        if node is None:
            return ()
        places: dict[_Path, _Place] = {}
        faults = list(_walk(node, (), places, path, set()))
        data = {} if faults else loader.construct_document(node)
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}:{mark.column + 1}" if mark else str(path)
        text = getattr(error, "problem", None) or "unreadable"
        raise ConfigError((Fault(place, "", f"is not YAML: {text}"),)) from error
    finally:
        loader.dispose()
    if faults:
        raise ConfigError(tuple(faults))
    try:
        return tuple(_File.model_validate(data).rules)
    except ValidationError as error:
        raise ConfigError(_faults(path, places, error)) from error


def _walk(node: yaml.Node, at: _Path, places: dict[_Path, _Place], file: Path, walked: set[int]) -> Iterator[Fault]:
    """Note where every value stands; yield what YAML allows and a rules file does not."""
    places.setdefault(at, _place(node))
    if id(node) in walked:  # an alias
        return
    walked.add(id(node))
    if isinstance(node, yaml.MappingNode):
        seen: set[str] = set()
        for key, value in node.value:
            name = str(key.value)
            if name in seen:
                yield Fault(_where(file, _place(key)), _dotted((*at, name)), "is given twice; keep one")
            seen.add(name)
            places[(*at, name)] = _place(key)
            yield from _walk(value, (*at, name), places, file, walked)
    elif isinstance(node, yaml.SequenceNode):
        for index, value in enumerate(node.value):
            yield from _walk(value, (*at, index), places, file, walked)


def _faults(file: Path, places: dict[_Path, _Place], error: ValidationError) -> tuple[Fault, ...]:
    texts: dict[_Path, list[str]] = {}
    for item in error.errors():
        at = tuple(item["loc"])
        # pydantic names the branch of a union behind the option; the longest known path is the option.
        known = next((at[:size] for size in range(len(at), -1, -1) if at[:size] in places), ())
        text = item["msg"].removeprefix("Value error, ")
        if item["type"] == "extra_forbidden":
            text = "unknown option; docs/simulator.md lists them"
        texts.setdefault(known, []).append(text)
    return tuple(
        Fault(_where(file, places.get(known, (1, 1))), _dotted(known), ", or: ".join(found))
        for known, found in texts.items()
    )


def _place(node: yaml.Node) -> _Place:
    return node.start_mark.line + 1, node.start_mark.column + 1


def _where(file: Path, place: _Place) -> str:
    return f"{file}:{place[0]}:{place[1]}"


def _dotted(at: _Path) -> str:
    return ".".join(map(str, at))

"""What is wrong with a document, and where: pydantic's errors and our own as Faults with file, line and column.

One ``Checker`` goes over one reading of a document. It never raises: whoever validates goes on with what is right, so
that one run finds everything.
"""

from __future__ import annotations

import difflib
from collections.abc import Callable, Collection, Mapping
from pathlib import Path as FilesystemPath
from typing import Any, TypeVar, get_args

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from mcmt.config.document import NOT_SHOWN, UNRESOLVED, Mark, Path, Reading, Referred, dotted, place
from mcmt.errors import Fault
from mcmt.options import OptionsModel, holds_secret

Model = TypeVar("Model", bound=OptionsModel)

Locate = Callable[[Path], Path]
"""From an option's path in its stanza to its place in the document."""

_TEXTS: Mapping[str, str] = {
    "bool_type": "expected true or false",
    "dict_type": "expected options below it, as name: value lines",
    "finite_number": "expected a number",
    "float_type": "expected a number",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "int_from_float": "expected a whole number",
    "int_type": "expected a whole number",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "list_type": "expected a list such as [a, b]",
    "literal_error": "expected {expected}",
    "missing": "is missing",
    "model_type": "expected options below it, as name: value lines",
    "string_type": "expected text; put it in quotes",
    "too_short": "needs at least {min_length} of them",
    "value_error": "{error}",
}
"""pydantic's error types in an operator's words. Others keep pydantic's."""

_MAX_SHOWN = 60


class Checker:
    """Collects what is wrong with one reading of *file*."""

    def __init__(self, reading: Reading, file: str, base: FilesystemPath) -> None:
        self.data = reading.data
        self.faults: dict[Fault, Mark] = {}
        self.warnings: dict[Fault, Mark] = {}
        self.findings: dict[Fault, Mark] = {}
        self._reading = reading
        self._file = file
        self.base = base
        """The folder that paths are relative to."""

    def fault(self, path: Path, text: str, *, key: bool = False, option: Path | None = None) -> None:
        """Note a fault of the value (or of the *key*) at *path*; *option* names it where it has no place of its own."""
        self._note(self.faults, path, text, key, option)

    def warn(self, path: Path, text: str, *, key: bool = False, option: Path | None = None) -> None:
        """Note something that works and is probably not meant."""
        self._note(self.warnings, path, text, key, option)

    def find(self, path: Path, text: str) -> None:
        """Note what a channel found out about an option."""
        self._note(self.findings, path, text, False, None)

    def _note(self, kind: dict[Fault, Mark], path: Path, text: str, key: bool, option: Path | None) -> None:
        if holds_secret(text):
            text = "cannot be used; it is not repeated here, because it looks like a key or a password"
        text = self._reading.shown(text, path)
        mark = self._reading.mark(path, key=key)
        kind[Fault(place(self._file, mark), dotted(option or path), text)] = mark

    def add(self, path: Path, value: object, mark: Mark) -> None:
        """Have *value* be at *path*, in a stanza that is there, as if it stood at *mark*."""
        around: Any = self.data
        for step in path[:-1]:
            around = around[step]
        around[str(path[-1])] = value
        self._reading.keys[path] = self._reading.values[path] = mark

    def mapping(self, path: Path, value: object) -> dict[str, Any]:
        """*value* as a stanza; one that is empty, or faulty, has no options."""
        if value is None:
            return {}
        if not isinstance(value, dict):
            self.fault(path, f"{_TEXTS['dict_type']}, got {_shown(value)}")
            return {}
        return value

    def stanza(self, model: type[Model], path: Path, value: object) -> tuple[Model | None, frozenset[str | int]]:
        """``validate`` for a stanza whose options are all *model*'s."""
        return self.validate(model, self.mapping(path, value), lambda loc: path + loc)

    def validate(
        self,
        model: type[Model],
        data: Mapping[str, Any],
        locate: Locate,
        *,
        required: bool = True,
        schemes: Collection[str] | None = None,
    ) -> tuple[Model | None, frozenset[str | int]]:
        """The model of what is right in *data*, and the names of what is wrong; None when something needed is missing.

        *locate* tells the place of an option in the document. Without *required*, missing options are no faults.
        *schemes* are those that routes may have.
        """
        context = {"base": self.base, "schemes": schemes}
        given = dict(data)
        for name, value in data.items():
            if value is None:
                self.fault(locate((name,)), "has no value; give it one or remove the line", key=True)
                del given[name]
            elif value is UNRESOLVED or (isinstance(value, list) and any(each is UNRESOLVED for each in value)):
                del given[name]
        wrong: set[str | int] = set(data.keys() - given.keys())
        try:
            return model.model_validate(given, context=context), frozenset(wrong)
        except ValidationError as error:
            details = error.errors()
        for detail in details:
            # What lacks within an option is the option's fault, whoever has to give the option.
            within = len(detail["loc"]) > 1
            if detail["type"] != "missing" or within or (required and detail["loc"][0] not in data):
                self._translate(model, detail, lambda loc: locate(_as_written(loc, data)))
            wrong.update(detail["loc"][:1])
        try:
            right = {name: value for name, value in given.items() if name not in wrong}
            return model.model_validate(right, context=context), frozenset(wrong)
        except ValidationError:
            return None, frozenset(wrong)

    def _translate(self, model: type[OptionsModel], detail: ErrorDetails, locate: Locate) -> None:
        path = locate(detail["loc"])
        kind = detail["type"]
        if kind == "extra_forbidden":
            inner = _model_at(model, detail["loc"][:-1])
            self.unknown(path, inner.NOT_AVAILABLE, inner.model_fields)
        elif kind == "missing":
            self.fault(path[:-1], "is missing", key=True, option=path)
        else:
            text = _TEXTS[kind].format(**detail.get("ctx", {})) if kind in _TEXTS else detail["msg"]
            shown = (
                "what is not shown here" if model.SECRETS.intersection(detail["loc"][:1]) else _shown(detail["input"])
            )
            said = not detail["loc"] or (kind == "value_error" and shown in text)
            self.fault(path, text if said else f"{text}, got {shown}")

    def unknown(
        self, path: Path, not_available: Collection[str], known: Collection[str], elsewhere: Mapping[str, str] = {}
    ) -> None:
        """The option at *path* is none of the *known* ones: say what may have been meant."""
        name = str(path[-1])
        if name in not_available:
            text = "is not available in this version; remove it"
        elif name in elsewhere:
            text = f"is not an option here; {elsewhere[name]}"
        elif near := difflib.get_close_matches(name, known, n=1):
            text = f"unknown option; did you mean {near[0]}?"
        else:
            text = f"unknown option; there are: {', '.join(sorted(known))}" if known else "takes no options"
        self.fault(path, text, key=True)


def _as_written(loc: Path, data: Mapping[str, Any]) -> Path:
    """*loc* without the list that pydantic was given where one alone stands in the file."""
    alone = len(loc) > 1 and loc[1] == 0 and isinstance(data.get(str(loc[0])), dict)
    return (loc[0], *loc[2:]) if alone else loc


def _model_at(model: type[OptionsModel], path: Path) -> type[OptionsModel]:
    """The stanza in which an option at *path* below *model* stands."""
    for step in path:
        field = model.model_fields.get(str(step))
        kinds = () if field is None else (field.annotation, *get_args(field.annotation))
        model = next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, OptionsModel)), model)
    return model


def _shown(value: object) -> str:
    if isinstance(value, Referred):
        return NOT_SHOWN
    if isinstance(value, bool):
        return "true or yes" if value else "false or no"
    text = repr(value)
    if holds_secret(text):
        return "what is not shown here: it looks like a key or a password"
    return text if len(text) <= _MAX_SHOWN else text[: _MAX_SHOWN - 3] + "..."

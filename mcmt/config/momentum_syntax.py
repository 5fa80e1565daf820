"""Momentum's configuration language: stanzas in braces, options with values, comments and includes.

It knows nothing of what the names mean. Names are kept in lower case, as they may be written in any.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec

from mcmt.errors import ConfigError, Fault

_DEEPEST = 50
_TOKEN = re.compile(
    r"""
    (?P<space>\s+ | \#[^\n]* | /\*.*?\*/)
  | (?P<text>"(?:[^"\\]|\\.)*" | '[^']*')
  | (?P<sign>[{}()\[\]=,;])
  | (?P<word>[^\s\#"'{}()\[\]=,;]+)
  | (?P<wrong>.)
    """,
    re.VERBOSE | re.DOTALL,
)
_INCLUDES = ("include", "readonly_include")

Value = str | list["Value"] | dict[str, "Value"]


class Option(msgspec.Struct, frozen=True):
    """``name = value``; no value for a word that stands alone."""

    name: str
    value: Value | None
    place: str
    """``file:line``"""


class Stanza(msgspec.Struct, frozen=True):
    """``name "instance" { ... }``"""

    name: str
    instance: str
    """Nothing where there is none."""
    content: tuple[Option | Stanza, ...]
    place: str


class _Token(msgspec.Struct, frozen=True):
    kind: str
    text: str
    line: int


def parse(file: Path) -> tuple[Option | Stanza, ...]:
    """What stands in *file* and in the files that it includes. Raises ConfigError."""
    return _parse(file, ())


def _parse(file: Path, around: Sequence[Path]) -> tuple[Option | Stanza, ...]:
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = error.strerror if isinstance(error, OSError) else "it is not UTF-8"
        raise ConfigError((Fault(str(file), "", f"cannot be read: {why}"),)) from error
    return tuple(_Parser(file, text, (*around, file.resolve())).content())


class _Parser:
    def __init__(self, file: Path, text: str, around: Sequence[Path]) -> None:
        self._file = file
        self._around = around
        self._tokens = list(_tokens(text))
        self._at = 0
        self._depth = 0

    def content(self, *, within: bool = False) -> Iterator[Option | Stanza]:
        """Statements up to the end, or *within* a stanza up to its brace."""
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error("nested too deep")
        while (token := self._next()) is not None:
            if token.text == ";" and token.kind == "sign":
                continue
            if token.text == "}" and within:
                self._depth -= 1
                return
            if token.kind == "sign" or token.kind == "wrong":
                raise self._error(f"a name was expected, got {token.text!r}", token)
            yield from self._statement(token)
        if within:
            raise self._error('a stanza has no end: "}" is missing')

    def _statement(self, name: _Token) -> Iterator[Option | Stanza]:
        place, told = f"{self._file}:{name.line}", _unquoted(name).lower()
        following = self._peek()
        if following is not None and following.text == "=" and following.kind == "sign":
            self._next()
            yield Option(told, self._value(), place)
        elif following is not None and following.text == "{" and following.kind == "sign":
            self._next()
            yield Stanza(told, "", tuple(self.content(within=True)), place)
        elif following is not None and following.kind in ("text", "word") and following.line == name.line:
            self._next()
            instance = _unquoted(following)
            brace = self._peek()
            if told in _INCLUDES:
                yield from self._included(instance, name)
            elif brace is not None and brace.text == "{" and brace.kind == "sign":
                self._next()
                yield Stanza(told, instance, tuple(self.content(within=True)), place)
            else:
                yield Option(told, None, place)
        else:
            yield Option(told, None, place)

    def _included(self, named: str, token: _Token) -> Iterator[Option | Stanza]:
        if "\0" in named:
            raise self._error("no file has a NUL in its name", token)
        path = self._file.parent / named
        # A folder: its files in alphabetical order, none that begins with a dot, none of the folders in it.
        files = [path]
        if path.is_dir():
            files = sorted(each for each in path.iterdir() if each.is_file() and not each.name.startswith("."))
        for file in files:
            if file.resolve() in self._around:
                raise self._error(f"{file} includes itself", token)
            yield from _parse(file, self._around)

    def _value(self) -> Value:
        token = self._next()
        if token is None:
            raise self._error("a value was expected")
        if token.kind in ("text", "word"):
            return _unquoted(token)
        self._depth += 1
        if self._depth > _DEEPEST:
            raise self._error("nested too deep")
        if token.text == "(":
            items: list[Value] = []
            while not self._ends(")"):
                items.append(self._value())
            self._depth -= 1
            return items
        if token.text == "[":
            entries: dict[str, Value] = {}
            while not self._ends("]"):
                name, sign = self._next(), self._next()
                if name is None or sign is None or sign.text != "=":
                    raise self._error("name = value was expected", name)
                entries[_unquoted(name)] = self._value()
            self._depth -= 1
            return entries
        raise self._error(f"a value was expected, got {token.text!r}", token)

    def _ends(self, bracket: str) -> bool:
        while (token := self._peek()) is not None and token.kind == "sign" and token.text in ",;":
            self._next()
        if token is None:
            raise self._error(f'"{bracket}" is missing')
        if token.kind == "sign" and token.text == bracket:
            self._next()
            return True
        return False

    def _peek(self) -> _Token | None:
        return self._tokens[self._at] if self._at < len(self._tokens) else None

    def _next(self) -> _Token | None:
        token = self._peek()
        self._at += 1
        return token

    def _error(self, text: str, token: _Token | None = None) -> ConfigError:
        line = token.line if token else self._tokens[-1].line if self._tokens else 1
        return ConfigError((Fault(f"{self._file}:{line}", "", text),))


def _tokens(text: str) -> Iterator[_Token]:
    line = 1
    for match in _TOKEN.finditer(text):
        kind = str(match.lastgroup)
        if kind != "space":
            yield _Token(kind, match[0], line)
        line += match[0].count("\n")


def _unquoted(token: _Token) -> str:
    if token.kind != "text":
        return token.text
    inner = token.text[1:-1]
    # Only what has to be: a regular expression keeps its other backslashes.
    return re.sub(r'\\(["\\])', r"\1", inner) if token.text[0] == '"' else inner

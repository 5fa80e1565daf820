"""Pages for man(1), in the macros of man(7). Pure: text in, text out."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable


def escaped(text: str) -> str:
    """*text* as roff shows it, in one line."""
    # groff_char(7): an unescaped hyphen may become another dash, and an option could not be copied.
    plain = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-").replace('"', "\\(dq")
    return _guarded("".join(each if each.isascii() else f"\\[u{ord(each):04X}]" for each in plain))


def _guarded(line: str) -> str:
    """*line*, which is no macro."""
    return f"\\&{line}" if line[:1] in (".", "'") else line


def _filled(text: str) -> list[str]:
    """*text* in lines of a length that people read in a diff."""
    lines = textwrap.wrap(escaped(text), 78, break_long_words=False, break_on_hyphens=False)
    return list(map(_guarded, lines))


class Page:
    """One page, made from its top to its end."""

    def __init__(self, name: str, section: int, date: str, version: str, about: str) -> None:
        """*date*: as ``2026-11-22``."""
        self._lines = [
            f'.TH "{escaped(name.upper())}" "{section}" "{date}" "mcmt {escaped(version)}" "mcmt"',
            ".SH NAME",
            f"{escaped(name)} \\- {escaped(about)}",
        ]

    def section(self, title: str) -> None:
        """``.SH``"""
        self._lines.append(f'.SH "{escaped(title.upper())}"')

    def part(self, title: str) -> None:
        """``.SS``"""
        self._lines.append(f'.SS "{escaped(title)}"')

    def paragraphs(self, text: str) -> None:
        """Text whose paragraphs are parted by empty lines; one that begins with a backspace is shown as it is, as click
        does."""
        for paragraph in re.split(r"\n\s*\n", text.strip()):
            verbatim = paragraph.lstrip().startswith("\b")
            lines = [line for line in paragraph.replace("\b", "").splitlines() if line.strip()]
            if not self._lines[-1].startswith((".SH", ".SS")):
                self._lines.append(".PP")
            if verbatim:
                self._lines += [".nf", *map(escaped, lines), ".fi"]
            else:
                self._lines += _filled(" ".join(lines))

    def item(self, term: str, text: str) -> None:
        """``.TP``"""
        self._lines += [".TP", f"\\fB{escaped(term)}\\fR", *_filled(text)]

    def items(self, items: Iterable[tuple[str, str]]) -> None:
        """Several of them."""
        for term, text in items:
            self.item(term, text)

    def text(self) -> str:
        """The whole page."""
        return "\n".join(self._lines) + "\n"

"""What a domain inherits: the stanzas that hold for it, and what they say together.

From the general to the particular: the top level, the group that has the domain as a member, its own stanza. Everything
is inherited by value. ``null`` takes back what is inherited.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from mcmt.config.document import Path
from mcmt.config.faults import Checker
from mcmt.config.patterns import is_pattern
from mcmt.config.schema import DOMAIN_NAME, GroupStanza
from mcmt.message.address import routing_name

GROUPS = "domain_group"
RULES = "rules"
"""The option that is inherited by the names below it."""


class Scope(NamedTuple):
    """One stanza that holds for a domain."""

    path: Path
    options: dict[str, Any]


class Inherited(msgspec.Struct, frozen=True):
    """What several scopes say together."""

    given: dict[str, Any]
    origins: dict[str, Path]
    """The path of the stanza that each option comes from."""
    rules: dict[str, Path]
    """The same of each rule."""


def gather(scopes: Sequence[Scope]) -> Inherited:
    """What *scopes* say together, the most general one first."""
    given: dict[str, Any] = {}
    origins: dict[str, Path] = {}
    rules: dict[str, Path] = {}
    seen: set[str] = set()
    for path, options in scopes:
        for option, value in options.items():
            if option == RULES and isinstance(value, dict):
                given[option] = _merge(given.get(option), value, path, rules)
                origins[option] = path
            elif value is None and (option in seen or not path):
                given.pop(option, None)
                origins.pop(option, None)
            else:
                given[option] = value
                origins[option] = path
        seen |= options.keys()
    return Inherited(given, origins, rules)


def _merge(inherited: object, own: dict[str, Any], path: Path, origins: dict[str, Path]) -> dict[str, Any]:
    """Rules by name; ``null`` in place of one that is inherited is none."""
    rules = dict(inherited) if isinstance(inherited, dict) else {}
    for name, rule in own.items():
        if rule is None and name in rules:
            del rules[name]
        else:
            rules[name] = rule
            origins[name] = path
    return rules


class Group(msgspec.Struct, frozen=True):
    """A ``domain_group``."""

    scope: Scope
    members: tuple[str, ...]
    """Routing names; those that are right."""


def read_groups(checker: Checker, made: Mapping[str, Sequence[str]] | None = None) -> list[Group]:
    """Every group, with its members; what is wrong with those is noted in *checker*. *made*: of groups that need no
    other members, those that were made."""
    made = made or {}
    found: list[Group] = []
    taken: dict[str, str] = {}
    for name, stanza in checker.mapping((GROUPS,), checker.data.get(GROUPS)).items():
        path: Path = (GROUPS, name)
        options = dict(checker.mapping(path, stanza))
        listed = {"members": options.pop("members")} if "members" in options else {}
        group = None
        if listed or name not in made:
            group, _ = checker.stanza(GroupStanza, path, listed)
        members = []
        for index, written in enumerate(group.members if group else ()):
            place = (*path, "members", index)
            member = routing_name(written)
            if is_pattern(written):
                checker.fault(place, "a group has domains; an expression, or *, is a stanza of its own under domain")
            elif not DOMAIN_NAME.fullmatch(member):
                checker.fault(place, "expected a domain name such as apn.example.com")
            elif member in taken:
                checker.fault(place, f"is in the group {taken[member]} already; a domain has one group")
            else:
                taken[member] = name
                members.append(member)
        members += [member for member in made.get(name, ()) if taken.setdefault(member, name) == name]
        found.append(Group(Scope(path, options), tuple(dict.fromkeys(members))))
    return found

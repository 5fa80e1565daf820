"""The domains that were made for apps of pyapns' clients: their files below the spool, read as if they were included.

A file of ours says whose domain it is; what holds for it comes from ``make_domains`` of today, its group, and whatever
the operator writes in a stanza of its name. Without ``make_domains`` of its suffix a file is not looked at.

Rules: a file that cannot be read is a warning and leaves out its domain, no other.
"""

from __future__ import annotations

import glob
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec
from pydantic import ValidationError

from mcmt.config.faults import Checker
from mcmt.config.made_settings import FOLDER, RECORD, MadeDomain, MakeDomains
from mcmt.config.nodes import Mark
from mcmt.config.schema import MakeDomainsStanza
from mcmt.config.sources import Content, Sources

_CHANNEL = "apn"
_OTHER_CREDENTIALS = ("tls_key", "apn_auth_key", "apn_key_id", "apn_team_id")
"""Options that say how a domain is known to Apple, and that a made one has not."""
_decode = msgspec.json.Decoder(MadeDomain).decode


class MadeDomains(msgspec.Struct, frozen=True):
    """What was made, where anything may be."""

    domains: dict[str, MadeDomain]
    """By name."""
    groups: dict[str, list[str]]
    """The members that each group has of them; of every group that ``make_domains`` names."""


def making_of(stanza: MakeDomainsStanza) -> MakeDomains:
    """The settings that a stanza says."""
    given = {option: getattr(stanza, option) for option in MakeDomainsStanza.model_fields}
    routes = {option: tuple(given[option]) for option in ("production", "sandbox") if given[option]}
    return MakeDomains(**{option: value for option, value in given.items() if value is not None} | routes)


def folder_of(spool: Path) -> Path:
    """Where the files of made domains are."""
    return spool / FOLDER


def with_record(content: Content, spool: Path, made: MadeDomain) -> Content:
    """*content* as it is read when *made* has its file."""
    file = str(folder_of(spool) / made.record)
    found = sorted({*content.matches.get(_pattern(spool), ()), file})
    return Content(
        {**content.files, file: record_of(made)},
        {**content.matches, _pattern(spool): tuple(found)},
        content.variables,
    )


def without_record(content: Content, spool: Path, made: MadeDomain) -> Content:
    """*content* as it is read when *made* has no file."""
    file = str(folder_of(spool) / made.record)
    found = tuple(each for each in content.matches.get(_pattern(spool), ()) if each != file)
    files = {name: octets for name, octets in content.files.items() if name != file}
    return Content(files, {**content.matches, _pattern(spool): found}, content.variables)


def record_of(made: MadeDomain) -> bytes:
    """What stands in its file."""
    return msgspec.json.format(msgspec.json.encode(made)) + b"\n"


def read_made_domains(checker: Checker, sources: Sources, spool: Path) -> MadeDomains | None:
    """What was made, with a stanza for each in what *checker* has; None: nothing is to be made."""
    given = list(_given(checker))
    if not given:
        return None
    making = {one.suffix: one for one in _makings(given, checker.base)}
    found = MadeDomains({}, {one.domain_group: [] for one in making.values() if one.domain_group is not None})
    for file in sources.matching(_pattern(spool)):
        mark = Mark(1, 1, file)
        try:
            made = _decode(sources.file(file))
            if Path(file).name != made.record:
                raise ValueError("it is not named by what stands in it")
        except (OSError, ValueError) as error:
            text = f"{file} cannot be used, and its app has no domain until it is provisioned again: {error}"
            checker.warn(("pyapns",), text)
            continue
        if (how := making.get(made.suffix)) is None:
            continue
        _add_stanza(checker, spool, made, how, mark)
        found.domains[made.domain] = made
        if how.domain_group is not None:
            found.groups[how.domain_group].append(made.domain)
    return found


def _pattern(spool: Path) -> str:
    return f"{glob.escape(str(folder_of(spool)))}/*{RECORD}"


def _given(checker: Checker) -> Iterator[object]:
    """Every ``make_domains``, as it stands there."""
    listen = _mapping(_mapping(checker.data.get("pyapns")).get("listen"))
    yield from (given for each in listen.values() if (given := _mapping(each).get("make_domains")) is not None)


def _makings(given: Iterable[object], base: Path) -> Iterator[MakeDomains]:
    """Those that are right; what is wrong is told where the addresses are read."""
    for each in given:
        try:
            yield making_of(MakeDomainsStanza.model_validate(each, context={"base": base}))
        except ValidationError:
            continue


def _add_stanza(checker: Checker, spool: Path, made: MadeDomain, how: MakeDomains, mark: Mark) -> None:
    data = checker.data
    if not isinstance(data.get("domain"), dict):
        checker.add(("domain",), {}, Mark())
    name = made.domain
    if name not in data["domain"]:
        checker.add(("domain", name), {}, mark)
    own = data["domain"][name]
    if not isinstance(own, dict):
        return
    group = _mapping(_mapping(data.get("domain_group")).get(how.domain_group or ""))
    stanza: dict[str, Any] = {
        "delivery_method": _CHANNEL,
        "routes": [str(route) for route in how.routes(made.environment)],
        "tls_certificate": str(folder_of(spool) / made.pem),
        "apn_topic": made.topic,
        # Inherited from where other domains have theirs; null takes it back.
        **{option: None for option in _OTHER_CREDENTIALS if data.get(option) or group.get(option)},
    }
    for option, value in stanza.items():
        if option not in own:
            checker.add(("domain", name, option), value, mark)


def _mapping(value: object) -> Mapping[str, Any]:
    return value if isinstance(value, dict) else {}

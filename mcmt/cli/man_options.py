"""The manual page mcmt.yaml(5), made of the JSON Schema of the configuration."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import mcmt
from mcmt.channel.plugins import available, load
from mcmt.cli.roff import Page
from mcmt.config.json_schema import alternatives, json_schema

_FILE = ("config/mcmt.yaml, /etc/mcmt/mcmt.yaml", "Where neither --config nor MCMT_CONFIG names another.")
_VALUES = """\
A duration is a number in the option's own unit, or has a suffix: 500ms, 30s, 15m, 2h, 1d. A size is a number of bytes,
or has B, KB, MB or GB (1024 each). A path is relative to the folder of the file.

"!env NAME" is text from a variable of the environment, "!file PATH" text from a file.

After every change: mcmt check. The running engine takes a change with mcmt reload.
"""


def options_page(date: str) -> str:
    """mcmt.yaml(5): every option with what the sample says of it."""
    schema = json_schema({name: load(name) for name in available()})
    domain, group = (schema["$defs"][name]["properties"] for name in ("domain", "domain_group"))
    page = Page("mcmt.yaml", 5, date, mcmt.__version__, "the configuration of mcmt")
    page.section("Description")
    page.paragraphs(_VALUES)
    page.section("Options of the engine")
    top = {name: each for name, each in schema["properties"].items() if name not in domain}
    page.items(_options({name: each for name, each in top.items() if not _stanzas(each)}))
    page.section("Options of a domain")
    page.paragraphs('They stand in a stanza below "domain", in a group, or at top level for all domains.')
    page.items(_options(domain))
    page.section("Options of a group")
    page.paragraphs('In a stanza below "domain_group", beside those of a domain.')
    page.items(_options({name: each for name, each in group.items() if name not in domain}))
    page.section("Stanzas")
    for name, each in top.items():
        for place, properties in _stanzas(each, name):
            page.part(place)
            page.items(_options(properties))
    page.section("Files")
    page.item(*_FILE)
    page.section("See also")
    page.paragraphs("mcmt(1)")
    return page.text()


def _options(properties: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, schema in properties.items():
        told = next((each["description"] for each in alternatives(schema) if each.get("description")), "")
        if told:
            yield name, told
        # One that may also be a list of such stands in the schema twice.
        stanzas = _stanzas(schema, name)
        yield from {f"{place}.{key}": text for place, inner in stanzas for key, text in _options(inner)}.items()


def _stanzas(schema: dict[str, Any], name: str = "") -> list[tuple[str, dict[str, Any]]]:
    """The options of the stanza that *schema* is, or of those within it."""
    found: list[tuple[str, dict[str, Any]]] = []
    for each in alternatives(schema):
        if properties := each.get("properties"):
            found.append((name, {key: inner for key, inner in properties.items() if not _is_map(inner)}))
            for key, inner in properties.items():
                if _is_map(inner):
                    found += _stanzas(inner, f"{name}.{key}")
        if isinstance(inner := each.get("additionalProperties"), dict):
            found += _stanzas(inner, f"{name}.NAME")
    return found


def _is_map(schema: dict[str, Any]) -> bool:
    return any(
        isinstance(each.get("additionalProperties"), dict) and _stanzas(each)
        for each in (schema, *schema.get("anyOf", ()))
    )

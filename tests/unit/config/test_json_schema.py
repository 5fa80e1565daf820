"""The JSON Schema takes what the reader takes, and finds what an editor can find."""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from typing import Any

import jsonschema
import pytest

from mcmt.config.document import read
from mcmt.config.json_schema import alternatives, json_schema
from tests.unit.config.support import channels
from tests.unit.config.test_sample import SAMPLE, uncommented


@cache
def the_schema() -> dict[str, Any]:
    return json_schema(channels())


def faults(text: str) -> list[str]:
    document = read(text.encode(), "mcmt.yaml")
    assert not document.faults
    schema = the_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    validator = jsonschema.Draft202012Validator(schema)
    return [error.json_path for error in validator.iter_errors(document.readings[0].data)]


def test_it_takes_the_sample_as_it_is_and_with_everything_set() -> None:
    assert faults(SAMPLE.read_text()) == []
    assert faults(uncommented()) == []


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("idle_timeuot: 3", "$"),
        ("idle_timeout: 3 weeks", "$.idle_timeout"),
        ("domain: {a: {delivery_method: discard, apn_topic: x}}", "$.domain.a"),
        ("domain: {a: {delivery_method: apn, tls: required, tls_verify: maybe}}", "$.domain.a.tls_verify"),
        ("domain: {a: {routes: []}}", "$.domain.a.routes"),
        ("domain_group: {a: {delivery_method: apn}}", "$.domain_group.a"),
        ("domain_group: {a: {members: [1]}}", "$.domain_group.a.members[0]"),
        ("apn_logger: {a: {rotate: {size: much}}}", "$.apn_logger.a.rotate"),
        ("spool: {pth: x}", "$.spool"),
    ],
)
def test_what_is_no_option_or_no_value_of_it_is_found(text: str, at: str) -> None:
    found = faults(text)
    assert found
    # Within an "anyOf" the place is that of the alternatives.
    assert any(at.startswith(each) for each in found)


@pytest.mark.parametrize(
    "text",
    [
        "tls_verify: no\nidle_timeout: 5m\nretry_interval: 500ms\nmax_retries: auto\nworkers: auto",
        "domain: {'*': {retry_interval: null, delivery_method: smtp}, /x/: , b: {delivery_method: apn, tls: 3}}",
        "rules: {a: {match: {code: [429, 5xx], reason: x}, times: 1, within: 1m, "
        "then: {set: {outbound_throttle_messages: 10/s}, duration: until_resumed}}}\ndomain: {b: {rules: {a: null}}}",
        "domain_group: {apps: {members: [a], apn_topic: x}}\ninclude: [conf.d/*.yaml]",
        "apn_logger: {a: {logmode: 0644, rotate: {size: 1GB, every: none, keep: all}}}",
    ],
)
def test_what_the_reader_takes_it_takes(text: str) -> None:
    assert faults(text) == []


def options(schema: dict[str, Any], place: tuple[str, ...] = ()) -> Iterator[tuple[str, dict[str, Any]]]:
    """Every option that is no stanza, with its place."""
    for alternative in alternatives(schema):
        for name, option in alternative.get("properties", {}).items():
            inner = dict(options(option, (*place, name)))
            yield from inner.items()
            if not inner and not is_stanza(option):
                yield ".".join((*place, name)), option
        if isinstance(each := alternative.get("additionalProperties"), dict):
            yield from options(each, (*place, "NAME"))


def is_stanza(option: dict[str, Any]) -> bool:
    shapes = alternatives(option)
    return any("$ref" in str(each.get("additionalProperties")) or each.get("properties") == {} for each in shapes)


def said_of(option: dict[str, Any]) -> list[str]:
    return [each["description"] for each in alternatives(option) if each.get("description")]


def test_every_option_is_described() -> None:
    """By the comment that stands behind it in config/mcmt.yaml: write one there, and it is in the schema, in the
    manual page and in editors."""
    schema = the_schema()
    found = dict(options(schema))
    for definition, inner in schema["$defs"].items():
        found |= {f"{definition}.{place}": option for place, option in options(inner)}
    assert len(found) > 150
    bare = ("default:", "required")
    told = {place: (*said_of(option), "")[0] for place, option in found.items()}
    assert [place for place, text in told.items() if not text or text.startswith(bare)] == []
    assert "domain.curfew.start" in told


def test_an_option_of_several_channels_is_described_for_each() -> None:
    option = the_schema()["$defs"]["domain"]["properties"]["tls_certificate"]
    assert "apn: PEM, instead of a provider token" in option["description"]
    assert "smtp: PEM, shown to a server" in option["description"]

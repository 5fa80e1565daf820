"""The JSON Schema takes what the reader takes, and finds what an editor can find."""

from __future__ import annotations

import jsonschema
import pytest

from mcmt.config.document import read
from mcmt.config.json_schema import json_schema
from tests.unit.config.support import channels
from tests.unit.config.test_sample import SAMPLE, uncommented


def faults(text: str) -> list[str]:
    document = read(text.encode(), "mcmt.yaml")
    assert not document.faults
    schema = json_schema(channels())
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
        "domain_group: {apps: {members: [a], apn_topic: x}}\ninclude: [conf.d/*.yaml]",
        "apn_logger: {a: {logmode: 0644, rotate: {size: 1GB, every: none, keep: all}}}",
    ],
)
def test_what_the_reader_takes_it_takes(text: str) -> None:
    assert faults(text) == []

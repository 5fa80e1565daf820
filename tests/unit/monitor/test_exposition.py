"""The text format, as Prometheus' own parser reads it."""

from __future__ import annotations

import math

import pytest
from prometheus_client import parser

from mcmt.monitor.exposition import Exposition, number


def test_what_is_written_is_read_back_by_prometheus() -> None:
    page = Exposition()
    page.family("odd", "gauge", "a \\ b\nc")
    values = {'a"b': 1.5, "back\\slash\\n": 2, "new\nline": 1e300, "ä,{}=": -0.0}
    for label, value in values.items():
        page.sample("odd", value, {"domain": label})
    page.family("empty_total", "counter", "Nothing happened.")
    page.family("delay", "histogram", "Seconds.")
    page.histogram("delay", (0.5, 1.0), (3, 0, 2), 12.5, {"domain": "x"})
    odd, empty, delay = parser.text_string_to_metric_families(page.render().decode())
    assert odd.documentation == "a \\ b\nc"
    assert {sample.labels["domain"]: sample.value for sample in odd.samples} == values
    assert (empty.name, empty.type, empty.samples) == ("empty", "counter", [])
    buckets = {sample.labels["le"]: sample.value for sample in delay.samples if sample.name == "delay_bucket"}
    assert buckets == {"0.5": 3, "1.0": 3, "+Inf": 5}
    assert {sample.name: sample.value for sample in delay.samples[-2:]} == {"delay_sum": 12.5, "delay_count": 5}


@pytest.mark.parametrize(
    ("value", "text"), [(7, "7"), (0.25, "0.25"), (math.inf, "+Inf"), (-math.inf, "-Inf"), (math.nan, "NaN")]
)
def test_numbers(value: float, text: str) -> None:
    assert number(value) == text


def test_a_name_that_is_not_utf_8_costs_no_other_sample() -> None:
    page = Exposition()
    page.family("one", "gauge", "One.")
    page.sample("one", 1, {"domain": "\udcff"})
    assert page.render().splitlines()[-1] == b'one{domain="?"} 1'

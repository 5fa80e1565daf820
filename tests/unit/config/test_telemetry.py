"""The ``opentelemetry`` stanza."""

from __future__ import annotations

from pathlib import Path

import pytest

from mcmt.config.changes import changes_between
from tests.unit.config.support import DOMAIN, LISTENER, SPOOL, Configuration


def stanza(options: str) -> str:
    return f"{SPOOL}{LISTENER}{DOMAIN}opentelemetry: {{{options}}}\n"


def good(options: str = "", endpoint: str = "https://otel.example.com/v1/traces") -> str:
    return stanza(f'endpoint: "{endpoint}", {options}')


def test_without_the_stanza_there_is_none(configuration: Configuration) -> None:
    assert configuration.load(f"{SPOOL}{LISTENER}{DOMAIN}").settings.opentelemetry is None


def test_every_option_arrives(configuration: Configuration) -> None:
    text = good(
        "headers: {authorization: Bearer x, X-Scope-OrgID: a}, sample_ratio: 1, sampler: traceidratio, "
        "resource: {team: push}, compression: none, batch_size: 7, batch_wait: 10ms, timeout: 3, max_queued_spans: 99"
    )
    one = configuration.load(text).settings.opentelemetry
    assert one is not None
    assert (one.endpoint, dict(one.headers)) == (
        "https://otel.example.com/v1/traces",
        {"authorization": "Bearer x", "X-Scope-OrgID": "a"},
    )
    assert (one.sample_ratio, one.sampler, dict(one.resource), one.compression) == (
        *(1.0, "traceidratio", {"team": "push"}, "none"),
    )
    assert (one.batch_size, one.batch_wait, one.timeout, one.max_queued_spans) == (7, 0.01, 3.0, 99)


def test_a_header_may_stand_in_a_file_and_is_never_shown(configuration: Configuration, tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("Bearer hidden\n")
    (tmp_path / "secret").chmod(0o600)
    one = configuration.load(good("headers: {authorization: !file secret}")).settings.opentelemetry
    assert one is not None
    assert one.headers["authorization"] == "Bearer hidden"
    for wrong in ("headers: [hidden]", "headers: {authorization: [hidden]}", "headers: {authorization: 'hidden '}"):
        (fault,) = configuration.faults(good(wrong))
        assert "hidden" not in fault


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (good(endpoint="127.0.0.1:4318"), "opentelemetry.endpoint: expected a URL such as http://127.0.0.1:4318"),
        (good(endpoint="https://u:p@x.example.com/v1/traces"), "opentelemetry.endpoint: "),
        (stanza("sample_ratio: 1"), "opentelemetry.endpoint: "),
        (good("sample_ratio: 1.5"), "opentelemetry.sample_ratio: "),
        (good("sampler: always_on"), "opentelemetry.sampler: "),
        (good("headers: {'a b': x}"), "expected the name of a header field"),
        (good("headers: {Host: x}"), "expected the name of a header field"),
        (good('headers: {a: "x\\r\\ny: z"}'), "expected printable ASCII"),
        (good("resource: {'': x}"), "expected the name of an attribute"),
        (good("tls_ca: nowhere.pem"), "nowhere.pem cannot be read"),
        (good("batch_wait: 0"), "opentelemetry.batch_wait: "),
        (good("ratio: 1"), "opentelemetry.ratio: "),
    ],
)
def test_what_is_wrong_is_told_at_its_place(configuration: Configuration, text: str, expected: str) -> None:
    (fault,) = configuration.faults(text)
    assert expected in fault
    assert "mcmt.yaml:4:" in fault


def test_spans_in_clear_over_the_net_are_warned_of(configuration: Configuration) -> None:
    assert configuration.load(good(endpoint="http://[::1]:4318/v1/traces")).warnings == ()
    (warning,) = configuration.load(good(endpoint="http://otel.example.com/v1/traces")).warnings
    assert "the spans, and what stands in headers, go over the net in clear" in str(warning)


def test_it_comes_changes_and_goes_with_a_reload(configuration: Configuration) -> None:
    before = configuration.load(good("sample_ratio: 0.5")).settings
    after = configuration.load(good("sample_ratio: 0.1, headers: {a: b}")).settings
    none = configuration.load(f"{SPOOL}{LISTENER}{DOMAIN}").settings
    found = changes_between(before, after)
    assert (found.options, found.restart) == (("opentelemetry.headers", "opentelemetry.sample_ratio"), ())
    assert found.settings.opentelemetry == after.opentelemetry
    assert changes_between(before, configuration.load(good("sample_ratio: 0.5")).settings).options == ()
    for one, other in ((before, none), (none, before)):
        assert changes_between(one, other).options == ("opentelemetry",)

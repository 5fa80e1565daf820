"""Shaping rules in the file: what is right, who inherits it, and what an expression may cost."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from mcmt.config.load import load
from mcmt.config.rate import Rate
from mcmt.config.rules import LONGEST_TEXT, Rule, RuleBook, compile_reason
from mcmt.errors import ConfigError
from mcmt.eventlog.format import check_format
from tests.unit.config.support import channels

HEAD = """\
spool: {path: spool}
hostname: mx.example.com
esmtp_listener: {listen: {"127.0.0.1:2525": {}}}
"""
TOO_MANY = "too-many: {match: {code: 429}, times: 20, within: 1m, then: {suspend: true, duration: 10m}}"


def rules_of(tmp_path: Path, text: str, domain: str = "a.example.com") -> dict[str, Rule]:
    file = tmp_path / "mcmt.yaml"
    file.write_text(HEAD + text)
    settings = load(file, channels(), check_format=check_format).settings.domain(domain)
    assert settings is not None
    return {rule.name: rule for rule in settings.rules}


def faults(tmp_path: Path, rules: str) -> list[str]:
    file = tmp_path / "mcmt.yaml"
    file.write_text(
        f'{HEAD}domain:\n  "*":\n    delivery_method: discard\n    routes: ["discard://x"]\n    rules:\n{rules}'
    )
    with pytest.raises(ConfigError) as caught:
        load(file, channels(), check_format=check_format)
    return [str(fault).partition("mcmt.yaml:")[2] for fault in caught.value.faults]


def test_a_rule_is_read_with_everything_that_it_says(tmp_path: Path) -> None:
    text = """
domain:
  a.example.com:
    delivery_method: discard
    routes: ["discard://x"]
    rules:
      busy:
        match: {code: [429, 5xx], reason: [TooManyRequests, "/too (many|fast)/"], kind: transient}
        times: 20
        within: 1m
        without_success: true
        then: {set: {outbound_throttle_messages: 10/s, max_retries: auto}, fail: matching, duration: until_resumed}
"""
    assert rules_of(tmp_path, text)["busy"] == Rule(
        name="busy",
        codes=("429", "5xx"),
        reasons=("TooManyRequests", "/too (many|fast)/"),
        kind="transient",
        times=20,
        within=60.0,
        without_success=True,
        fail="matching",
        values=(("max_retries", None), ("outbound_throttle_messages", Rate(10))),
        duration=0.0,
    )


def test_rules_are_inherited_by_name_and_can_be_switched_off(tmp_path: Path) -> None:
    text = f"""
rules:
  {TOO_MANY}
  other: {{match: {{kind: permanent}}, times: 1, within: 1, then: {{fail: queue, duration: 1}}}}
domain_group:
  apps:
    members: [a.example.com, b.example.com, c.example.com]
    rules: {{mine: {{match: {{code: 1}}, times: 1, within: 1, then: {{suspend: true, duration: 1}}}}}}
domain:
  "*": {{delivery_method: discard, routes: ["discard://x"]}}
  a.example.com:
    delivery_method: discard
    routes: ["discard://x"]
    rules:
      too-many: null
      other: {{match: {{code: 500}}, times: 7, within: 1, then: {{suspend: true, duration: 1}}}}
  b.example.com: {{delivery_method: discard, routes: ["discard://x"], rules: null}}
  c.example.com: {{delivery_method: discard, routes: ["discard://x"]}}
"""
    ruled = rules_of(tmp_path, text)
    assert list(ruled) == ["other", "mine"]
    assert ruled["other"].times == 7
    assert rules_of(tmp_path, text, "b.example.com") == {}
    assert list(rules_of(tmp_path, text, "c.example.com")) == ["too-many", "other", "mine"]
    assert list(rules_of(tmp_path, text, "elsewhere.example.com")) == ["too-many", "other"]


@pytest.mark.parametrize(
    ("rule", "fault"),
    [
        ("{match: {code: 4291}, times: 1, within: 1, then: {suspend: true, duration: 1}}", "9:26: expected a code"),
        ("{match: {}, times: 1, within: 1, then: {suspend: true, duration: 1}}", "9:19: would match every answer"),
        ("{match: {code: 1}, times: 0, within: 1, then: {suspend: true, duration: 1}}", "9:37: must be at least 1"),
        ("{match: {code: 1}, times: 1, within: 2d, then: {suspend: true, duration: 1}}", "9:48: must be at most"),
        ("{match: {code: 1}, times: 1, within: 1, then: {duration: 1}}", "9:57: does nothing"),
        ("{match: {code: 1}, times: 1, within: 1, then: {suspend: true}}", "9:51: is missing"),
        ("{match: {code: 1}, times: 1, within: 1, then: {set: {}, duration: 1}}", "9:63: sets nothing"),
        (
            "{match: {code: 1}, times: 1, within: 1, then: {set: {message_expiration: 1}, duration: 1}}",
            "9:64: unknown option",
        ),
        (
            "{match: {code: 1}, times: 1, within: 1, then: {set: {retry_interval: null}, duration: 1}}",
            "9:63: retry_interval has no value",
        ),
        ('{match: {reason: "/(/"}, times: 1, within: 1, then: {suspend: true, duration: 1}}', "9:28: not a regular"),
    ],
)
def test_what_is_wrong_with_a_rule_is_told_with_its_place(tmp_path: Path, rule: str, fault: str) -> None:
    (told,) = faults(tmp_path, f"      one: {rule}\n")
    place, _, text = fault.partition(": ")
    assert told.split(": ")[0].split(":")[0] == place.split(":")[0]
    assert text in told


def test_a_fault_of_an_inherited_rule_is_told_where_it_stands(tmp_path: Path) -> None:
    file = tmp_path / "mcmt.yaml"
    file.write_text(
        HEAD + "rules: {one: {match: {code: 1}, times: 0, within: 1, then: {suspend: true, duration: 1}}}\n"
        'domain: {"*": {delivery_method: discard, routes: ["discard://x"], rules: {'
        "two: {match: {code: 1}, times: 1, within: 1, then: {suspend: true, duration: 1}}}}}\n"
    )
    with pytest.raises(ConfigError) as caught:
        load(file, channels(), check_format=check_format)
    assert [(fault.place.rpartition("mcmt.yaml:")[2], fault.option) for fault in caught.value.faults] == [
        ("4:40", "rules.one.times")
    ]


@pytest.mark.parametrize(
    "expression",
    ["(a+)+b", "(a|a)*b", "((a*))*b", "(x(a+))+", "(a?){50}a", ".*.*.*.*x", "a?a?a?a?aaaa", "(?:a+){3,}", "("],
)
def test_an_expression_that_could_take_long_is_refused(expression: str) -> None:
    with pytest.raises(ValueError, match=r"repet|repeated|regular"):
        compile_reason(f"/{expression}/")


@pytest.mark.parametrize(
    ("expression", "text"),
    [
        (r"too many (connections|requests)", "421 Too many connections from you"),
        (r"4\.7\.\d+ .*throttl", "4.7.28 you are throttled"),
        (r"[+*?]{1}\(\)", "a+()"),
        (r"(rate.limited)?,", "a,"),
    ],
)
def test_an_expression_that_is_simple_is_taken(expression: str, text: str) -> None:
    compiled = compile_reason(f"/{expression}/")
    assert not isinstance(compiled, str)
    assert compiled.search(text)


def test_the_slowest_expression_that_is_taken_ends_soon() -> None:
    book = RuleBook([Rule(name="slow", reasons=("/a?a?a*a*b/",), times=1, within=1.0)])
    begin = time.process_time()
    assert book.matching("500", "a" * 100_000, permanent=False) == ()
    assert time.process_time() - begin < 5
    assert book.matching("500", "a" * LONGEST_TEXT + "b", permanent=False) == (), "only so much of a text is looked at"


def test_an_answer_matches_where_everything_holds_that_is_given() -> None:
    def rule(name: str, **given: object) -> Rule:
        return Rule(name=name, times=1, within=1.0, **given)  # type: ignore[arg-type]

    book = RuleBook(
        [
            rule("code", codes=("429", "5xx")),
            rule("reason", reasons=("Shutdown", "/^too/")),
            rule("both", codes=("503",), reasons=("Shutdown",)),
            rule("permanent", kind="permanent"),
        ]
    )

    def names(code: str, text: str, *, permanent: bool = False) -> list[str]:
        return [each.name for each in book.matching(code, text, permanent=permanent)]

    assert names("429", "TooManyRequests") == ["code", "reason"]
    assert names("503", "Shutdown") == ["code", "reason", "both"]
    assert names("503", "Shutdown now") == ["code"]
    assert names("5030", "x") == []
    assert names("400", "x", permanent=True) == ["permanent"]
    assert names("451", "4.4.2 [internal] no answer within 30000 ms") == [], "what we say ourselves is no answer"

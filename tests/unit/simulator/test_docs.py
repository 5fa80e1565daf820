"""docs/simulator.md names every reserved token, rule field and option that there is."""

from __future__ import annotations

from pathlib import Path

from mcmt.cli.simulate import apns
from mcmt.simulator.reasons import BY_STATUS
from mcmt.simulator.reserved import FAULTS
from mcmt.simulator.rules import Rule, SettingsRule
from mcmt.simulator.rules_file import read_rules

TEXT = (Path(__file__).parents[3] / "docs" / "simulator.md").read_text()


def test_every_reserved_token_is_in_the_manual() -> None:
    for status, reasons in BY_STATUS.items():
        listed = ", ".join(f"{index:02} {reason}" for index, reason in enumerate(reasons))
        assert f"| {status} | {listed} |" in TEXT
    for index, (text, _) in enumerate(FAULTS):
        assert f"| {index:02} | {text} |" in TEXT


def test_every_rule_field_and_every_option_is_in_the_manual() -> None:
    for name in (*Rule.model_fields, *SettingsRule.model_fields):
        assert f"`{name}`" in TEXT
    for option in apns.params:
        assert any(f"`{name}" in TEXT for name in option.opts), option.opts


def test_the_manuals_rules_are_rules(tmp_path: Path) -> None:
    path = tmp_path / "rules.yaml"
    path.write_text(TEXT.split("```yaml\n")[1].split("```")[0])
    assert len(read_rules(path)) == 4

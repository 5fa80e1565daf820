"""A configuration in several files reads as if it stood in one, and every fault names the file that it is in."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from mcmt.config.sources import Content
from mcmt.errors import ConfigError
from tests.unit.config.support import LISTENER, SPOOL, Configuration

SINK = 'delivery_method: discard, routes: ["discard://sink"]'


def files(folder: Path, **texts: str) -> None:
    for name, text in texts.items():
        path = folder / name.replace("__", "/").replace("_yaml", ".yaml")
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)


def test_what_is_included_is_part_of_the_configuration(configuration: Configuration) -> None:
    files(
        configuration.folder,
        conf__b_yaml=f"domain: {{b.example.com: {{{SINK}}}}}\n",
        conf__a_yaml=f"include: deeper/c.yaml\ndomain:\n  a.example.com: {{{SINK}, idle_timeout: 3}}\n",
        conf__hidden="not: read\n",
    )
    (configuration.folder / "conf" / "deeper").mkdir()
    (configuration.folder / "conf" / "deeper" / "c.yaml").write_text("retry_interval: 7\n")
    (configuration.folder / "conf" / ".swap.yaml").write_text("not: read\n")
    loaded = configuration.load(
        f'include: [conf/*.yaml, none.d/*.yaml]\n{SPOOL}{LISTENER}domain: {{"*": {{{SINK}}}}}\n'
    )
    domains = loaded.settings.domains
    assert list(domains) == ["*", "a.example.com", "b.example.com"]
    assert {domain.retry_interval for domain in domains.values()} == {7}
    assert domains["a.example.com"].idle_timeout == 3


def test_a_fault_names_the_file_that_it_is_in(configuration: Configuration) -> None:
    files(
        configuration.folder,
        conf__a_yaml=f"domain:\n  a.example.com: {{{SINK}, idle_timeout: x}}\n  b.example.com: {{{SINK}}}\n",
        conf__b_yaml=f"domain:\n  b.example.com: {{{SINK}}}\nspool: {{path: elsewhere}}\n",
        conf__c_yaml="a: [\n",
        conf__d_yaml="- a\n",
    )
    text = f"{SPOOL}{LISTENER}retry_interval: x\ninclude: [conf/*.yaml, missing.yaml]\n"
    assert [fault.partition(" (a bare")[0].partition(", got")[0] for fault in configuration.faults(text)] == [
        "mcmt.yaml:3:17: retry_interval: expected a duration such as 30, 30s or 500ms",
        "mcmt.yaml:4:24: include.1: missing.yaml cannot be read: No such file or directory",
        "conf/a.yaml:2:87: domain.a.example.com.idle_timeout: expected a duration such as 30, 30s or 500ms",
        "conf/b.yaml:2:19: domain.b.example.com.delivery_method: already given in conf/a.yaml:3:19; "
        "keep one of the two",
        "conf/b.yaml:2:45: domain.b.example.com.routes: already given in conf/a.yaml:3:45; keep one of the two",
        "conf/b.yaml:3:9: spool.path: already given in mcmt.yaml:1:9; keep one of the two",
        "conf/c.yaml:2:1: not valid YAML: did not find expected node content (while parsing a flow node, line 2)",
        "conf/d.yaml:1:1: expected options as name: value lines",
    ]


@pytest.mark.parametrize(
    ("a", "b", "fault"),
    [
        ("include: b.yaml\n", "include: a.yaml\n", "b.yaml:1:10: include.0: a.yaml includes itself"),
        ("include: mcmt.yaml\n", "", "a.yaml:1:10: include.0: mcmt.yaml includes itself"),
        ("include: [b.yaml, ./b.yaml]\n", "", "a.yaml:1:19: include.0: b.yaml is included already, by a.yaml:1"),
        ("include: {b: c}\n", "", "a.yaml:1:10: include.0: expected a file, or a pattern such as conf.d/*.yaml"),
        ("include: [1]\n", "", "a.yaml:1:11: include.0: expected a file, or a pattern such as conf.d/*.yaml"),
        ("include: [.]\n", "", "a.yaml:1:11: include.0: . cannot be read: Is a directory"),
        ("include: /dev/zero\n", "", "a.yaml:1:10: include.0: /dev/zero cannot be read: it is no regular file"),
    ],
)
def test_what_cannot_be_included_is_a_fault(configuration: Configuration, a: str, b: str, fault: str) -> None:
    files(configuration.folder, a_yaml=a, b_yaml=b)
    (told,) = configuration.faults(f"{SPOOL}{LISTENER}include: a.yaml\ndomain: {{'*': {{{SINK}}}}}\n")
    assert told.replace("include.1", "include.0").replace(f"{configuration.folder}", ".") == fault


def test_files_that_include_one_another_without_end_are_a_fault(configuration: Configuration) -> None:
    for number in range(40):
        (configuration.folder / f"f{number}.yaml").write_text(f"include: f{number + 1}.yaml\n")
    fault = configuration.fault(f"{SPOOL}{LISTENER}include: f0.yaml\ndomain: {{'*': {{{SINK}}}}}\n")
    assert fault.endswith("files include one another more than 20 levels deep")


def test_another_process_reads_what_was_read_whatever_has_become_of_it(
    configuration: Configuration, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A worker that is started again runs with the configuration that its supervisor runs with."""
    files(configuration.folder, conf__a_yaml=f"domain: {{a.example.com: {{{SINK}}}}}\n")
    secret = configuration.folder / "secret"
    secret.touch(0o600)
    secret.write_text("com.example.app\n")
    monkeypatch.setenv("MCMT_TEST_HOST", "mx.example.com")
    text = f"{SPOOL}{LISTENER}include: conf/*.yaml\nhostname: !env MCMT_TEST_HOST\napn_topic: !file secret\n"
    first = configuration.load(text)
    assert first.settings.hostname == "mx.example.com"

    shutil.rmtree(configuration.folder / "conf")
    secret.unlink()
    monkeypatch.delenv("MCMT_TEST_HOST")
    assert isinstance(first.content, Content)
    assert configuration.load("", content=first.content).settings == first.settings
    with pytest.raises(ConfigError):
        configuration.load(text)


def test_what_was_read_does_not_show_itself(configuration: Configuration) -> None:
    loaded = configuration.load(f"{SPOOL}{LISTENER}domain: {{'*': {{{SINK}}}}}\n")
    assert repr(loaded.content) == f"Content({os.fspath(configuration.file)})"

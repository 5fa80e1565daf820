"""Loggers: one file each, Momentum's formats unless others are given, and a main log whatever happens."""

from __future__ import annotations

from typing import Any

import pytest

from channels.apn import LOGGER
from mcmt.config.settings import RotateSettings
from tests.unit.config.support import DOMAIN, LISTENER, SPOOL, Configuration

BASE = SPOOL + LISTENER + DOMAIN
WRITTEN: dict[str, Any] = {"size": 1024**3, "every": 43200.0, "keep": 30, "compress": "none"}


def test_a_channels_logger_has_the_channels_file_and_formats(configuration: Configuration) -> None:
    (logger,) = configuration.load(BASE + "apn_logger: {apn_logger1: {}}\n").settings.channel_loggers

    assert logger.name == "apn_logger.apn_logger1"
    assert logger.channel == "apn"
    assert logger.logfile == configuration.folder.parent / "logs" / "apnlog.ec"
    assert logger.logmode == 0o644
    assert logger.delivery_format == LOGGER.delivery
    assert logger.tempfail_format == LOGGER.tempfail
    assert logger.permfail_format == LOGGER.permfail
    assert logger.heartbeat_format == LOGGER.heartbeat


def test_every_option_of_a_logger_arrives(configuration: Configuration) -> None:
    text = """\
apn_logger:
  one:
    logfile: /var/log/one.ec
    logmode: "0600"
    heartbeat: 1m
    format: json
    token_log: hash
    log_delivery: off
    log_tempfail: no
    log_permfail: false
    log_delivery_format: "%t"
    log_tempfail_format: "%t@T"
    log_permfail_format: ""
    log_heartbeat_format: "%t@M"
"""
    (logger,) = configuration.load(BASE + text).settings.channel_loggers

    assert str(logger.logfile) == "/var/log/one.ec"
    assert logger.logmode == 0o600
    assert (logger.heartbeat, logger.format, logger.token_log) == (60.0, "json", "hash")
    assert (logger.log_delivery, logger.log_tempfail, logger.log_permfail) == (False, False, False)
    assert (logger.delivery_format, logger.tempfail_format) == ("%t", "%t@T")
    assert (logger.permfail_format, logger.heartbeat_format) == ("", "%t@M")


@pytest.mark.parametrize(
    ("written", "mode"), [("0644", 0o644), ('"0644"', 0o644), ("644", 0o644), ("0o640", 0o640), ("0600", 0o600)]
)
def test_logmode_is_octal_however_it_is_written(configuration: Configuration, written: str, mode: int) -> None:
    loaded = configuration.load(f"{BASE}apn_logger: {{one: {{logmode: {written}}}}}\n")
    assert loaded.settings.channel_loggers[0].logmode == mode


@pytest.mark.parametrize("written", ["420", "0444", "0888", "rw", "yes", "06444", "6.5"])
def test_a_logmode_that_cannot_be_meant_is_a_fault(configuration: Configuration, written: str) -> None:
    assert "mode in octal such as 0644" in configuration.fault(f"{BASE}apn_logger: {{one: {{logmode: {written}}}}}\n")


def test_a_format_is_checked_by_whoever_formats(configuration: Configuration) -> None:
    def refuse(text: str) -> None:
        if "%q" in text:
            raise ValueError("unknown macro %q")

    text = BASE + 'apn_logger:\n  one:\n    log_permfail_format: "%q"\n'
    assert configuration.faults(text, refuse) == [
        "mcmt.yaml:6:26: apn_logger.one.log_permfail_format: unknown macro %q"
    ]


def test_the_main_log_cannot_be_switched_off(configuration: Configuration) -> None:
    (main,) = configuration.load(BASE + "ec_logger: {one: {rejectlog: reject.ec}}\n").settings.mainlog

    assert main.logfile == configuration.folder / "spool" / "mainlog.ec"
    assert main.channel is None


def test_main_and_reject_log_of_one_stanza_have_names_of_their_own(configuration: Configuration) -> None:
    settings = configuration.load(
        BASE + "ec_logger: {one: {mainlog: main.ec, rejectlog: reject.ec, logmode: 0600}}\n"
    ).settings

    assert [log.name for log in settings.mainlog] == ["ec_logger.one"]
    assert [log.name for log in settings.rejectlog] == ["ec_logger.one.rejectlog"]
    assert [log.logmode for log in (*settings.mainlog, *settings.rejectlog)] == [0o600, 0o600]


@pytest.mark.parametrize(
    ("stanzas", "fault"),
    [
        (
            "ec_logger: {one: {mainlog: a.ec, rejectlog: ./a.ec}}",
            "ec_logger.one.rejectlog: ec_logger.one.mainlog already writes to",
        ),
        (
            "apn_logger: {one: {logfile: a.ec}}\nec_logger: {one: {mainlog: b/../a.ec}}",
            "ec_logger.one.mainlog: apn_logger.one.logfile already writes to",
        ),
        ("apn_logger: {one: {}, two: {}}", "apn_logger.two.logfile: apn_logger.one.logfile already writes to"),
        ("apn_logger: {one: {logfile: spool/mainlog.ec}}", "ec_logger: apn_logger.one.logfile already writes to"),
    ],
)
def test_two_loggers_with_one_file_are_a_fault(configuration: Configuration, stanzas: str, fault: str) -> None:
    assert fault in configuration.fault(f"{BASE}{stanzas}\n")


@pytest.mark.parametrize("name", ["shard-0.sqlite", "shard-0.sqlite-wal", "state.sqlite", "lock", "control.sock"])
def test_a_log_in_place_of_a_file_of_the_spool_is_a_fault(configuration: Configuration, name: str) -> None:
    """Lines appended to the spool's database would damage it."""
    fault = configuration.fault(f"{BASE}ec_logger: {{one: {{mainlog: spool/x/../{name}}}}}\n")
    assert "ec_logger.one.mainlog: " in fault
    assert "is a file of the spool itself" in fault


def test_a_logger_without_files_is_a_fault(configuration: Configuration) -> None:
    assert configuration.fault(BASE + "ec_logger: {one: }\n").endswith(
        "ec_logger.one: names no file; give mainlog, rejectlog or both"
    )


@pytest.mark.parametrize(
    ("written", "meant"),
    [
        ("", RotateSettings()),
        ("size: 1GB, every: 12h, keep: 30, compress: none", RotateSettings(**WRITTEN)),
        ("size: none, every: none, keep: all", RotateSettings(size=None, every=None, keep=None)),
        ("size: 65536, every: 3600", RotateSettings(size=65536, every=3600.0)),
    ],
)
def test_rotation_is_set_for_each_logger_and_for_both_files_of_a_main_logger(
    configuration: Configuration, written: str, meant: RotateSettings
) -> None:
    settings = configuration.load(
        f"{BASE}apn_logger: {{one: {{rotate: {{{written}}}}}, two: {{logfile: two.ec}}}}\n"
        f"ec_logger: {{one: {{mainlog: main.ec, rejectlog: reject.ec, rotate: {{{written}}}}}}}\n"
    ).settings
    assert [log.rotate for log in settings.channel_loggers] == [meant, None]
    assert [log.rotate for log in (*settings.mainlog, *settings.rejectlog)] == [meant, meant]


@pytest.mark.parametrize(
    ("written", "fault"),
    [
        ("{size: 1KB}", "rotate.size: must be at least 64KB, or none"),
        ("{size: big}", "rotate.size: expected a size such as"),
        ("{every: 1}", "rotate.every: must be at least 60 seconds, or none; for a day write 1d"),
        ("{every: day}", "rotate.every: expected a duration such as"),
        ("{keep: 0}", "rotate.keep: expected all, or how many rotated files stay"),
        ("{keep: true}", "rotate.keep: expected all, or how many rotated files stay"),
        ("{compress: zstd}", "rotate.compress: expected 'gzip' or 'none'"),
        ("{sise: 1GB}", "rotate.sise: unknown option; did you mean size?"),
        ("{size: }", "rotate.size: has no value"),
        ("daily", "rotate: expected options below it"),
        ("", "rotate: has no value"),
    ],
)
@pytest.mark.parametrize("stanza", ["apn_logger: {one: {rotate: %s}}", "ec_logger: {one: {mainlog: a.ec, rotate: %s}}"])
def test_what_is_wrong_about_rotation_is_told_with_its_place(
    configuration: Configuration, stanza: str, written: str, fault: str
) -> None:
    assert f".one.{fault}" in configuration.fault(f"{BASE}{stanza % written}\n")


def test_a_push_domain_without_a_notification_log_is_a_warning(configuration: Configuration) -> None:
    domain = 'domain: {a.example.com: {delivery_method: apn, routes: ["apn://localhost"]}}\ngenerate_bounces: false\n'
    (warning,) = configuration.load(SPOOL + LISTENER + domain, open_files=False).warnings
    assert "apn_logger: there is none, so deliveries for a.example.com are only in the main log" in str(warning)


def test_a_channel_without_a_log_has_no_logger_stanza(configuration: Configuration) -> None:
    assert "discard_logger: unknown option" in configuration.fault(BASE + "discard_logger: {one: {}}\n")

"""Which events go into which file."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec
import pytest

from channels.apn.logger import LOGGER
from mcmt.config.settings import EventLogSettings, Settings, SpoolSettings
from mcmt.errors import EventLogError
from mcmt.eventlog.loggers import build_loggers
from mcmt.message.event import Event, Kind
from tests.unit.eventlog.support import delivery

CHANNEL = EventLogSettings(
    name="apn_logger.one",
    channel="apn",
    logfile=Path("/logs/apnlog.ec"),
    delivery_format=LOGGER.delivery,
    tempfail_format=LOGGER.tempfail,
    permfail_format=LOGGER.permfail,
    heartbeat_format=LOGGER.heartbeat,
)
MAIN = EventLogSettings(name="ec_logger.one", channel=None, logfile=Path("/logs/mainlog.ec"))
REJECT = EventLogSettings(name="ec_logger.one", channel=None, logfile=Path("/logs/rejectlog.ec"))


def settings(*channel: EventLogSettings, main: EventLogSettings = MAIN, reject: EventLogSettings = REJECT) -> Settings:
    return Settings(
        file=Path("/config/mcmt.yaml"),
        hostname="mx.example.com",
        workers=1,
        spool=SpoolSettings(path=Path("/spool")),
        listen=(),
        domains={},
        channel_loggers=channel,
        mainlog=(main,),
        rejectlog=(reject,),
        control_socket=Path("/spool/control.sock"),
    )


def taken(event: Event, *channel: EventLogSettings) -> list[str]:
    return [logger.name for logger in build_loggers(settings(*channel)) if logger.render(event) is not None]


def kind(letter: str, **fields: object) -> Event:
    return delivery(0, kind=Kind(letter), **fields)


ALL = ["apn_logger.one", "ec_logger.one"]


@pytest.mark.parametrize(
    ("event", "loggers"),
    [
        (kind("D"), ALL),
        (kind("T"), ALL),
        (kind("P"), ALL),
        (kind("R"), ["ec_logger.one"]),
        (kind("N"), ["ec_logger.one"]),
        (kind("Q"), ["ec_logger.one"]),
        (kind("J"), ["ec_logger.one", "ec_logger.one.rejectlog"]),
        (kind("D", channel="smtp"), ["ec_logger.one"]),
        (kind("M", channel="apn_logger.one"), ["apn_logger.one"]),
        (kind("M", channel="ec_logger.one"), ["ec_logger.one"]),
        (kind("M", channel="ec_logger.one.rejectlog"), ["ec_logger.one.rejectlog"]),
        (kind("M", channel="gone"), []),
    ],
)
def test_every_event_goes_to_its_loggers(event: Event, loggers: list[str]) -> None:
    assert taken(event, CHANNEL) == loggers


@pytest.mark.parametrize(("switch", "letter"), [("delivery", "D"), ("tempfail", "T"), ("permfail", "P")])
def test_a_switch_takes_its_lines_out_of_the_channels_log_alone(switch: str, letter: str) -> None:
    quiet = msgspec.structs.replace(CHANNEL, **{f"log_{switch}": False})
    assert taken(kind(letter), quiet) == ["ec_logger.one"]
    assert all(taken(kind(other), quiet) == ALL for other in "DTP" if other != letter)


def test_every_logger_may_write_json() -> None:
    json_too = settings(
        msgspec.structs.replace(CHANNEL, format="json", token_log="masked"),
        main=msgspec.structs.replace(MAIN, format="json"),
        reject=msgspec.structs.replace(REJECT, format="json"),
    )
    channel, main, reject = build_loggers(json_too)
    assert json.loads(channel.render(kind("D")) or "")["token"] == "abab...abab"
    assert json.loads(main.render(kind("R", deliveries=2)) or "")["deliveries"] == 2
    assert json.loads(reject.render(kind("J")) or "")["type"] == "J"


def test_two_loggers_cannot_share_a_file() -> None:
    with pytest.raises(EventLogError, match=r"apn_logger\.one and ec_logger\.one share the file /logs/"):
        build_loggers(settings(CHANNEL, main=msgspec.structs.replace(MAIN, logfile=Path("/logs/../logs/apnlog.ec"))))


def test_two_loggers_cannot_share_a_name() -> None:
    with pytest.raises(EventLogError, match="share a name"):
        build_loggers(settings(CHANNEL, msgspec.structs.replace(CHANNEL, logfile=Path("/logs/other.ec"))))


def test_a_log_cannot_be_named_as_a_rotated_file() -> None:
    """``keep`` of another logger would delete it."""
    with pytest.raises(EventLogError, match=r"is a name as rotated files have; give apn_logger\.one another logfile"):
        build_loggers(settings(msgspec.structs.replace(CHANNEL, logfile=Path("/logs/a.ec-20261122T180000Z"))))


def test_a_bad_format_is_refused_with_its_option() -> None:
    with pytest.raises(EventLogError, match=r"apn_logger\.one\.log_tempfail_format: unknown macro %q at column 1"):
        build_loggers(settings(msgspec.structs.replace(CHANNEL, tempfail_format="%q")))


def test_an_event_that_cannot_be_rendered_still_has_a_line() -> None:
    dated = msgspec.structs.replace(CHANNEL, delivery_format="%t{%Y}")
    line = build_loggers(settings(dated))[0].render(kind("D", time=1e300))
    assert line == "1e+300@D@018bcfe568007123a8b9c0d1-0@[internal] cannot be rendered: OverflowError"

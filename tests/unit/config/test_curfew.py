"""When a curfew holds: by the clock on the wall of its time zone, whatever that clock does."""

from __future__ import annotations

from datetime import datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.config.curfew import DAYS, Curfew, quiet
from mcmt.config.explain import explain
from tests.unit.config.support import LISTENER, SPOOL, Configuration

HEAD = SPOOL + LISTENER
SINK = 'delivery_method: discard, routes: ["discard://sink"]'
BERLIN = "Europe/Berlin"
NIGHT = Curfew(22 * 60, 7 * 60, BERLIN)


def at(text: str) -> float:
    """Seconds since the epoch of an ISO time with its offset."""
    return datetime.fromisoformat(text).timestamp()


def until(curfew: Curfew, text: str) -> str:
    """When what holds at *text* ends, with its offset; empty: nothing holds."""
    end = curfew.holds_until(at(text))
    return "" if end is None else datetime.fromtimestamp(end, ZoneInfo(curfew.time_zone)).isoformat(timespec="minutes")


def test_it_wraps_over_midnight() -> None:
    assert until(NIGHT, "2026-01-10T21:59:59+01:00") == ""
    assert until(NIGHT, "2026-01-10T22:00:00+01:00") == "2026-01-11T07:00+01:00"
    assert until(NIGHT, "2026-01-11T06:59:59+01:00") == "2026-01-11T07:00+01:00"
    assert until(NIGHT, "2026-01-11T07:00:00+01:00") == ""
    assert until(NIGHT, "2026-01-10T22:30:00+00:00") == "2026-01-11T07:00+01:00", "by the clock of its own zone"


def test_it_belongs_to_the_day_on_which_it_starts() -> None:
    friday = Curfew(22 * 60, 7 * 60, BERLIN, ("fri",))  # 2026-01-09 is one
    assert until(friday, "2026-01-08T23:00:00+01:00") == ""
    assert until(friday, "2026-01-09T03:00:00+01:00") == ""
    assert until(friday, "2026-01-09T23:00:00+01:00") == "2026-01-10T07:00+01:00"
    assert until(friday, "2026-01-10T03:00:00+01:00") == "2026-01-10T07:00+01:00"
    assert until(friday, "2026-01-10T23:00:00+01:00") == ""


def test_it_has_its_length_on_the_clock_when_daylight_saving_begins_and_ends() -> None:
    # Berlin: 2026-03-29 02:00 becomes 03:00; 2026-10-25 03:00 becomes 02:00.
    spring = "2026-03-28T22:00:00+01:00"
    assert until(NIGHT, spring) == "2026-03-29T07:00+02:00"
    assert at("2026-03-29T07:00+02:00") - at(spring) == 8 * 3600
    autumn = "2026-10-24T22:00:00+02:00"
    assert until(NIGHT, autumn) == "2026-10-25T07:00+01:00"
    assert at("2026-10-25T07:00+01:00") - at(autumn) == 10 * 3600


def test_a_time_that_the_clock_leaves_out_is_the_moment_at_which_it_is_left_out() -> None:
    ends = Curfew(22 * 60, 2 * 60 + 30, BERLIN)
    assert until(ends, "2026-03-29T01:59:59+01:00") == "2026-03-29T03:00+02:00"
    assert until(ends, "2026-03-29T03:00:00+02:00") == ""
    begins = Curfew(2 * 60 + 30, 6 * 60, BERLIN)
    assert until(begins, "2026-03-29T01:59:59+01:00") == ""
    assert until(begins, "2026-03-29T03:00:00+02:00") == "2026-03-29T06:00+02:00"
    within = Curfew(2 * 60 + 10, 2 * 60 + 50, BERLIN)
    assert until(within, "2026-03-29T03:00:00+02:00") == "", "that night it has no length"
    assert until(within, "2026-03-30T02:10:00+02:00") == "2026-03-30T02:50+02:00"


def test_a_time_that_the_clock_shows_twice_is_within_it_both_times() -> None:
    ends = Curfew(22 * 60, 2 * 60 + 30, BERLIN)
    for moment in ("02:15:00+02:00", "02:45:00+02:00", "02:00:00+01:00", "02:29:59+01:00"):
        assert until(ends, f"2026-10-25T{moment}") == "2026-10-25T02:30+01:00", moment
    assert until(ends, "2026-10-25T02:30:00+01:00") == ""
    begins = Curfew(2 * 60 + 30, 6 * 60, BERLIN)
    assert until(begins, "2026-10-25T02:29:59+02:00") == ""
    for moment in ("02:30:00+02:00", "02:15:00+01:00", "02:45:00+01:00"):
        assert until(begins, f"2026-10-25T{moment}") == "2026-10-25T06:00+01:00", moment


@given(
    start=st.integers(0, 1439),
    length=st.integers(1, 1439),
    zone=st.sampled_from([BERLIN, "America/New_York", "Australia/Lord_Howe", "Asia/Kolkata", "UTC"]),
    minute=st.integers(0, 366 * 1440),
)
def test_whenever_the_clock_shows_a_time_within_it_it_holds(start: int, length: int, zone: str, minute: int) -> None:
    curfew = Curfew(start, (start + length) % 1440 or 1440, zone)
    moment = at("2026-01-01T12:00:00+00:00") + minute * 60.0
    shown = datetime.fromtimestamp(moment, ZoneInfo(zone))
    within = (shown.hour * 60 + shown.minute - start) % 1440 < length
    if within:
        end = curfew.holds_until(moment)
        assert end is not None
        assert moment < end <= moment + (length + 61) * 60
    elif (end := curfew.holds_until(moment)) is not None:
        # The clock was put back in the midst of it.
        offsets = {datetime.fromtimestamp(moment + hours * 3600, ZoneInfo(zone)).utcoffset() for hours in (-2, 0, 2)}
        assert len(offsets) == 2


def test_those_that_follow_upon_each_other_end_together() -> None:
    weekend = Curfew(0, 1440, BERLIN, ("sat", "sun"))
    found = quiet((weekend, NIGHT), at("2026-01-09T23:00:00+01:00"))
    assert str(found) == "until 2026-01-12 07:00 Europe/Berlin"
    assert quiet((weekend, NIGHT), at("2026-01-12T12:00:00+01:00")) is None
    lenient = Curfew(22 * 60, 7 * 60, BERLIN, exempt="high")
    for curfews, exempt in (((lenient,), True), ((lenient, weekend), True), ((lenient, NIGHT), False)):
        found = quiet(curfews, at("2026-01-09T23:00:00+01:00"))
        assert found is not None
        assert found.exempt is exempt, "all that hold now have to say so"
    elsewhere = Curfew(7 * 60, 8 * 60, "UTC")
    assert str(quiet((NIGHT, elsewhere), at("2026-06-10T23:00:00+02:00"))) == "until 2026-06-11 07:00 Europe/Berlin"


def test_one_or_a_list_of_them_inherited_by_value(configuration: Configuration) -> None:
    text = f"""\
{HEAD}
curfew: {{start: 22:00, end: "7:00", time_zone: Europe/Berlin}}
domain:
  a.example.com: {{{SINK}}}
  b.example.com:
    {SINK.replace(", routes", chr(10) + "    routes")}
    curfew:
      - {{start: "00:00", end: "24:00", time_zone: UTC, days: [sun, sat]}}
      - {{start: "12:30", end: "13:00", time_zone: America/New_York}}
  c.example.com: {{{SINK}, curfew: null}}
  d.example.com: {{{SINK}, curfew: []}}
"""
    loaded = configuration.load(text)
    shown = {name[0]: [*map(str, domain.curfew)] for name, domain in loaded.settings.domains.items()}
    assert shown == {
        "a": ["22:00-07:00 Europe/Berlin"],
        "b": ["00:00-24:00 UTC sat,sun", "12:30-13:00 America/New_York"],
        "c": [],
        "d": [],
    }
    explained = explain(loaded, "b.example.com")
    assert explained is not None
    (option,) = [one for one in explained.options if one.option == "curfew"]
    assert option.value == shown["b"]


@pytest.mark.parametrize(
    ("written", "blamed", "option", "text"),
    [
        ("{start: 22h, end: 7:00, time_zone: UTC}", "22h", ".start", "expected a time of the day"),
        ("{start: 22:00, end: 25:00, time_zone: UTC}", "25:00", ".end", "expected a time of the day"),
        ("{start: 22:00, end: 7:00, time_zone: Europe/Berln}", "Europe/Berln", ".time_zone", "no such time zone"),
        ("{start: 22:00, end: 7:00, time_zone: Europe}", "Europe}", ".time_zone", "no such time zone"),
        ("{start: 22:00, end: 7:00, time_zone: ../../etc/passwd}", "../../", ".time_zone", "no such time zone"),
        ("{start: 22:00, end: 7:00}", "", ".time_zone", "is missing"),
        ("{start: 22:00, end: 22:00, time_zone: UTC}", "{", "", "has no length"),
        ("{start: 24:00, end: 7:00, time_zone: UTC}", "{", "", "has no length"),
        ("{start: 22:00, end: 7:00, time_zone: UTC, days: [monday]}", "monday", ".days.0", "'mon'"),
        ("{start: 22:00, end: 7:00, time_zone: UTC, days: []}", "[]", ".days", ""),
        ("{from: 22:00, end: 7:00, time_zone: UTC, start: 1:00}", "from", ".from", "unknown option"),
        ("[{start: 1:00, end: 2:00, time_zone: X}]", "X", ".0.time_zone", "no such time zone"),
        ("{start: 0:00, end: 24:00, time_zone: UTC}", "{", "", "leaves no time"),
        ("tonight", "tonight", "", ""),
    ],
)
def test_what_is_no_curfew_is_a_fault_with_its_place(
    configuration: Configuration, written: str, blamed: str, option: str, text: str
) -> None:
    faults = configuration.faults(
        f"{HEAD}domain:\n  a.example.com:\n    delivery_method: discard\n"
        f"    routes: [discard://sink]\n    curfew: {written}\n"
    )
    place, _, said = faults[0].partition(": ")
    assert place.startswith("mcmt.yaml:7:"), faults
    assert said.startswith(f"domain.a.example.com.curfew{option}: "), faults
    assert text in said
    assert int(place.rpartition(":")[2]) == (13 + written.index(blamed) if blamed else 5), faults
    assert len(faults) == 1


def test_the_days_are_those_of_the_week() -> None:
    assert tuple((datetime(2026, 1, 5) + timedelta(days=day)).strftime("%a").lower() for day in range(7)) == DAYS  # noqa: DTZ001

"""When a log's file is due, and what it is called then."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from mcmt.config.settings import RotateSettings
from mcmt.eventlog.file import LogFile
from mcmt.eventlog.names import Rotated, looks_rotated, next_name, rotated
from mcmt.eventlog.schedule import Schedule, began

DAY = 86400.0
MIDNIGHT = 19_700 * DAY

times = st.floats(min_value=0, max_value=4e9, allow_nan=False)


def opened(path: Path, text: str = "") -> LogFile:
    """A log file that holds *text*."""
    path.write_text(text)
    file = LogFile(path, 0o644, print)
    file.open(None)
    file.close()
    file.open(None)
    return file


@given(begun=times, every=st.one_of(st.sampled_from([60.0, 3600.0, DAY, 7 * DAY]), st.floats(60, 1e8)))
def test_a_file_is_due_at_the_first_multiple_of_every_past_its_beginning(begun: float, every: float) -> None:
    schedule = Schedule(RotateSettings(every=every))
    schedule.begin(1, begun)
    assert begun < schedule.due_at <= begun + every * (1 + 1e-9) + 1e-6
    assert schedule.due_at / every == pytest.approx(round(schedule.due_at / every))


def test_a_day_ends_at_midnight_utc() -> None:
    schedule = Schedule(RotateSettings(every=DAY))
    for begun in (MIDNIGHT, MIDNIGHT + 1, MIDNIGHT + DAY - 0.001):
        schedule.begin(1, begun)
        assert schedule.due_at == MIDNIGHT + DAY


def test_without_a_time_it_is_the_size_alone_and_without_a_size_the_time(tmp_path: Path) -> None:
    file = opened(tmp_path / "log.ec", "x" * 99 + "\n")
    for rotate, early, late in (
        (RotateSettings(size=101, every=None), False, False),
        (RotateSettings(size=100, every=None), True, True),
        (RotateSettings(size=None, every=60.0), False, True),
        (RotateSettings(size=None, every=None), False, False),
        (None, False, False),
    ):
        schedule = Schedule(rotate)
        schedule.begin(file.inode, MIDNIGHT)
        assert (schedule.due(file, MIDNIGHT + 59), schedule.due(file, MIDNIGHT + 60)) == (early, late)
    file.close()


@pytest.mark.parametrize(
    ("line", "old", "expected"),
    [
        ("1699999000@D@x", [], 1_699_999_000),
        ('{"type":"D","time":1699999000.25,"id":"x"}', [], 1_699_999_000),
        ("1699999000: Marker 1", [], 1_699_999_000),
        ("no time here", [1_699_990_000], 1_699_990_000),
        ("1699999000@D@x", [1_699_990_000, 1_699_999_500], 1_699_999_500),
        ("1699999000@D@x", [1_699_990_000], 1_699_999_000),
        ("1800000000@D@x", [], 1_700_000_000),  # not in the future
        ("no time here", [], 1_699_900_000),  # the file's own time of change
        ("20231114221320@D", [], 1_699_900_000),
    ],
)
def test_a_files_age_is_read_from_the_folder(tmp_path: Path, line: str, old: list[int], expected: float) -> None:
    path = tmp_path / "log.ec"
    for ended in old:
        next_name(path, (), ended).touch()
    file = opened(path, f"{line}\n")
    os.utime(path, (1_699_900_000, 1_699_900_000))
    assert began(file, 1_700_000_000) == expected
    file.close()


def test_an_empty_file_begins_now(tmp_path: Path) -> None:
    file = opened(tmp_path / "log.ec")
    assert began(file, MIDNIGHT) == MIDNIGHT
    file.close()


@settings(max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(moments=st.lists(st.floats(1e9, 2e9), min_size=1, max_size=12), odd=st.sampled_from(["a.ec", "log", "-x", "é"]))
def test_names_sort_as_the_files_were_written_whatever_the_clock_does(
    tmp_path: Path, moments: list[float], odd: str
) -> None:
    path = tmp_path / odd
    written: list[Path] = []
    for number, now in enumerate(moments):
        target = next_name(path, rotated(path), now)
        assert not target.exists()
        assert not target.with_name(f"{target.name}.gz").exists()
        target = target.with_name(target.name + (".gz" if number % 2 else ""))
        target.touch()
        written.append(target)
    assert [file.path for file in rotated(path)] == sorted(written) == written
    assert all(looks_rotated(file.name) for file in written)
    for file in written:
        file.unlink()


def test_a_name_is_the_second_at_which_the_file_ended(tmp_path: Path) -> None:
    path = tmp_path / "apnlog.ec"
    assert next_name(path, (), 1_795_370_400.9) == tmp_path / "apnlog.ec-20261122T180000Z"


def test_only_files_with_such_names_are_taken_for_rotated_ones(tmp_path: Path) -> None:
    path = tmp_path / "log.ec"
    for name in (
        "log.ec",
        "log.ec.1",
        "log.ec-20261122",
        "log.ec-20261122T180000Z.bak",
        "log.ec-20261322T180000Z",
        "log.ec2-20261122T180000Z",
        "other.ec-20261122T180000Z",
        "xlog.ec-20261122T180000Z",
    ):
        (tmp_path / name).touch()
    (tmp_path / "log.ec-20261122T180001Z").mkdir()
    (tmp_path / "log.ec-20261122T180002Z").symlink_to(path)
    assert rotated(path) == []
    for suffix in (".gz.tmp", ".gz", ""):
        (tmp_path / f"log.ec-20261122T180003Z{suffix}").touch()
    found: list[Rotated] = list(rotated(path))
    assert [file.suffix for file in found] == ["", ".gz", ".gz.tmp"]


@pytest.mark.parametrize(
    ("name", "looks"),
    [
        ("a.ec", False),
        ("a.ec-20261122T180000Z", True),
        ("-20261122T180000Z.gz", True),
        ("20261122T180000Z-a.ec", False),
    ],
)
def test_a_logs_name_that_could_be_anothers_rotated_file_is_known(name: str, looks: bool) -> None:
    assert looks_rotated(name) is looks

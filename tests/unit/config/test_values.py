"""Durations, sizes and paths, as written and as meant."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.config.document import read
from mcmt.options import FilePath, OptionsModel, parse_duration, parse_size


@pytest.mark.parametrize(
    ("value", "unit", "seconds"),
    [
        (30, "s", 30.0),
        (30, "ms", 0.03),
        ("30", "s", 30.0),
        ("30", "ms", 0.03),
        ("500ms", "s", 0.5),
        ("500 ms", "ms", 0.5),
        ("30s", "ms", 30.0),
        ("15m", "s", 900.0),
        ("2h", "ms", 7200.0),
        ("1d", "s", 86400.0),
        ("1.5h", "s", 5400.0),
        (0.5, "s", 0.5),
        (0, "s", 0.0),
        ("010", "s", 10.0),
        (86_400_000_000, "ms", 86_400_000.0),
    ],
)
def test_a_duration_counts_in_its_options_unit_or_has_a_suffix(value: object, unit: str, seconds: float) -> None:
    assert parse_duration(value, unit) == pytest.approx(seconds)


@pytest.mark.parametrize(
    "value",
    [
        "22:22",
        "1e3",
        "soon",
        "",
        "5 x",
        "-5",
        "1h30m",
        -1,
        True,
        False,
        None,
        [5],
        float("nan"),
        float("inf"),
        10**400,
        "9" * 400,
        "40000d",
        "60000000m",
    ],
)
def test_what_is_no_duration_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="duration"):
        parse_duration(value, "s")


@pytest.mark.parametrize(
    ("value", "size"),
    [
        (0, 0),
        (4096, 4096),
        ("4096", 4096),
        ("1B", 1),
        ("64KB", 65536),
        ("64 kb", 65536),
        ("10MB", 10485760),
        ("1GB", 1073741824),
    ],
)
def test_a_size_is_bytes_or_has_a_suffix_of_1024(value: object, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize("value", ["10 TB", "1.5MB", "ten", "", -1, "-1", True, 1.5, None])
def test_what_is_no_size_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="size"):
        parse_size(value)


@given(st.one_of(st.text(max_size=12), st.integers(), st.floats(), st.booleans(), st.none()))
def test_nothing_that_yaml_can_say_gives_an_endless_or_negative_duration(value: object) -> None:
    for unit in ("s", "ms"):
        try:
            seconds = parse_duration(value, unit)
        except ValueError:
            continue
        assert 0 <= seconds < 100 * 366 * 86400


def test_yaml_and_durations_agree_that_a_time_of_day_is_none() -> None:
    (reading,) = read(b"interval: 22:22\n", "f.yaml").readings
    with pytest.raises(ValueError, match="duration"):
        parse_duration(reading.data["interval"], "s")


class Paths(OptionsModel):
    file: FilePath


@pytest.mark.parametrize(
    ("written", "meant"),
    [("a.pem", "/base/a.pem"), ("../a.pem", "/base/../a.pem"), ("/etc/a.pem", "/etc/a.pem")],
)
def test_a_path_is_relative_to_the_folder_of_the_file(written: str, meant: str) -> None:
    assert Paths.model_validate({"file": written}, context={"base": Path("/base")}).file == Path(meant)


@pytest.mark.parametrize("value", ["", 5, True, "~nobody-of-this-name/a.pem", "a\0b", "x" * 256, "\u00fc" * 128 + "/a"])
def test_what_is_no_path_is_refused(value: object) -> None:
    with pytest.raises(ValueError, match="expected a path"):
        Paths.model_validate({"file": value}, context={"base": Path("/base")})

"""A log's files read back: each line once, under whichever name its file has."""

from __future__ import annotations

import bz2
import gzip
import lzma
from collections.abc import Callable
from pathlib import Path

import pytest

from mcmt.errors import EventLogError
from mcmt.eventlog.compression import compress
from mcmt.eventlog.readback import LogReader


def write(path: Path, *lines: str, end: str = "\n") -> None:
    content = ("\n".join(lines) + end).encode()
    packers: dict[str, Callable[[bytes], bytes]] = {".gz": gzip.compress, ".bz2": bz2.compress, ".xz": lzma.compress}
    path.write_bytes(packers.get(path.suffix, bytes)(content))


def add(path: Path, *lines: str) -> None:
    with path.open("a") as file:
        file.write("".join(f"{line}\n" for line in lines))


def read(reader: LogReader) -> list[str]:
    return sorted(line.decode() for block in reader.blocks() for line in block)


NAMES = [
    "main.ec-20261122T180000Z",
    "main.ec-20261122T180001Z.gz",
    "main.ec.1",
    "main.ec.2.gz",
    "main.ec-20261120",
    "main.ec-20261119.bz2",
    "main.ec-2026111807.xz",
    "main-20261117.ec",
    "main-20261116.ec.gz",
    "main.3.ec",
]


def test_every_name_that_rotation_and_logrotate_give_is_read(tmp_path: Path) -> None:
    for number, name in enumerate(["main.ec", *NAMES]):
        write(tmp_path / name, f"{number:02}@1", f"{number:02}@2")
    reader = LogReader(tmp_path / "main.ec")
    assert read(reader) == [f"{number:02}@{line}" for number in range(len(NAMES) + 1) for line in (1, 2)]
    assert (reader.files, reader.began) == (11, 0)


def test_files_of_other_logs_and_unfinished_ones_are_left_alone(tmp_path: Path) -> None:
    write(tmp_path / "main.ec", "1@mine")
    for name in ("main.ec-20261122T180000Z.gz.tmp", "main.ec.bak", "main.ec-old", "main2.ec", "main.json", "apn.ec-1"):
        write(tmp_path / name, f"1@{name}")
    write(tmp_path / "main.ec-2", "1@another logger's")
    assert read(LogReader(tmp_path / "main.ec", [tmp_path / "main.ec-2"])) == ["1@mine"]


def test_a_plain_file_beside_its_compressed_copy_is_read_once(tmp_path: Path) -> None:
    write(tmp_path / "main.ec-20261122T180000Z", "1@a", "2@b")
    write(tmp_path / "main.ec-20261122T180000Z.gz", "1@a", "2@b")
    assert read(LogReader(tmp_path / "main.ec")) == ["1@a", "2@b"]


@pytest.mark.parametrize("packed", [False, True])
def test_what_comes_later_is_read_from_where_it_was_left_whatever_the_file_is_called_by_then(
    tmp_path: Path, packed: bool
) -> None:
    log = tmp_path / "main.ec"
    long = ["1@" + "x" * 5000, *(f"{number}@y" for number in range(2000))]
    write(log, *long)
    reader = LogReader(log)
    assert len(read(reader)) == 2001
    add(log, "3@more")
    assert read(reader) == ["3@more"]
    add(log, "4@before it was rotated")
    rotated = log.rename(tmp_path / "main.ec-20261122T180000Z")
    if packed:
        compress(rotated, lambda _: False)
    write(log, "5@new")
    assert read(reader) == ["4@before it was rotated", "5@new"]
    assert read(reader) == []


def test_logrotate_counting_its_names_on_reads_nothing_twice(tmp_path: Path) -> None:
    log = tmp_path / "main.ec"
    write(log, "3@c")
    write(tmp_path / "main.ec.1", "2@b")
    write(tmp_path / "main.ec.2.gz", "1@a")
    reader = LogReader(log)
    assert read(reader) == ["1@a", "2@b", "3@c"]
    (tmp_path / "main.ec.2.gz").rename(tmp_path / "main.ec.3.gz")
    (tmp_path / "main.ec.1").unlink()
    write(tmp_path / "main.ec.2.gz", "2@b")
    log.rename(tmp_path / "main.ec.1")
    add(tmp_path / "main.ec.1", "4@d")  # until SIGHUP lines go on into the renamed file
    write(log, "5@e")
    assert read(reader) == ["4@d", "5@e"]


def test_a_file_that_is_rotated_while_the_others_are_read_is_read_to_its_end(tmp_path: Path) -> None:
    log = tmp_path / "main.ec"
    write(log, "2@b")
    write(tmp_path / "main.ec-20261122T180000Z", "1@a")
    reader = LogReader(log)
    found = []
    for block in reader.blocks():
        found += [line.decode() for line in block]
        if found == ["2@b"]:
            add(log, "3@c")
            log.rename(tmp_path / "main.ec-20261122T180001Z")
            write(log, "4@d")
    assert sorted(found) == ["1@a", "2@b", "3@c"]
    assert read(reader) == ["4@d"]


def test_a_line_without_its_end_is_left_for_later(tmp_path: Path) -> None:
    log = tmp_path / "main.ec"
    write(log, "1@a", "2@to", end="")
    reader = LogReader(log)
    assert read(reader) == ["1@a"]
    assert reader.torn == 0
    add(log, "rn")
    assert read(reader) == ["2@torn"]
    write(tmp_path / "main.ec.1", "0@z", "1@torn for ever", end="")
    assert read(reader) == ["0@z"]
    assert reader.torn == 1


def test_the_time_of_the_earliest_first_line_is_known_in_both_formats(tmp_path: Path) -> None:
    write(tmp_path / "main.ec", "1795000009@@@@M")
    write(tmp_path / "main.ec.1", '{"type":"M","time":1795000007.5,"channel":"x"}')
    reader = LogReader(tmp_path / "main.ec")
    read(reader)
    assert reader.began == 1795000007.5


@pytest.mark.parametrize(
    ("names", "keep", "complete"),
    [
        ([], 1, True),
        (["main.ec-20261122T180000Z", "main.ec-20261122T180001Z.gz"], 3, True),
        (["main.ec-20261122T180000Z", "main.ec-20261122T180001Z.gz"], 2, False),
        (["main.ec-20261122T180000Z", "main.ec-20261122T180000Z.gz"], 2, True),
        (["main.ec-20261122T180000Z"], None, True),
        (["main.ec.1"], None, False),
    ],
)
def test_whether_a_file_can_have_been_deleted_is_told_by_how_many_are_kept(
    tmp_path: Path, names: list[str], keep: int | None, complete: bool
) -> None:
    for name in ["main.ec", *names]:
        write(tmp_path / name, "1@a")
    assert LogReader(tmp_path / "main.ec").complete(keep) is complete


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("main.ec.1.gz", gzip.compress(b"1@a\n" * 10_000, mtime=0)[:-20]),
        ("main.ec.1.gz", b"1@no gzip\n"),
        ("main.ec.1.xz", b"1@no xz\n"),
        ("main.ec.1.zst", b"1@a\n"),
    ],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, name: str, content: bytes) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(EventLogError, match=name):
        read(LogReader(tmp_path / "main.ec"))


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(EventLogError, match="nowhere cannot be read"):
        read(LogReader(tmp_path / "nowhere" / "main.ec"))

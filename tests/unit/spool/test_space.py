"""The disk is looked at often enough that min_free is kept, and not for every message."""

from __future__ import annotations

import os
from pathlib import Path
from types import SimpleNamespace

import pytest

from mcmt.errors import SpoolFull
from mcmt.spool.space import LOOK_SECONDS, Space

MIN_FREE = 1_000_000


class Disk:
    """So much is free; and how often that was asked."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.free = 9_000_000
        self.looks = 0
        monkeypatch.setattr(os, "statvfs", self)

    def __call__(self, path: Path) -> SimpleNamespace:
        self.looks += 1
        return SimpleNamespace(f_bavail=self.free, f_frsize=1)


@pytest.fixture
def disk(monkeypatch: pytest.MonkeyPatch) -> Disk:
    return Disk(monkeypatch)


def test_one_look_holds_for_a_moment(disk: Disk) -> None:
    space = Space(Path("/spool"), MIN_FREE)
    for n in range(100):
        space.require(n * LOOK_SECONDS / 100, 100, 1)
    assert disk.looks == 1
    disk.free = MIN_FREE - 1
    with pytest.raises(SpoolFull, match="999999 bytes are free at /spool"):
        space.require(LOOK_SECONDS, 100, 1)


def test_what_is_taken_between_two_looks_leaves_min_free(disk: Disk) -> None:
    space = Space(Path("/spool"), MIN_FREE)
    taken = 0
    while is_taken(space):
        taken += 1
        disk.free -= 2 * 10_000  # in the write-ahead log, and in the file
    assert disk.free <= MIN_FREE
    assert disk.free > MIN_FREE - 2 * 10_000 * 2
    assert disk.looks < taken / 2


def is_taken(space: Space) -> bool:
    try:
        space.require(0.0, 10_000, 1)
    except SpoolFull:
        return False
    return True


def test_a_message_larger_than_what_a_look_holds_for_has_its_own(disk: Disk) -> None:
    space = Space(Path("/spool"), MIN_FREE)
    space.require(0.0, 100, 1)
    space.require(0.0, 2_000_000, 1)
    space.require(0.0, 100, 10_000)
    assert disk.looks == 3


def test_when_there_is_room_again_the_next_message_is_taken(disk: Disk) -> None:
    space = Space(Path("/spool"), MIN_FREE)
    disk.free = 0
    for _ in range(3):
        with pytest.raises(SpoolFull):
            space.require(0.0, 100, 1)
    disk.free = 9_000_000
    space.require(0.0, 100, 1)
    assert disk.looks == 4


def test_room_inside_the_spools_own_file_counts(disk: Disk) -> None:
    """The file does not shrink: on a disk that it has filled by itself, min_free would never be there again."""
    space = Space(Path("/spool"), MIN_FREE)
    disk.free = MIN_FREE - 1000
    with pytest.raises(SpoolFull, match=r"999900 bytes are free at /spool \(900 of them inside the spool's own file\)"):
        space.require(0.0, 100, 1, 900)
    space.require(0.0, 100, 1, 1000)


def test_without_min_free_nothing_is_looked_at(disk: Disk) -> None:
    Space(Path("/spool"), 0).require(0.0, 100, 1)
    assert disk.looks == 0

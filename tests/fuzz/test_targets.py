"""The fuzz targets: what they were begun with and what they once found holds; planted faults are found; a short run.

The runs under coverage guidance take SECONDS each here, two at a time; by hand as long as one likes: ``make fuzz``.
"""

from __future__ import annotations

import importlib
import os
import platform
import subprocess
import sys
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from channels.apn import answers
from mcmt.config import faults
from mcmt.eventlog import mainlog, readback
from mcmt.intake import connection, forwarded
from mcmt.intake.chunks import ChunkReader
from mcmt.intake.data import DataReader
from mcmt.message import mime
from mcmt.message.mime import ParsedMessage
from mcmt.wire.apns_binary import FeedbackParser
from mcmt.wire.beanstalk import AnswerParser
from mcmt.wire.http1 import RequestParser
from mcmt.wire.http2 import ClientConnection
from tests.fuzz.__main__ import HERE, TARGETS

ROOT = HERE.parents[1]
SECONDS = 4
SEEDS = [(target, seed) for target in TARGETS for seed in sorted((HERE / "corpus" / target).iterdir())]


def run(target: str, data: bytes) -> None:
    importlib.import_module(f"tests.fuzz.targets.{target}").run(data)


def run_all(target: str) -> None:
    for name, seed in SEEDS:
        if name == target:
            run(target, seed.read_bytes())


@pytest.mark.parametrize(("target", "seed"), SEEDS, ids=lambda value: value if isinstance(value, str) else value.name)
def test_a_seed_holds(target: str, seed: Path) -> None:
    """Seeds, and what was found once: those are called found-*, and are never taken away."""
    run(target, seed.read_bytes())


def test_every_target_has_seeds() -> None:
    assert {target for target, _ in SEEDS} == set(TARGETS)
    assert sum(seed.stat().st_size for _, seed in SEEDS) < 100_000


def _loses_a_part(patch: pytest.MonkeyPatch) -> None:
    split = mime._split
    patch.setattr(mime, "_split", lambda *arguments: split(*arguments)[:-1] or split(*arguments))


def _escapes_nothing(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(mainlog, "escape", str)


def _forgets_a_split_tuple(patch: pytest.MonkeyPatch) -> None:
    def receive(parser: FeedbackParser, data: bytes) -> Any:
        parser._buffer = b""
        return receive_all(parser, data)

    receive_all = FeedbackParser.receive
    patch.setattr(FeedbackParser, "receive", receive)


def _has_no_place(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(faults, "place", lambda *_: "somewhere")


def _reads_from_the_beginning(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(readback.LogReader, "_recognise", lambda *_: readback._Known(b""))


def _answers_twice(patch: pytest.MonkeyPatch) -> None:
    receive = ClientConnection.receive
    patch.setattr(ClientConnection, "receive", lambda *arguments: 2 * receive(*arguments))


def _knows_two_ends(patch: pytest.MonkeyPatch) -> None:
    feed = DataReader.feed

    def feeding(reader: DataReader, buffer: bytearray) -> bool:
        buffer[:] = buffer.replace(b"\n.\n", b"\r\n.\r\n")
        return feed(reader, buffer)

    patch.setattr(DataReader, "feed", feeding)


def _ends_a_chunk_early(patch: pytest.MonkeyPatch) -> None:
    feed = ChunkReader.feed

    def feeding(reader: ChunkReader, buffer: bytearray) -> bool:
        if (end := buffer.find(b"\r\n.\r\n")) >= 0:
            reader._left = end + 5
        return feed(reader, buffer)

    patch.setattr(ChunkReader, "feed", feeding)


def _believes_anybody(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(connection, "is_listed", lambda *_: True)
    patch.setattr(forwarded, "is_listed", lambda *_: True)


def _knows_no_json(patch: pytest.MonkeyPatch) -> None:
    def reason_of(body: bytes) -> tuple[str, float]:
        return body.decode(), 0.0

    patch.setattr(answers, "reason_of", reason_of)


def _raises(patch: pytest.MonkeyPatch) -> None:
    def parse(data: bytes) -> ParsedMessage:
        raise IndexError(len(data))

    patch.setattr("tests.fuzz.targets.mime.parse", parse)


def _drops_what_is_split(patch: pytest.MonkeyPatch) -> None:
    def receive(parser: RequestParser, data: bytes) -> None:
        parser._buffer[:] = data

    patch.setattr(RequestParser, "receive", receive)


def _forgets_a_body_that_is_split(patch: pytest.MonkeyPatch) -> None:
    receive = AnswerParser.receive

    def receiving(parser: AnswerParser, data: bytes) -> Any:
        parser._buffer = b""
        return receive(parser, data)

    patch.setattr(AnswerParser, "receive", receiving)


PLANTED: dict[str, list[Callable[[pytest.MonkeyPatch], None]]] = {
    "answers": [_knows_no_json],
    "beanstalk": [_forgets_a_body_that_is_split],
    "binary": [_forgets_a_split_tuple],
    "config": [_has_no_place],
    "escaping": [_escapes_nothing],
    "http2": [_answers_twice],
    "mime": [_loses_a_part, _raises],
    "readback": [_reads_from_the_beginning],
    "requests": [_drops_what_is_split],
    "smtp": [_knows_two_ends, _ends_a_chunk_early, _believes_anybody],
}


@pytest.mark.parametrize(("target", "plant"), [(target, plant) for target in PLANTED for plant in PLANTED[target]])
def test_a_planted_fault_is_found_by_the_seeds_alone(
    target: str, plant: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    importlib.import_module(f"tests.fuzz.targets.{target}")
    plant(monkeypatch)
    with pytest.raises((AssertionError, IndexError, UnicodeDecodeError)):
        run_all(target)


def test_every_target_has_a_planted_fault() -> None:
    assert set(PLANTED) == set(TARGETS)


@pytest.mark.skipif(
    (sys.platform, platform.machine()) != ("linux", "x86_64") or sys.version_info >= (3, 14),
    reason="atheris comes ready-made for Linux on x86-64 alone, up to Python 3.13",
)
def test_nothing_new_is_found_in_a_short_run(tmp_path: Path) -> None:
    """Each target, under coverage guidance."""
    import importlib.util

    assert importlib.util.find_spec("atheris"), "atheris is not installed: run make install"

    def fuzz(target: str) -> str:
        command = [sys.executable, "-m", "tests.fuzz", target, str(SECONDS)]
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=100, check=False
        )
        assert done.returncode or "DONE" in done.stderr, done.stderr[-2000:]
        return f"{target}: {done.stderr[-3000:]}" if done.returncode else ""

    with ThreadPoolExecutor(2) as two:
        assert [said for said in two.map(fuzz, TARGETS) if said] == []

"""A disk that loses power: what a program did to its files, from the shim's journal, and what of it would be left.

What a crash leaves, at any record of the journal:

- Of a file: what was written before its last fsync or fdatasync began that had ended, and of later writes any 512-byte
  sectors, or none. A sync that failed leaves any sectors of what it should have brought to disk, and the rest never
  comes there unless it is written anew: the kernel counts those pages as clean (fsync(2), errors).
- Of a folder: the names that it had when its own last fsync began, and of later creations, renames and removals the
  first few, in their order, as journaling file systems do it. A file's fsync does not save its name.
- Of SQLite's -shm files nothing: they are memory.

Rules: a state is put back into the same inodes, because the event log knows its files by them; what lost its last name
waits in the graveyard for that.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import struct
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

SHIM = Path(__file__).with_name("shim.c")
SECTOR = 512
_MARK = struct.pack("<Q", 0x6C616E72756F6A63)
_HEAD = struct.Struct("<8sIIQQ")
_FOLDER = 0
"""In place of an inode."""
_KEPT = (0.0, 0.3, 0.9, 1.0)
"""How much of a file's unsynced sectors a crash leaves: one of these."""
_KEPT_OF_FAILED = (0.0, 0.0, 0.5)


def build_shim(folder: Path) -> Path:
    """Compile it."""
    target = folder / "shim.so"
    compiler = shutil.which("cc") or shutil.which("gcc")
    assert compiler, "no C compiler: run tests/peers.sh"
    command = [compiler, "-Wall", "-Wextra", "-Werror", "-O2", "-shared", "-fPIC", "-o", str(target), str(SHIM)]
    subprocess.run([*command, "-ldl"], check=True)
    return target


class Record(NamedTuple):
    """One line of the journal."""

    kind: str
    """C created, W written, T cut; B, E, X a sync begins, ends, fails; U unlinked, R renamed, M folder made; N note."""
    inode: int
    number: int
    data: bytes

    @property
    def paths(self) -> list[str]:
        return [name.decode() for name in self.data.split(b"\0")[:-1]]


def read_journal(data: bytes) -> Iterator[Record]:
    """Every record that is whole."""
    start = data.find(_MARK)
    while 0 <= start <= len(data) - _HEAD.size:
        _, size, kind, inode, number = _HEAD.unpack_from(data, start)
        body = start + _HEAD.size
        end = body + size + len(_MARK)
        if kind < 128 and data[end - len(_MARK) : end] == _MARK:
            yield Record(chr(kind), inode, number, data[body : body + size])
            start = data.find(_MARK, end)
        else:  # cut short by a kill
            start = data.find(_MARK, start + 1)


class _Change(NamedTuple):
    at: int
    data: bytes | None
    """None: cut to *offset*."""
    offset: int


class _File:
    def __init__(self, content: bytes = b"") -> None:
        self.durable = bytearray(content)
        self.pending: list[_Change] = []

    def sync(self, through: int) -> None:
        while self.pending and self.pending[0].at < through:
            self._keep(self.durable, self.pending.pop(0))

    def fail(self, through: int, draw: random.Random) -> None:
        share = draw.choice(_KEPT_OF_FAILED)
        while self.pending and self.pending[0].at < through:
            self._tear(self.durable, self.pending.pop(0), share, draw)

    def left(self, draw: random.Random) -> bytes:
        content, share = bytearray(self.durable), draw.choice(_KEPT)
        for change in self.pending:
            self._tear(content, change, share, draw)
        return bytes(content)

    @staticmethod
    def _keep(content: bytearray, change: _Change) -> None:
        if change.data is None:
            del content[change.offset :]
            content += bytes(change.offset - len(content))
        else:
            content += bytes(max(0, change.offset - len(content)))
            content[change.offset : change.offset + len(change.data)] = change.data

    @classmethod
    def _tear(cls, content: bytearray, change: _Change, share: float, draw: random.Random) -> None:
        if change.data is None:
            if draw.random() < share:
                cls._keep(content, change)
            return
        start, end = change.offset, change.offset + len(change.data)
        while start < end:
            stop = min(end, start - start % SECTOR + SECTOR)
            if draw.random() < share:
                piece = change.data[start - change.offset : stop - change.offset]
                cls._keep(content, _Change(change.at, piece, start))
            start = stop


class _Naming(NamedTuple):
    at: int
    folder: str
    path: str
    inode: int | None
    """None: the name goes."""
    source: str
    """Where it was renamed from, or empty."""


class Left(NamedTuple):
    """What a crash leaves."""

    names: Mapping[str, int]
    contents: Mapping[int, bytes]


class Disk:
    """The folders *watched* below *root*, as they are now, and what happens to them from now on."""

    def __init__(self, root: Path, watched: tuple[str, ...] = ("spool", "logs")) -> None:
        self.root = Path(os.path.realpath(root))
        self.watched = watched
        self.graveyard = self.root.with_name(self.root.name + ".graveyard")
        self.journal = self.root.with_name(self.root.name + ".journal")
        self._failing = self.root.with_name(self.root.name + ".failing")
        self.graveyard.mkdir(exist_ok=True)
        self.begin()

    def begin(self) -> None:
        """A new journal: everything that is there now is on disk."""
        self.journal.write_bytes(b"")
        self._files: dict[int, _File] = {}
        self._names: dict[str, int] = {}
        self._namings: list[_Naming] = []
        self._begun: dict[int, tuple[int, str]] = {}
        self._at = 0
        self.notes: list[str] = []
        """What was noted so far, where the replay has come."""
        for name in self.watched:
            for folder, _, files in os.walk(self.root / name):
                self._names[folder] = _FOLDER
                for file in files:
                    path = Path(folder) / file
                    if path.is_file():
                        self._names[str(path)] = path.stat().st_ino
                        self._files[path.stat().st_ino] = _File(path.read_bytes())

    def environment(self, shim: Path, forget: str = "") -> dict[str, str]:
        """For the program whose journal is kept. *forget*: syncs of files with this in their path are left out."""
        environment = {
            **os.environ,
            "LD_PRELOAD": str(shim),
            "CRASH_ROOT": str(self.root),
            "CRASH_JOURNAL": str(self.journal),
            "CRASH_GRAVEYARD": str(self.graveyard),
            "CRASH_FAIL": str(self._failing),
        }
        return {**environment, "CRASH_FORGET": forget} if forget else environment

    def fail_next_sync(self, path: str, *, fatal: bool = False) -> None:
        """The next sync of a file with *path* in its path fails with EIO. *fatal*: its program is killed by then."""
        part = self._failing.with_suffix(".part")
        part.write_text(f"{'!' * fatal}{path}")
        part.rename(self._failing)

    @property
    def failure_pending(self) -> bool:
        """The sync that is to fail has not come yet."""
        return self._failing.exists()

    def note(self, descriptor: int, text: str) -> None:
        """Write into the journal, opened for appending, what an observer knows at this moment."""
        data = text.encode()
        os.write(descriptor, _HEAD.pack(_MARK, len(data), ord("N"), 0, 0) + data + _MARK)

    def records(self) -> list[Record]:
        """The journal."""
        return list(read_journal(self.journal.read_bytes()))

    def notes_now(self) -> list[str]:
        """What was noted up to now, while the engine runs."""
        return [record.data.decode() for record in self.records() if record.kind == "N"]

    def replay(self, records: list[Record], draw: random.Random) -> None:
        """Go on by these. *draw* says what syncs that failed have left."""
        for record in records:
            self._at += 1
            self._take(record, draw)

    def _take(self, record: Record, draw: random.Random) -> None:
        kind, inode, number, data = record
        if kind == "W":
            self._file(inode).pending.append(_Change(self._at, data, number))
        elif kind == "T":
            self._file(inode).pending.append(_Change(self._at, None, number))
        elif kind == "B":
            self._begun[number] = (self._at, record.paths[0])
        elif kind in "EX":
            begun, path = self._begun.pop(number)
            if inode not in self._files:
                if kind == "E":
                    self._sync_folder(path, begun)
            elif kind == "E":
                self._files[inode].sync(begun)
            else:
                self._files[inode].fail(begun, draw)
        elif kind == "C":
            self._files[inode] = _File()
            self._name(record.paths[0], inode)
        elif kind == "U":
            self._name(record.paths[0], None)
        elif kind == "R":
            source, target = record.paths
            self._name(target, self._current(source), source)
        elif kind == "M":
            self._name(record.paths[0], _FOLDER)
        elif kind == "N":
            self.notes.append(data.decode())

    def _file(self, inode: int) -> _File:
        return self._files.setdefault(inode, _File())

    def _name(self, path: str, inode: int | None, source: str = "") -> None:
        assert not source or Path(source).parent == Path(path).parent, "a rename into another folder is not modelled"
        self._namings.append(_Naming(self._at, str(Path(path).parent), path, inode, source))

    def _current(self, path: str) -> int | None:
        names = dict(self._names)
        for naming in self._namings:
            _rename(names, naming)
        return names.get(path)

    def _sync_folder(self, folder: str, through: int) -> None:
        rest = []
        for naming in self._namings:
            if naming.folder == folder and naming.at < through:
                _rename(self._names, naming)
            else:
                rest.append(naming)
        self._namings = rest

    def left(self, draw: random.Random) -> Left:
        """One of the states that a power loss here may leave."""
        names = dict(self._names)
        for folder in sorted({naming.folder for naming in self._namings}):
            pending = [naming for naming in self._namings if naming.folder == folder]
            for naming in pending[: draw.randint(0, len(pending))]:
                _rename(names, naming)
        return self._state(names, {inode: file.left(draw) for inode, file in sorted(self._files.items())})

    def all(self) -> Left:
        """The state in which everything has come to disk: what the program itself sees."""
        names = dict(self._names)
        for naming in self._namings:
            _rename(names, naming)
        contents = {}
        for inode, file in self._files.items():
            whole = _File(bytes(file.durable))
            whole.pending = list(file.pending)
            whole.sync(self._at + 1)
            contents[inode] = bytes(whole.durable)
        return self._state(names, contents)

    def _state(self, names: Mapping[str, int], contents: Mapping[int, bytes]) -> Left:
        found = {}
        for path, inode in names.items():
            above = Path(path).parent
            while above != self.root and names.get(str(above)) == _FOLDER:
                above = above.parent
            if above == self.root and not path.endswith("-shm"):
                found[path] = inode
        return Left(found, {inode: contents[inode] for inode in found.values() if inode != _FOLDER})

    def restore(self, left: Left) -> None:
        """Make the folders what a crash left of them. Nothing may run on them."""
        for name in self.watched:
            for folder, _, files in os.walk(self.root / name):
                for file in files:
                    path = Path(folder) / file
                    if not path.is_file():
                        continue
                    with contextlib.suppress(FileExistsError):
                        (self.graveyard / str(path.lstat().st_ino)).hardlink_to(path)
            shutil.rmtree(self.root / name, ignore_errors=True)
        for name in sorted(left.names):
            path, inode = Path(name), left.names[name]
            if inode == _FOLDER:
                path.mkdir(mode=0o700)
            else:
                path.hardlink_to(self.graveyard / str(inode))
                path.write_bytes(left.contents[inode])


def _rename(names: dict[str, int], naming: _Naming) -> None:
    if naming.source:
        names.pop(naming.source, None)
    if naming.inode is None:
        names.pop(naming.path, None)
    else:
        names[naming.path] = naming.inode

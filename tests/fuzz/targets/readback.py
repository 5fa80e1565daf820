"""The log reader and the audit's sums: EventLogError and nothing else; every whole line once, by whatever steps."""

from __future__ import annotations

import gzip
import tempfile
from pathlib import Path

from mcmt.errors import EventLogError
from mcmt.eventlog.readback import LogReader
from mcmt.eventlog.reconciliation import Reconciliation
from tests.fuzz.octets import Octets

LONGEST = 2048

_folder = tempfile.TemporaryDirectory(prefix="mcmt-fuzz-", ignore_cleanup_errors=True)
_NAMES = ("main.ec", "main.ec-20261122T180000Z", "main.ec.1", "main.ec-20261121T180000Z.gz", "main.ec.2.xz")


def run(data: bytes) -> None:
    folder = Path(_folder.name)
    octets = Octets(data)
    contents = {name: octets.piece() for name in _NAMES[1 : octets.number() % 5 + 1]}
    packed = octets.number() % 2
    steps = octets.number() % 4
    rest = octets.rest()
    for name, content in contents.items():
        (folder / name).write_bytes(gzip.compress(content, 1) if name.endswith(".gz") and packed else content)
    log = folder / "main.ec"
    reader = LogReader(log)
    sums = Reconciliation()
    found: list[bytes] = []
    try:
        for step in range(steps + 1):
            log.write_bytes(rest[: len(rest) * (step + 1) // (steps + 1)])
            for block in reader.blocks():
                found += block
                sums.take(block)
    except EventLogError as error:
        assert str(folder) in str(error)
    else:
        assert all(b"\n" not in line for line in found)
        if not contents:
            # Files are told apart by how they begin: alone, a file is read to its last whole line.
            assert found == rest.split(b"\n")[:-1], (found, rest)
    finally:
        for name in contents:
            (folder / name).unlink()
        log.unlink(missing_ok=True)
    account = sums.account(reader.began)
    assert account.accepted >= 0
    assert account.unreadable <= len(found)
    for finding in account.findings:
        assert finding.what

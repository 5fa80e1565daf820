"""Files that hold a secret: whom they may be open to."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from mcmt.channel.port import exposure

GROUP = 65534


@pytest.mark.parametrize(
    ("mode", "of_roots_group", "kind", "what"),
    [
        (0o600, False, "", ""),
        (0o400, False, "", ""),
        (0o640, True, "", ""),  # as a service is given a key that it cannot change
        (0o440, True, "", ""),
        (0o640, False, "warning", "its group may read"),
        (0o660, False, "warning", "its group may change"),
        (0o660, True, "warning", "its group may change"),
        (0o604, False, "fault", "everyone on this machine may read"),
        (0o644, True, "fault", "everyone on this machine may read"),
        (0o602, False, "fault", "everyone on this machine may change"),
        (0o666, False, "fault", "everyone on this machine may read"),
    ],
)
def test_a_secret_that_everyone_may_read_is_a_fault_and_one_for_its_group_a_warning(
    tmp_path: Path, mode: int, of_roots_group: bool, kind: str, what: str
) -> None:
    file = tmp_path / "key.pem"
    file.write_bytes(b"")
    if of_roots_group:
        if os.geteuid():
            pytest.skip("only root can make a file of root's")
        os.chown(file, 0, GROUP)
    file.chmod(mode)
    found = exposure("tls_key", file)
    remedy = f"chmod {'640' if of_roots_group else '600'} {file}"
    said = [(finding.option, finding.text, finding.fault, finding.warning) for finding in found]
    assert said == ([("tls_key", f"{what} {file}: {remedy}", kind == "fault", kind == "warning")] if kind else [])


def test_a_file_that_is_gone_is_left_to_whoever_reads_it(tmp_path: Path) -> None:
    assert exposure("tls_key", tmp_path / "nowhere") == ()

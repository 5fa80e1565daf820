"""Passwords as they are stored, and the file that they are stored in."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.intake import passwords, users
from mcmt.intake.passwords import StoredPassword, parse, prepare, store
from mcmt.intake.users import UsersError, UsersFile, change_user, check_name, read_users
from tests.unit.intake.conftest import cheap


def test_a_password_is_stored_as_something_that_only_it_matches() -> None:
    stored = store("secret", b"0123456789abcdef")
    text = str(stored)
    assert text.startswith("scrypt$16384$8$5$MDEyMzQ1Njc4OWFiY2RlZg==$")
    assert "secret" not in text
    assert parse(text) == stored
    assert stored.matches("secret")
    assert not stored.matches("Secret")


def test_another_implementation_agrees() -> None:
    """RFC 7914 12, the third vector: P="pleaseletmein", S="SodiumChloride", N=16384, r=8, p=1."""
    digest = bytes.fromhex(
        "7023bdcb3afd7348461c06cd81fd38ebfda8fbba904f8e3ea9b543f6545da1f2"
        "d5432955613f0fcf62d49705242a9af9e61e85dc0d651e40dfcf017b45575887"
    )
    assert StoredPassword(16384, 8, 1, b"SodiumChloride", digest).matches("pleaseletmein")


@given(st.text())
def test_what_is_prepared_is_not_changed_by_preparing_it_again(password: str) -> None:
    try:
        once = prepare(password)
    except ValueError:
        return
    assert prepare(once) == once


@pytest.mark.parametrize("password", ["", "a\nb", "\x00", "\ud800", "x" * 1025, "\u00ad"])
def test_what_cannot_be_a_password(password: str) -> None:
    with pytest.raises(ValueError, match="a password"):
        prepare(password)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "secret",
        "scrypt$16384$8$5$MDEy",
        "scrypt$16383$8$5$MDEy$" + "A" * 44,
        "scrypt$1$8$5$MDEy$" + "A" * 44,
        "scrypt$16384$0$5$MDEy$" + "A" * 44,
        "scrypt$16384$8$0$MDEy$" + "A" * 44,
        "scrypt$16384$8$65$MDEy$" + "A" * 44,
        "scrypt$1048576$8$1$MDEy$" + "A" * 44,
        "scrypt$16384$8$5$MDE$" + "A" * 44,
        "scrypt$16384$8$5$MDEy$AAAA",
        "scrypt$١٦٣٨٤$8$5$MDEy$" + "A" * 44,
    ],
)
def test_what_is_no_stored_password_is_refused_before_it_costs_anything(text: str) -> None:
    with pytest.raises(ValueError, match=r"scrypt|base64|hash"):
        parse(text)


@pytest.mark.parametrize("name", ["", "a b", "a:b", "#a", "a\n", "a\x7f", "x" * 256, "a\u2028b"])
def test_what_cannot_be_a_name(name: str) -> None:
    with pytest.raises(ValueError, match="a name has"):
        check_name(name)


def test_users_are_added_changed_and_deleted_and_the_rest_stays(tmp_path: Path) -> None:
    file = tmp_path / "users"
    assert change_user(file, "one", cheap("1")) is False
    assert file.stat().st_mode & 0o777 == 0o600
    file.write_text(f"# who may submit\n\n{file.read_text()}# end")
    assert change_user(file, "two@example.com", cheap("2")) is False
    assert change_user(file, "one", cheap("3")) is True
    assert file.read_text() == f"# who may submit\n\none:{cheap('3')}\n# end\ntwo@example.com:{cheap('2')}\n"
    assert change_user(file, "one", None) is True
    assert change_user(file, "one", None) is False
    assert list(read_users(file)) == ["two@example.com"]
    assert [path.name for path in tmp_path.iterdir()] == ["users"]


def test_mode_and_symbolic_link_of_the_file_stay(tmp_path: Path) -> None:
    real, link = tmp_path / "real", tmp_path / "link"
    change_user(real, "one", cheap("1"))
    real.chmod(0o640)
    link.symlink_to(real)
    change_user(link, "two", cheap("2"))
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert list(read_users(real)) == ["one", "two"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may give files away")
def test_the_owner_stays(tmp_path: Path) -> None:
    """Root changes a password; the engine, which is another user, can still read the file."""
    file = tmp_path / "users"
    change_user(file, "one", cheap("1"))
    os.chown(file, 12345, 54321)
    change_user(file, "two", cheap("2"))
    assert (file.stat().st_uid, file.stat().st_gid) == (12345, 54321)


def test_changes_at_once_are_all_kept(tmp_path: Path) -> None:
    file = tmp_path / "users"
    threads = [threading.Thread(target=change_user, args=(file, f"user{n}", cheap("x"))) for n in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(read_users(file)) == 20


def test_a_change_is_whole_or_not_at_all(tmp_path: Path) -> None:
    """Killed at any moment, it leaves the old file or the new one."""
    file = tmp_path / "users"
    for number in range(500):
        change_user(file, f"user{number}", cheap("x"))
    code = (
        "import sys; from pathlib import Path\n"
        "from mcmt.intake.users import change_user, read_users\n"
        "file = Path(sys.argv[1]); stored = read_users(file)['user0']\n"
        "print(flush=True)\n"
        "while True: change_user(file, 'extra', stored); change_user(file, 'extra', None)\n"
    )
    for _ in range(5):
        child = subprocess.Popen([sys.executable, "-c", code, str(file)], stdout=subprocess.PIPE)
        assert child.stdout is not None
        child.stdout.readline()
        child.kill()
        child.wait()
        child.stdout.close()
        assert len(read_users(file)) in (500, 501)


def test_the_change_is_on_disk_before_it_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The file is synced before it takes its name, its folder after that."""
    calls: list[str] = []
    sync, rename = os.fsync, Path.rename

    def fsync(descriptor: int) -> None:
        calls.append("folder" if Path(f"/proc/self/fd/{descriptor}").is_dir() else "file")
        sync(descriptor)

    def renamed(path: Path, target: Path) -> Path:
        calls.append("rename")
        return rename(path, target)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "rename", renamed)
    change_user(tmp_path / "users", "one", cheap("1"))
    assert calls == ["file", "rename", "folder"]


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"app:junk\n", r"users:1: expected scrypt\$n"),
        (b"# x\n\nno colon\n", r"users:3: a name has 1 to 255"),
        (b"\xff\n", "users is not UTF-8"),
        (f"a:{cheap('x')}\na:{cheap('x')}\n".encode(), "users:2: a is there twice"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_line_and_never_changed(
    tmp_path: Path, content: bytes, fault: str
) -> None:
    file = tmp_path / "users"
    file.write_bytes(content)
    with pytest.raises(UsersError, match=fault):
        read_users(file)
    with pytest.raises(UsersError, match=fault):
        change_user(file, "new", cheap("x"))
    assert file.read_bytes() == content


def test_a_missing_file_or_folder_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(UsersError, match=r"users cannot be read: No such file.*make it with: mcmt passwd"):
        UsersFile(tmp_path / "users")
    with pytest.raises(UsersError, match="cannot be changed: No such file or directory"):
        change_user(tmp_path / "absent" / "users", "one", cheap("1"))
    monkeypatch.setattr(users, "MAX_SIZE", 10)
    (tmp_path / "large").write_bytes(b"#" * 11)
    with pytest.raises(UsersError, match="larger than 10 bytes"):
        read_users(tmp_path / "large")


def test_the_parameters_are_those_that_the_documents_state() -> None:
    assert (passwords.N, passwords.R, passwords.P, passwords.SALT) == (16384, 8, 5, 16)

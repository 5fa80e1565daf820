"""Paths and parameters of MAIL and RCPT."""

from __future__ import annotations

import pytest
from aiosmtpd.smtp import SMTP

from mcmt.errors import MessageError
from mcmt.intake.path import read_parameters, read_path


def slow(path: str) -> tuple[str | None, str | None]:
    return SMTP._getaddr(_Parser(), path)  # type: ignore[arg-type]  # the one attribute that it looks at


class _Parser:
    local_part_limit = 0


def never(path: str) -> tuple[str | None, str | None]:
    raise AssertionError(f"{path} went to the slow parser")


@pytest.mark.parametrize(
    ("argument", "address", "parameters"),
    [
        ("FROM:<a@b>", "a@b", ""),
        ("from: <a.b+c@Mail.Example.com> SIZE=3 BODY=7BIT", "a.b+c@Mail.Example.com", "SIZE=3 BODY=7BIT"),
        ("FROM:<>", "", ""),
        ("FROM:<> SIZE=10", "", "SIZE=10"),
        ("FROM:<" + "0f" * 100 + "@apn.example.com>", "0f" * 100 + "@apn.example.com", ""),
    ],
)
def test_plain_paths_never_see_the_slow_parser(argument: str, address: str, parameters: str) -> None:
    assert read_path(argument, "FROM", never) == (address, parameters)


@pytest.mark.parametrize(
    ("argument", "address"),
    [
        ('TO:<"john doe"@example.com>', '"john doe"@example.com'),
        ('TO:<"a>b@c"@example.com>', '"a>b@c"@example.com'),
        ("TO:<@relay.example.com,@b.example.com:user@example.com>", "user@example.com"),
        ("TO:<user@[127.0.0.1]>", "user@[127.0.0.1]"),
        ("TO:<grün@bücher.example>", "grün@bücher.example"),
        ("TO:user@example.com", "user@example.com"),
        ("TO:<postmaster>", "postmaster"),
    ],
)
def test_other_paths_are_read_too(argument: str, address: str) -> None:
    assert read_path(argument, "TO", slow) == (address, "")


@pytest.mark.parametrize(
    ("argument", "code", "enhanced"),
    [
        ("", 501, "5.5.4"),
        ("<a@b>", 501, "5.5.4"),
        ("FROM:<a@b>", 501, "5.5.4"),
        ("TO:<a@b", 501, "5.5.4"),
        ("TO:<a@b>SIZE=1", 501, "5.5.4"),
        ("TO:<a@b>>", 501, "5.5.4"),
        ("TO:<>", 553, "5.1.3"),
        ("TO:<user>", 553, "5.1.3"),
        ("TO:<@example.com>", 553, "5.1.3"),
        ("TO:<a\x00@example.com>", 553, "5.1.3"),
        ("TO:<a\x0b@example.com>", 553, "5.1.3"),
        (f"TO:<{'a' * 600}@example.com>", 501, "5.1.3"),
        (f"TO:<a@{'b.' * 130}com>", 501, "5.1.3"),
    ],
)
def test_what_is_no_path_is_refused(argument: str, code: int, enhanced: str) -> None:
    with pytest.raises(MessageError) as raised:
        read_path(argument, "TO", slow)
    assert (raised.value.code, raised.value.enhanced) == (code, enhanced)


def test_hostile_paths_are_read_in_time_linear_in_their_length() -> None:
    for argument in (
        "TO:<" + "a-" * 1000,
        "TO:<a@" + "b-" * 1000 + ">",
        'TO:<"' + "\\" * 2000,
        "TO:<" + "a." * 1000 + ">",
    ):
        with pytest.raises(MessageError):
            read_path(argument, "TO", lambda path: (None, None))


def test_parameters_are_read_by_name_once_each() -> None:
    assert read_parameters("size=3 SMTPUTF8  Body=8bitmime") == {"SIZE": "3", "SMTPUTF8": "", "BODY": "8bitmime"}
    for bad in ("SIZE=1 size=2", "=3", "SIZE=", "a=b=c", "-x=1"):
        with pytest.raises(MessageError):
            read_parameters(bad)

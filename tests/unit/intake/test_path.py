"""Paths and parameters of MAIL and RCPT."""

from __future__ import annotations

import pytest

from mcmt.errors import MessageError
from mcmt.intake.path import read_parameters, read_path


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
def test_plain_paths_are_read(argument: str, address: str, parameters: str) -> None:
    assert read_path(argument, "FROM") == (address, parameters)


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
        ("TO:<.a..b.@under_score.example.com>", ".a..b.@under_score.example.com"),
        (r'TO:<"a\\b\"c"@example.com>', r'"a\\b\"c"@example.com'),
        ("TO:<user@[IPv6:2001:db8::1]>", "user@[IPv6:2001:db8::1]"),
    ],
)
def test_other_paths_are_read_too(argument: str, address: str) -> None:
    assert read_path(argument, "TO") == (address, "")


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
        ("TO:<a@[.c>", 553, "5.1.3"),
        ("TO:<a@b..c>", 553, "5.1.3"),
        ("TO:<a@b@c>", 553, "5.1.3"),
        ("TO:<a(comment)@example.com>", 553, "5.1.3"),
        ("TO:<a b@example.com>", 553, "5.1.3"),
        ("TO:<a@b c>", 553, "5.1.3"),
        ("TO:<a\x85b@example.com>", 553, "5.1.3"),
        ('TO:<"a\u2028b"@example.com>', 553, "5.1.3"),
        ('TO:<"a\tb"@example.com>', 553, "5.1.3"),
        ("TO:<=?utf-8?q?a=0D=0ARCPT?= b@example.com>", 553, "5.1.3"),
        (f"TO:<{'a' * 600}@example.com>", 501, "5.1.3"),
        (f"TO:<a@{'b.' * 130}com>", 501, "5.1.3"),
    ],
)
def test_what_is_no_path_is_refused(argument: str, code: int, enhanced: str) -> None:
    with pytest.raises(MessageError) as raised:
        read_path(argument, "TO")
    assert (raised.value.code, raised.value.enhanced) == (code, enhanced)


@pytest.mark.parametrize(
    "path",
    ["=?utf-8?q?a=0D=0AX?=@example.com", '"=?utf-8?q?a=0D=0AX?="@example.com', '"=?utf-8?b?DQo=?="@example.com'],
)
def test_an_encoded_word_is_no_encoded_word_in_a_path(path: str) -> None:
    """RFC 2047 5 (3): decoded, it would be a line end in an address, and a command of its own at the next server."""
    assert read_path(f"FROM:<{path}>", "FROM") == (path, "")


def test_hostile_paths_are_read_in_time_linear_in_their_length() -> None:
    for argument in (
        "TO:<" + "a-" * 1000,
        "TO:<a@" + "b-" * 1000 + ">",
        'TO:<"' + "\\" * 2000,
        "TO:<" + "a." * 1000 + ">",
        "TO:<" + "@a," * 600 + "@b:c",
        "TO:<" + "@a," * 600 + ">",
        'TO:<"' + "\\a" * 900 + '">',
    ):
        with pytest.raises(MessageError):
            read_path(argument, "TO")


def test_parameters_are_read_by_name_once_each() -> None:
    assert read_parameters("size=3 SMTPUTF8  Body=8bitmime") == {"SIZE": "3", "SMTPUTF8": "", "BODY": "8bitmime"}
    for bad in ("SIZE=1 size=2", "=3", "SIZE=", "a=b=c", "-x=1"):
        with pytest.raises(MessageError):
            read_parameters(bad)

"""YAML is read with the place of everything, without YAML 1.1's traps, and never by raising."""

from __future__ import annotations

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.config.document import Mark, read


def data(text: str) -> dict[str, object]:
    document = read(text.encode(), "f.yaml")
    assert document.faults == ()
    (reading,) = document.readings
    return reading.data


def faults(content: str | bytes) -> list[str]:
    document = read(content.encode() if isinstance(content, str) else content, "f.yaml")
    return [str(fault) for _, fault in document.faults]


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("no", False),
        ("off", False),
        ("Yes", True),
        ("on", True),
        ("true", True),
        ('"no"', "no"),
        ("22:22", "22:22"),  # 1342 by YAML 1.1
        ("010", "010"),  # 8 by YAML 1.1
        ("0644", "0644"),
        ("1e3", "1e3"),
        ("0x1f", "0x1f"),
        ("2026-11-22", "2026-11-22"),
        ("1_000", 1000),
        ("-5", -5),
        ("0", 0),
        ("1.5", 1.5),
        ("127.0.0.1", "127.0.0.1"),
        ("~", None),
        ("", None),
        (".inf", ".inf"),
        ("!!str 5", "5"),
    ],
)
def test_a_plain_value_is_what_it_looks_like(text: str, value: object) -> None:
    assert data(f"key: {text}") == {"key": value}


def test_keys_are_text_whatever_they_look_like() -> None:
    assert data("no: 1\n22:22: 2\n010: 3\n127.0.0.1:25: 4\n") == {"no": 1, "22:22": 2, "010": 3, "127.0.0.1:25": 4}


def test_every_key_and_value_has_its_line_and_column() -> None:
    (reading,) = read("a: 1\nä:\n  - x\n  - {c: 2}\n".encode(), "f.yaml").readings

    assert reading.mark(("a",)) == Mark(1, 4)
    assert reading.mark(("a",), key=True) == Mark(1, 1)
    assert reading.mark(("ä", 1, "c")) == Mark(4, 9)
    assert reading.mark(("ä", 1, "c"), key=True) == Mark(4, 6)


def test_what_is_not_there_has_the_place_of_what_is_around_it() -> None:
    (reading,) = read(b"a:\n  b: {c: 1}\n", "f.yaml").readings

    assert reading.mark(("a", "b", "missing")) == Mark(2, 3)
    assert reading.mark(("elsewhere",)) == Mark()


def test_a_repeated_key_is_a_fault_and_every_one_of_its_values_is_read() -> None:
    document = read(b"a: 1\na: {x: 1, x: 2}\nb: 5\na: 3\n", "f.yaml")

    assert [str(fault) for _, fault in document.faults] == [
        "f.yaml:2:1: a: already given in line 1; keep one of the two",
        "f.yaml:4:1: a: already given in line 1; keep one of the two",
        "f.yaml:2:11: a.x: already given in line 2; keep one of the two",
    ]
    assert [reading.data for reading in document.readings] == [
        {"a": 1, "b": 5},
        {"a": {"x": 1}, "b": 5},
        {"a": {"x": 2}, "b": 5},
        {"a": 3, "b": 5},
    ]
    assert document.readings[2].mark(("a", "x")) == Mark(2, 14)


def test_merge_keys_rank_below_the_mappings_own() -> None:
    assert data("a: &a {x: 1, y: 2}\nb: {<<: *a, y: 3}\nc: {<<: [*a, {z: 4, x: 9}]}\n") == {
        "a": {"x": 1, "y": 2},
        "b": {"y": 3, "x": 1},
        "c": {"x": 1, "y": 2, "z": 4},
    }


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ("a: [1\nb: 2\n", "f.yaml:2:2: not valid YAML: did not find expected ',' or ']'"),
        ("a: 'x\n", "f.yaml:2:1: not valid YAML: found unexpected end of stream"),
        ("\ta: 1\n", "f.yaml:1:1: not valid YAML: found character that cannot start any token"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2:1: not valid YAML: but found another document"),
        ("a: *b\n", "f.yaml:1:4: not valid YAML: found undefined alias"),
        ("ä: 1\nb: \x01\n", "f.yaml:2:4: not valid YAML: character U+0001 is not allowed"),
        (b"a: 1\n\xc3\xa4: \xff\n", "f.yaml:2:4: byte 0xff is not UTF-8"),
        ("- a\n- b\n", "f.yaml:1:1: expected options as name: value lines"),
        ("[a, b]: 1\n", "f.yaml:1:1: a name cannot be a list or a mapping; put it in quotes"),
        ("a: !!binary aGk=\n", "f.yaml:1:4: a: 'aGk=' cannot be read as a value of type binary"),
        ("a: !shell x\n", "f.yaml:1:4: a: 'x' cannot be read as a value of type !shell"),
        ("a: " + "9" * 5000, f"f.yaml:1:4: a: '{'9' * 40}' cannot be read as a value of type int"),
        ("a: &x [*x]\n", "f.yaml:1:4: a.0: an alias of this value contains itself"),
        ("a: {<<: 3}\n", "f.yaml:1:9: a.<<: expected an alias of a mapping, or a list of them"),
        ("a: " + "[" * 100_000, "f.yaml:1:53: nested more than 50 levels deep"),
    ],
)
def test_what_cannot_be_read_is_one_fault_with_its_place(content: str | bytes, fault: str) -> None:
    (found,) = faults(content)
    assert found.startswith(fault)


def test_a_byte_order_mark_is_no_part_of_the_text() -> None:
    (reading,) = read(b"\xef\xbb\xbfa: 1\n", "f.yaml").readings
    assert reading.data == {"a": 1}


def test_an_empty_file_has_no_options() -> None:
    assert data("# nothing\n") == {}


def test_aliases_cannot_make_a_small_file_a_huge_document() -> None:
    lists = "a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]\n"
    lists += "".join(f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]\n" for n in range(1, 12))
    merges = "a0: &a0 {x: 1}\n" + "".join(f"a{n}: &a{n} {{<<: [*a{n - 1}, *a{n - 1}]}}\n" for n in range(1, 60))
    chain = "a0: &a0 [1]\n" + "".join(f"a{n}: &a{n} [*a{n - 1}]\n" for n in range(1, 2000))

    began = time.monotonic()
    assert "makes the document too large" in faults(lists)[0]
    assert faults(merges) == []
    assert "makes the document too large" in faults(chain)[0]
    assert time.monotonic() - began < 10


@given(st.text(alphabet=" \n\t-:[]{}#&*!|>'\"%@`<~,?abn019.\x00ä\ud7ff", max_size=40))
def test_no_text_makes_it_raise(text: str) -> None:
    read(text.encode(), "f.yaml")


@given(st.binary(max_size=30))
def test_no_bytes_make_it_raise(content: bytes) -> None:
    read(content, "f.yaml")

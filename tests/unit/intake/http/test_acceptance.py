"""Keys that make a message the same message, and what a client is told of what was not kept."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.errors import NotKept, OutboxAway, SpoolFull
from mcmt.intake.http.acceptance import once_of
from mcmt.intake.http.problem import Problem
from mcmt.spool.standing import Once
from tests.unit.intake.http.conftest import MESSAGE, SHOP, Start

KEYS = st.text(st.characters(min_codepoint=0x20, max_codepoint=0x7E), min_size=1, max_size=255)
NAMES = st.sampled_from(["a", "a0", "b"])


def once(key: str, token: str, line: int = 0) -> Once:
    found = once_of(key, msgspec.structs.replace(SHOP, name=token), b"sent", line=line)
    assert found is not None
    return found


def bare(key: str) -> str:
    return key[1:-1] if len(key) > 1 and key[0] == key[-1] == '"' else key


@given(one=st.tuples(KEYS, NAMES, st.integers(0, 30)), other=st.tuples(KEYS, NAMES, st.integers(0, 30)))
def test_keys_are_one_only_when_text_token_and_line_are(one: tuple[str, str, int], other: tuple[str, str, int]) -> None:
    keys = [(bare(key), token, line) for key, token, line in (one, other)]
    if not all(key for key, _, _ in keys):
        return  # quotes with nothing in them
    assert (once(*one).key == once(*other).key) is (keys[0] == keys[1])


@given(key=KEYS, cut=st.integers(0, 254), line=st.integers(0, 10_000))
def test_a_key_that_is_a_part_of_another_is_another(key: str, cut: int, line: int) -> None:
    for part in {key[:cut], key[cut:], f"{key[:240]}/{line}"} - {key, ""}:
        if bare(part) != bare(key) and bare(part) and bare(key):
            assert once(part, "a").key not in (once(key, "a").key, once(key, "a", line or 1).key)


def test_of_what_was_sent_everything_counts() -> None:
    fingerprints = {once_of("k", SHOP, *sent) for sent in ((b"a", b"b"), (b"ab",), (b"a", b"", b"b"), (b"b", b"a"))}
    assert len(fingerprints) == 4
    assert once_of(None, SHOP, b"a") is None


@pytest.mark.parametrize("key", ["", '""', "x" * 256, "\x7f", "a\tb", "ü", "\udcff"])
def test_a_key_is_1_to_255_printable_characters(key: str) -> None:
    with pytest.raises(Problem) as refused:
        once_of(key, SHOP)
    assert (refused.value.status, refused.value.field) == (400, "Idempotency-Key")


async def test_the_same_again_is_the_same_message_and_says_so(start: Start) -> None:
    server = await start()
    first = await server.request(MESSAGE, Idempotency_Key="k")
    again = await server.request(MESSAGE, Idempotency_Key='"k"')
    assert (first.status, again.status, again.body) == (202, 202, first.body)
    assert ["idempotency-replayed" in answer.headers for answer in (first, again)] == [False, True]
    assert first.headers["location"] == again.headers["location"] == f"/v1/messages/{first.body['id']}"
    assert len(server.sent) == 1


async def test_another_message_with_the_key_is_422_and_recorded(start: Start) -> None:
    server = await start()
    await server.request(MESSAGE, Idempotency_Key="k")
    answer = await server.request({**MESSAGE, "to": ["b@sink.example.com"]}, Idempotency_Key="k")
    assert (answer.status, answer.body["field"]) == (422, "Idempotency-Key")
    await server.settled(lambda: bool(server.spool.recorded))
    (event,) = server.spool.recorded
    assert (event.protocol, event.phase, event.user, event.code) == ("http", "HTTP", "shop", "422")


@pytest.mark.parametrize(
    ("failure", "wait", "says"),
    [
        (SpoolFull("full"), "30", "the disk is full; nothing was kept"),
        (OutboxAway("away"), "1", "nothing was kept"),
        (NotKept("who knows"), "1", "it is not known to be kept"),
    ],
    ids=["full", "away", "unknown"],
)
@pytest.mark.parametrize("key", [{}, {"Idempotency_Key": "k"}], ids=["no key", "key"])
async def test_what_is_not_kept_is_503_with_a_time_to_come_again(
    start: Start, failure: Exception, wait: str, says: str, key: dict[str, str]
) -> None:
    server = await start()
    server.spool.failure = failure
    answer = await server.request(MESSAGE, **key)
    assert (answer.status, answer.headers["retry-after"]) == (503, wait)
    assert says in answer.body["detail"]
    assert "who knows" not in answer.body["detail"]


async def test_deliveries_that_fail_with_the_reception_are_counted(start: Start) -> None:
    """A domain that needs a part which the message lacks, beside one that does not."""
    server = await start()
    to = ["a@sink.example.com", "b@apn.example.com"]
    answer = await server.request({**MESSAGE, "to": to})
    assert (answer.status, answer.body["deliveries"]) == (202, 2)
    assert server.sent == ["a@sink.example.com"]

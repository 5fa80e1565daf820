"""Bearer tokens: made, stored as a digest, and known again by it alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcmt.intake.http.problem import Problem
from mcmt.intake.http.tokens import BYTES, PREFIX, Tokens, hash_of, make_token
from tests.unit.intake.http.conftest import NARROW, SHOP

TOKEN = make_token(bytes(BYTES))
TOKENS = Tokens({hash_of(TOKEN): SHOP, hash_of("n"): NARROW})


@given(octets=st.binary(min_size=BYTES, max_size=BYTES))
def test_a_token_is_a_word_with_a_prefix_and_stands_as_a_digest(octets: bytes) -> None:
    token = make_token(octets)
    assert token.startswith(PREFIX)
    assert token.isascii()
    assert len(token) == 48
    digest = hash_of(token)
    assert digest.startswith("sha256:")
    assert len(digest) == 71
    assert token not in digest


@pytest.mark.parametrize("said", ["Bearer {}", "bearer {}", "BEARER  {} "])
def test_the_scheme_is_a_word_of_any_case(said: str) -> None:
    assert TOKENS.holder(said.format(TOKEN), "send") is SHOP


@pytest.mark.parametrize("said", [None, "", "Bearer", "Bearer ", "Basic abc", TOKEN])
def test_who_gives_no_token_is_asked_for_one(said: str | None) -> None:
    with pytest.raises(Problem) as refused:
        TOKENS.holder(said, "send")
    assert (refused.value.status, refused.value.headers["WWW-Authenticate"]) == (401, 'Bearer realm="mcmt"')


@given(said=st.text())
def test_no_other_text_is_a_token(said: str) -> None:
    with pytest.raises(Problem) as refused:
        TOKENS.holder(f"Bearer x{said}", "send")
    assert refused.value.status == 401
    assert "x" + said not in refused.value.detail.split() or not said


def test_a_token_without_the_scope_is_told_which_it_lacks() -> None:
    with pytest.raises(Problem) as refused:
        TOKENS.holder("Bearer n", "status")
    assert refused.value.status == 403
    assert refused.value.headers["WWW-Authenticate"].endswith('error="insufficient_scope", scope="status"')

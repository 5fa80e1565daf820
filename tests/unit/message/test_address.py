"""Domains by which mail is routed, however they are written."""

from __future__ import annotations

import pytest

from mcmt.message.address import domain_of, local_part_of, routing_name


@pytest.mark.parametrize(
    ("written", "name"),
    [
        ("example.com", "example.com"),
        ("EXAMPLE.Com.", "example.com"),
        ("b\u00fccher.example", "xn--bcher-kva.example"),
        ("B\u00dcCHER.Example.", "xn--bcher-kva.example"),
        ("bu\u0308cher.example", "xn--bcher-kva.example"),
        ("XN--BCHER-KVA.example", "xn--bcher-kva.example"),
        ("\u4f8b\u3048\u3002\u30c6\u30b9\u30c8", "xn--r8jz45g.xn--zckzah"),
        ("stra\u00dfe.example", "xn--strae-oqa.example"),
        ("STRA\u1e9eE.example", "xn--strae-oqa.example"),
        ("\uff45xample.com", "example.com"),
        # What no internationalised name can be stays as it is, and is routed by nothing.
        ("\u202e.example", "\u202e.example"),
        ("\uff0a", "\uff0a"),
        ("\uff0fapn\uff0f", "\uff0fapn\uff0f"),
        ("ex\u00a0ample.com", "ex\u00a0ample.com"),
        ("x.\uff04\uff08\uff49\uff44\uff09.example", "x.\uff04\uff08\uff49\uff44\uff09.example"),
        ("a_\u00fc.example", "xn--a_-yka.example"),
        ("", ""),
    ],
)
def test_a_domain_has_one_name(written: str, name: str) -> None:
    assert routing_name(written) == name
    assert domain_of(f"user@{written}") == name
    assert routing_name(name) == name


def test_sharp_s_is_not_ss() -> None:
    """They are two domains since RFC 5891: mail for one must not go where the other one's goes."""
    assert routing_name("stra\u00dfe.example") != routing_name("strasse.example")


def test_the_local_part_is_what_stands_before_the_last_at() -> None:
    assert local_part_of('"a@b"@example.com') == '"a@b"'
    assert local_part_of("postmaster") == "postmaster"

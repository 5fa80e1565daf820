"""Routes as they are written, and what cannot be one."""

from __future__ import annotations

import pytest

from mcmt.message.route import Route, parse_route


@pytest.mark.parametrize(
    ("text", "route"),
    [
        ("apn://api.push.apple.com", Route("apn", "api.push.apple.com")),
        ("apn://127.0.0.1:2197", Route("apn", "127.0.0.1", 2197)),
        ("apn://[::1]:2197", Route("apn", "::1", 2197)),
        ("apn://[fe80::1%eth0]", Route("apn", "fe80::1%eth0")),
        ("apn://host?port=2197&protocol=binary", Route("apn", "host", 2197, (("protocol", "binary"),))),
        ("smtp://mail_1.internal.", Route("smtp", "mail_1.internal.")),
        ("smtp://b\u00fccher.example", Route("smtp", "b\u00fccher.example")),
    ],
)
def test_a_route_is_a_scheme_a_host_and_options(text: str, route: Route) -> None:
    assert parse_route(text) == route


@pytest.mark.parametrize(
    "host", ["a..b", ".a", "ho st", "a,b", "%00", "*", "x" * 64, ".".join(["x" * 60] * 5), "\u00fc" * 64, "[1::2::3]"]
)
def test_what_can_be_no_host_is_refused_before_anything_is_looked_up(host: str) -> None:
    with pytest.raises(ValueError, match=r"is no host name and no address|does not appear to be an IPv4 or IPv6"):
        parse_route(f"apn://{host}")

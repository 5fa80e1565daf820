"""docs/submission.md tells the limits as they are."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from mcmt.config.schema import ListenerStanza, ListenStanza
from mcmt.intake import limits, passwords

TEXT = (Path(__file__).parents[3] / "docs" / "submission.md").read_text()
NO_LIMIT = {
    "mcmt_reception",
    "relay_hosts",
    "authorized_xclient_hosts",
    "proxy_protocol",
    "tls_certificate",
    "tls_key",
    "require_tls",
    "users_file",
    "discard_ehlo_keywords",
}
UNITS = {"MB": 1024**2, "s": 1, "bytes/s": 1, "": 1}
LIMITS = [
    pytest.param(name, field.default, id=name)
    for model in (ListenerStanza, ListenStanza)
    for name, field in model.model_fields.items()
    if name not in NO_LIMIT
]


@pytest.mark.parametrize(("name", "default"), LIMITS)
def test_every_limit_is_told_with_its_default(name: str, default: float) -> None:
    row = re.search(rf"^\| `{name}` \| (\d+) ?([A-Za-z/]*) \|", TEXT, re.MULTILINE)
    assert row, f"{name} is not told"
    assert int(row[1]) * UNITS[row[2]] == default


def test_what_is_fixed_is_told_as_it_is() -> None:
    for figure in (
        f"at most {limits.COMMAND_LINE} octets",
        f"within TLS {limits.AUTH_LINE})",
        f"a line of a message {limits.DATA_LINE}",
        f"an address {limits.PATH} and its\ndomain {limits.DOMAIN}",
        f"handshake may take {limits.TLS_HANDSHAKE:.0f} s",
        f"{limits.AUTH_PENDING} passwords may wait",
        f"{limits.REFUSALS} refusals",
        f"from {limits.DATA_GRACE:.0f} s after 354",
        f"costs the client {limits.AUTH_DELAY:.0f} s, then {limits.AUTH_DELAY * 2:.0f}",
        f"n {passwords.N}, r {passwords.R}, p {passwords.P}, a salt of {passwords.SALT} bytes",
    ):
        assert figure in TEXT, figure

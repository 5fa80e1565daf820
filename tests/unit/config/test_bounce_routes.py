"""Bounces are mail: a configuration in which they have no way says so."""

from __future__ import annotations

import pytest

from tests.unit.config.support import LISTENER, SPOOL, Configuration

PUSH = 'a.example.com: {delivery_method: apn, routes: ["apn://localhost"]}'
SILENT = 'a.example.com: {delivery_method: apn, routes: ["apn://localhost"], generate_bounces: false}'
MAIL = '"%s": {delivery_method: discard, routes: ["discard://sink"], generate_bounces: %s}'


def notes(configuration: Configuration, *domains: str) -> list[str]:
    """Warnings and findings about bounces."""
    text = f"{SPOOL}{LISTENER}domain: {{{', '.join(domains)}}}\n"
    loaded = configuration.load(text, open_files=False)
    return [
        kind + str(note).partition("mcmt.yaml")[2]
        for kind, found in (("warning", loaded.warnings), ("finding", loaded.findings))
        for note in found
        if "bounces" in note.text
    ]


def test_without_any_domain_that_carries_mail_no_bounce_has_a_route(configuration: Configuration) -> None:
    (note,) = notes(configuration, PUSH)
    assert note.startswith("warning:3:1: domain: no route for bounces: no domain carries mail")
    assert "generate_bounces: false" in note


def test_where_only_some_domains_carry_mail_it_is_said_which(configuration: Configuration) -> None:
    (note,) = notes(configuration, PUSH, MAIL % ("b.example.com", "true"))
    assert note.startswith("finding:3:9: domain: bounces have a route only to b.example.com")


@pytest.mark.parametrize("domains", [[PUSH, MAIL % ("*", "true")], [SILENT], [SILENT, MAIL % ("b.example.com", "no")]])
def test_nothing_is_said_where_all_is_well_or_nothing_bounces(configuration: Configuration, domains: list[str]) -> None:
    assert notes(configuration, *domains) == []


def test_a_domain_says_whether_it_makes_bounces(configuration: Configuration) -> None:
    text = f"generate_bounces: no\n{SPOOL}{LISTENER}domain: {{{PUSH}, {MAIL % ('*', 'yes')}}}\n"
    domains = configuration.load(text, open_files=False).settings.domains
    assert {name: domain.generate_bounces for name, domain in domains.items()} == {"a.example.com": False, "*": True}

"""Addresses of the HTTP API and who may use it."""

from __future__ import annotations

from tests.unit.config.support import LISTENER, SPOOL, Configuration

DOMAINS = 'domain:\n  d.example.com: {delivery_method: discard, routes: ["discard://sink"]}\n'
HASH = "sha256:" + "a" * 64


def text(listen: str = '"127.0.0.1:8025": {}', tokens: str = f'shop: {{hash: "{HASH}"}}', more: str = "") -> str:
    return f"{SPOOL}{LISTENER}{DOMAINS}http_listener: {{{more}listen: {{{listen}}}, tokens: {{{tokens}}}}}\n"


def faults(configuration: Configuration, document: str) -> list[str]:
    return [fault for fault in configuration.faults(document) if "http_listener" in fault]


def test_without_the_stanza_there_is_none(configuration: Configuration) -> None:
    settings = configuration.load(SPOOL + LISTENER + DOMAINS).settings
    assert (settings.http.listen, settings.http.tokens) == ((), {})


def test_every_option_arrives(configuration: Configuration) -> None:
    tokens = f'shop: {{hash: "{HASH}", scopes: [send], domains: [D.example.com.]}}'
    listen = '"127.0.0.1:8025": {max_message_size: 1MB, idle_timeout: 5, data_timeout: 7}'
    http = configuration.load(text(listen, tokens, "status_retention: 2d, ")).settings.http
    (address,) = http.listen
    token = http.tokens[HASH]
    assert (address.host, address.port, address.max_message_size) == ("127.0.0.1", 8025, 1024**2)
    assert (address.idle_timeout, address.data_timeout, http.status_retention) == (5, 7, 2 * 86400)
    assert (token.name, set(token.scopes), token.domains) == ("shop", {"send"}, frozenset({"d.example.com"}))


def test_it_comes_last_among_the_addresses(configuration: Configuration) -> None:
    assert [one.word for one in configuration.load(text()).settings.addresses] == ["SMTP", "HTTP"]


def test_all_faults_are_found_in_one_run(configuration: Configuration) -> None:
    tokens = (
        f'one: {{hash: "{HASH}"}}, two: {{hash: "{HASH}"}}, three: {{hash: x}}, "a b": {{hash: "{HASH[:-1]}b"}}, '
        f'four: {{hash: "{HASH[:-1]}c", domains: [elsewhere.example.com]}}, five: {{scopes: [all], hash: "{HASH}"}}'
    )
    listen = '"127.0.0.1": {}, "127.0.0.1:8025": {tls_key: key.pem, max_message_size: 1GB}, "127.0.0.1:2525": {}'
    found = "\n".join(faults(configuration, text(listen, tokens, "status_retention: 1h, too: 1, ")))
    for wanted in (
        "status_retention",
        "http_listener.too",
        "expected an address and a port",
        "tls_key: needs tls_certificate",
        "so that it would never fit",
        "already takes this address and port",
        "is that of one too",
        "expected sha256: and 64 hex digits",
        "expected a name of up to 64 letters",
        "there is no domain elsewhere.example.com",
        "five.scopes",
    ):
        assert wanted in found


def test_without_a_token_nobody_could_use_it(configuration: Configuration) -> None:
    assert "mcmt apikey" in "".join(faults(configuration, text(tokens="")))


def test_an_address_that_others_reach_without_tls_is_warned_of(configuration: Configuration) -> None:
    warnings = configuration.load(text('":8025": {}')).warnings
    assert any("go over the net in clear" in warning.text for warning in warnings)

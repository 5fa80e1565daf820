"""``webhook``: where events are sent to as they happen, read into WebhookSettings."""

from __future__ import annotations

import base64
import binascii
import re
import ssl
from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Final
from urllib.parse import SplitResult, urlsplit

from mcmt.config.document import Path
from mcmt.config.faults import Checker
from mcmt.config.patterns import compile_expression, expression_of, patterns_among
from mcmt.config.scopes import GROUPS
from mcmt.config.settings import DomainSettings
from mcmt.config.webhook_schema import WebhookStanza
from mcmt.config.webhook_settings import WebhookSettings
from mcmt.message.address import routing_name

WEBHOOK: Final = "webhook"
PREFIX: Final = "whsec_"
_is_name = re.compile(r"[A-Za-z0-9_-]{1,64}").fullmatch
_is_printable = re.compile(r"[!-~]+").fullmatch
_LEAST_SECRET, _MOST_SECRET = 24, 64
"""Bytes (Standard Webhooks 1.0.0, Signature scheme)."""
_SAME = (
    *("tls_ca", "events", "token_log", "batch_size", "batch_wait"),
    *("timeout", "retry_interval", "max_retry_interval", "max_queue_size"),
)


def read_webhooks(
    checker: Checker, domains: Mapping[str, DomainSettings], *, open_files: bool = True
) -> tuple[WebhookSettings, ...]:
    """Every webhook that is right; what is wrong is noted in *checker*."""
    found = []
    for name, options in checker.mapping((WEBHOOK,), checker.data.get(WEBHOOK)).items():
        path: Path = (WEBHOOK, name)
        if not _is_name(name):
            checker.fault(path, "expected a name of up to 64 letters, digits, dashes and underscores", key=True)
        stanza, wrong = checker.stanza(WebhookStanza, path, options)
        if stanza is None:
            continue
        check_url(
            checker,
            (*path, "url"),
            stanza.url,
            example="https://events.example.com/mcmt",
            instead="requests are signed with the secret, and it is no password",
            leaves="recipients and device tokens",
        )
        for number, secret in enumerate(stanza.secret):
            if not _is_secret(secret):
                at = (*path, "secret", number) if isinstance(options.get("secret"), list) else (*path, "secret")
                text = f"expected {PREFIX} and the base64 of {_LEAST_SECRET} to {_MOST_SECRET} random bytes"
                checker.fault(at, f"{text}, as this makes: echo {PREFIX}$(openssl rand -base64 32)")
        if open_files and stanza.tls_ca is not None:
            try:
                ssl.create_default_context(cafile=stanza.tls_ca)
            except ssl.SSLError:
                checker.fault((*path, "tls_ca"), f"{stanza.tls_ca} holds no certificate (PEM)")
            except OSError as error:
                checker.fault((*path, "tls_ca"), f"{stanza.tls_ca} cannot be read: {error.strerror}")
        if stanza.max_retry_interval < stanza.retry_interval and "max_retry_interval" not in wrong:
            checker.fault((*path, "max_retry_interval"), "is less than retry_interval; change one")
        taken = [
            *_domains(checker, (*path, "domains"), stanza.domains or (), domains),
            *_members(checker, (*path, "groups"), stanza.groups or ()),
        ]
        everything = stanza.domains is None and stanza.groups is None
        found.append(
            WebhookSettings(
                name=name,
                url=stanza.url,
                secret=stanza.secret,
                domains=None if everything else tuple(dict.fromkeys(taken)),
                **{option: getattr(stanza, option) for option in _SAME},
            )
        )
    return tuple(found)


def check_url(checker: Checker, path: Path, url: str, *, example: str, instead: str, leaves: str) -> None:
    """Note what is wrong with a URL that requests are sent to. *instead*: of a user in it; *leaves*: what goes out."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = SplitResult("", "", "", "", ""), None
    if not host or parts.scheme not in ("https", "http") or not _is_printable(url):
        checker.fault(path, f"expected a URL such as {example}")
    elif parts.username is not None or parts.fragment:
        checker.fault(path, f"has a user or a fragment; write it without: {instead}")
    elif parts.scheme == "http" and not _is_loopback(host):
        checker.warn(path, f"is http and not of this machine: {leaves} go over the net in clear; use https")


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _is_secret(text: str) -> bool:
    try:
        key = base64.b64decode(text.removeprefix(PREFIX), validate=True)
    except (binascii.Error, ValueError):
        return False
    return text.startswith(PREFIX) and _LEAST_SECRET <= len(key) <= _MOST_SECRET


def _domains(
    checker: Checker, path: Path, given: Sequence[str], domains: Mapping[str, DomainSettings]
) -> Iterator[str]:
    patterns = patterns_among(domains)
    for number, written in enumerate(given):
        if expression_of(written) is not None:
            try:
                compile_expression(written)
            except ValueError as error:
                checker.fault((*path, number), str(error))
            else:
                yield written
            continue
        name = routing_name(written)
        if name not in domains and patterns.stanza_of(name) not in domains:
            checker.fault((*path, number), f"there is no domain {written}; give it a stanza below domain")
        yield name


def _members(checker: Checker, path: Path, given: Sequence[str]) -> Iterator[str]:
    groups = checker.data.get(GROUPS)
    for number, name in enumerate(given):
        group = groups.get(name) if isinstance(groups, dict) else None
        if not isinstance(group, dict):
            checker.fault((*path, number), f"there is no group {name} below {GROUPS}")
            continue
        members = group.get("members")
        if isinstance(members, list):  # what is wrong with them is told where they stand
            yield from (routing_name(one) for one in members if isinstance(one, str))

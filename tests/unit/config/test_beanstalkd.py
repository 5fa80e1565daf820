"""Servers that jobs are taken from."""

from __future__ import annotations

import pytest

from mcmt.config.settings import BeanstalkdSettings
from tests.unit.config.support import LISTENER, SPOOL, Configuration
from tests.unit.config.test_gateways import DOMAINS


def stanza(connect: str) -> str:
    return f"{SPOOL}{LISTENER}{DOMAINS}beanstalkd: {{connect: {{{connect}}}}}\n"


def one(options: str) -> str:
    return stanza(f'"127.0.0.1:11300": {{{options}}}')


def test_without_the_stanza_there_are_none(configuration: Configuration) -> None:
    assert configuration.load(f"{SPOOL}{LISTENER}{DOMAINS}", open_files=False).settings.beanstalkd == ()


def test_every_option_arrives(configuration: Configuration) -> None:
    loaded = configuration.load(
        stanza(
            '"127.0.0.1:11300": {tubes: {com.example.app: A.example.com., default: a.example.com}, '
            "return_path: push@example.com, max_message_size: 1MB}, "
            '"queue.example.com:11300": {tubes: {com.example.app: a.example.com}}'
        ),
        open_files=False,
    )
    assert loaded.settings.beanstalkd == (
        BeanstalkdSettings(
            address="127.0.0.1:11300",
            host="127.0.0.1",
            port=11300,
            tubes={"com.example.app": "a.example.com", "default": "a.example.com"},
            return_path="push@example.com",
            max_message_size=1024**2,
        ),
        BeanstalkdSettings(
            address="queue.example.com:11300",
            host="queue.example.com",
            port=11300,
            tubes={"com.example.app": "a.example.com"},
        ),
    )
    (warning,) = [str(found) for found in loaded.warnings]
    assert "queue.example.com:11300: is not this machine: jobs come in clear" in warning
    # Nothing listens for it.
    assert [address.word for address in loaded.settings.addresses] == ["SMTP"]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (one(""), "tubes"),
        (one("tubes: {}"), "tubes"),
        (one("tubes: {a b: a.example.com}"), "a tube has 1 to 200 letters"),
        (one("tubes: {-a: a.example.com}"), "a tube has 1 to 200 letters"),
        (one("tubes: {a: b.example.com}"), "there is no domain b.example.com to push to"),
        (one("tubes: {a: d.example.com}"), "which takes no push"),
        (one("tubes: {a: a.example.com}, return_path: x"), "expected a mail address"),
        (one("tubes: {a: a.example.com}, max_message_size: 1GB"), "would never fit"),
        (stanza('"11300": {tubes: {a: a.example.com}}'), "expected an address and a port"),
        (stanza('":11300": {tubes: {a: a.example.com}}'), "expected a server and its port"),
        (stanza('"127.0.0.1:0": {tubes: {a: a.example.com}}'), "expected a server and its port"),
        (
            stanza('"Q.example.com:1": {tubes: {a: a.example.com}}, "q.example.com:1": {tubes: {b: a.example.com}}'),
            "Q.example.com:1 is the same server",
        ),
        (f"{SPOOL}{LISTENER}{DOMAINS}beanstalkd: {{}}\n", "there is no server to take jobs from"),
        (f"{SPOOL}{LISTENER}{DOMAINS}beanstalkd: {{tubes: {{}}}}\n", "it belongs to a server below beanstalkd.connect"),
    ],
)
def test_what_is_wrong_is_said(configuration: Configuration, text: str, fault: str) -> None:
    assert any(fault in found for found in configuration.faults(text)), configuration.faults(text)

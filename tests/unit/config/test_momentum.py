"""A Momentum configuration becomes one of ours; what is not carried over is told, each with its place."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
import yaml
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from mcmt.cli import main
from mcmt.config.load import load
from mcmt.config.momentum import Imported, import_momentum
from mcmt.errors import ConfigError
from tests.unit.config.support import channels

SAMPLE = """\
esmtp_listener {
listen ":25"{
mcmt_reception = "allow"
}
}
domain "apn_example.com" {
# TLS
# Currently the "tls" option is ignored by APN
# but explicitly configure it anyway
tls = "required"
# Set other TLS options
tls_verify = "no"
tls_certificate = "/path/to/cert"
tls_key = "/path/to/key"
tls_ciphers = "DEFAULT"
max_outbound_connections = 20
delivery_response_timeout = 1000
delivery_method = "apn"
routes = ("apn://gateway.push.apple.com?port=2195")
# set any other options here
...
}
# The APN server
apn {}
# optional apn_logger module
apn_logger "apn_logger1" {
logmode = 0644
logfile = "/var/log/ecelerity/apnlog.ec"
heartbeat = 60
}
"""
"""The sample of Momentum's manual, Using APNs."""


def imported(folder: Path, text: str) -> Imported:
    file = folder / "ecelerity.conf"
    file.write_text(text)
    return import_momentum(file, channels())


def notes(folder: Path, text: str) -> list[str]:
    return [str(note).replace(f"{folder}/", "") for note in imported(folder, text).notes]


def test_the_sample_of_the_manual(tmp_path: Path) -> None:
    assert imported(tmp_path, SAMPLE).document == {
        "spool": {"path": "spool"},
        "esmtp_listener": {"listen": {":25": {"mcmt_reception": "allow"}}},
        "domain": {
            "apn_example.com": {
                "tls_verify": "no",
                "tls_certificate": "/path/to/cert",
                "tls_key": "/path/to/key",
                "max_outbound_connections": 20,
                "delivery_response_timeout": 1000,
                "delivery_method": "apn",
                "routes": ["apn://api.push.apple.com:443"],
            }
        },
        "apn_logger": {"apn_logger1": {"logmode": "0644", "logfile": "/var/log/ecelerity/apnlog.ec", "heartbeat": 60}},
    }
    assert [note.partition(": ")[0] + " " + note.split(": ")[1] for note in notes(tmp_path, SAMPLE)] == [
        "ecelerity.conf:10 tls",
        "ecelerity.conf:15 tls_ciphers",
        "ecelerity.conf:19 routes",
        "ecelerity.conf:21 ...",
    ]


def test_what_the_command_writes_is_a_configuration(tmp_path: Path) -> None:
    (tmp_path / "ecelerity.conf").write_text(SAMPLE)
    done = CliRunner().invoke(main, ["import-momentum", str(tmp_path / "ecelerity.conf")])
    assert done.exit_code == 0
    config = tmp_path / "mcmt.yaml"
    config.write_text(done.stdout)
    assert done.stdout.count("#   ") == len(done.stderr.splitlines()) == 4
    settings = load(config, channels(), open_files=False, full_hostname=lambda: "mx.example.com").settings
    assert settings.domains["apn_example.com"].max_outbound_connections == 20
    assert settings.channel_loggers[0].logmode == 0o644


def test_comments_includes_and_what_is_written_in_any_case(tmp_path: Path) -> None:
    (tmp_path / "conf.d").mkdir()
    (tmp_path / "conf.d" / "b.conf").write_text('Domain "b.example.com" { Gateway = "mail.example.com" }\n')
    (tmp_path / "conf.d" / "a.conf").write_text("RETRY_Interval = 7 # seconds\n")
    (tmp_path / "conf.d" / ".hidden").write_text("{{{")
    text = """\
/* a comment
   of two lines */ hostname = mx.example.com
include "conf.d"
Message_Expiration = 3600 Generate_Bounces = disabled
domain "/^apn\\./" { delivery_method = apn, }
"""
    document = imported(tmp_path, text.replace(", }", "\n routes = ( 'apn://a' , 'apn://b' ) }")).document
    assert document["hostname"] == "mx.example.com"
    assert document["retry_interval"] == 7
    assert document["message_expiration"] == 3600
    assert document["generate_bounces"] is False
    assert document["domain"] == {
        "b.example.com": {"delivery_method": "smtp", "routes": ["smtp://mail.example.com"]},
        r"/^apn\./": {"delivery_method": "apn", "routes": ["apn://a", "apn://b"]},
    }


def test_throttles_are_carried_over_with_their_scopes(tmp_path: Path) -> None:
    text = """\
Outbound_Throttle_Messages = "100/1"
domain "a.example.com" {
  gateway = "mail.example.com"
  outbound_throttle_messages = 5000/60
  outbound_throttle_connections = 3
}
domain "b.example.com" { gateway = "mail.example.com" }
"""
    assert notes(tmp_path, text) == []
    document = imported(tmp_path, text).document
    assert document["outbound_throttle_messages"] == "100/1"
    config = tmp_path / "mcmt.yaml"
    config.write_text(yaml.safe_dump(document))
    domains = load(config, channels(), open_files=False, full_hostname=lambda: "mx.example.com").settings.domains
    shown = {
        name: (str(domain.outbound_throttle_messages), str(domain.outbound_throttle_connections))
        for name, domain in domains.items()
    }
    assert shown == {"a.example.com": ("5000/60", "3/1"), "b.example.com": ("100/1", "None")}
    assert domains["b.example.com"].scopes["outbound_throttle_messages"] == (), "one bucket, as there"


def test_every_address_is_written_as_it_is_here(tmp_path: Path) -> None:
    text = 'esmtp_listener { listen "*:25" { max_message_size = 1000 } listen "[::1]:26" { } }'
    assert notes(tmp_path, text) == []
    assert imported(tmp_path, text).document["esmtp_listener"] == {
        "listen": {":25": {"max_message_size": 1000}, "[::1]:26": {}}
    }


@pytest.mark.parametrize(
    ("text", "note"),
    [
        ("outbound_throttle = 3", "1: outbound_throttle: there is no such option here"),
        ('binding "b" { domain "d" { a = 1 } }', '1: binding "b": there are no bindings: give its domains'),
        ('domain "d" { retry_interval = 3 }', '1: domain "d": MX is not looked up here: name a mail server'),
        ('domain "d" { delivery_method = "gcm" }', '1: domain "d": there is no channel gcm'),
        ('domain "d" { delivery_method = "apn" }', '1: domain "d": it has no routes'),
        ('domain "/[/" { }', '1: domain "/[/": not a regular expression'),
        ("idle_timeout = 0", "1: idle_timeout: Input should be greater than 0"),
        ("max_outbound_connections = -1", "1: max_outbound_connections: Input should be"),
        ("apn { debug_level = error\n speed = 3 }", "2: speed: the channel has no options of its own"),
        ('esmtp_listener { pathway "x" { } }', '1: pathway "x": there is nothing like it in a listener'),
        ('esmtp_listener { listen "/tmp/2025" { } }', '1: listen "/tmp/2025": expected an address and a port'),
        ("spoolbase = /var/spool", "1: spoolbase: the spool of one cannot be read by the other"),
        ('snmp "x" { a = [ b = ( c d ) e = f ] }', '1: snmp "x": there is nothing like it here'),
    ],
)
def test_what_is_not_carried_over_is_told_with_its_place(tmp_path: Path, text: str, note: str) -> None:
    (told,) = notes(tmp_path, text)
    assert told.startswith(f"ecelerity.conf:{note}")


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a {\nb = 1", '2: a stanza has no end: "}" is missing'),
        ("}", "1: a name was expected, got '}'"),
        ("a = }", "1: a value was expected, got '}'"),
        ("a = ( b", '1: ")" is missing'),
        ("a = [ b c ]", "1: name = value was expected"),
        ("a = [ b", "1: name = value was expected"),
        ('a = "b', "1: a value was expected, got '\"'"),
        ("a =", "1: a value was expected"),
        ("\ninclude ecelerity.conf", "2: ecelerity.conf includes itself"),
        ('include "a\0b"', "1: no file has a NUL in its name"),
        ("a {" * 60, "1: nested too deep"),
        ("a = " + "(" * 60, "1: nested too deep"),
    ],
)
def test_what_is_not_momentums_language_is_a_fault_with_its_place(tmp_path: Path, text: str, fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        imported(tmp_path, text)
    assert str(caught.value).replace(f"{tmp_path}/", "").startswith(f"ecelerity.conf:{fault}")


@given(
    st.lists(
        st.sampled_from([*'{}()[]=,;"', "'", "/*", "*/", "#", "\n", " ", "domain", "routes", "include", "x", "\\"])
    )
)
def test_no_text_makes_it_fail_otherwise_than_by_a_fault(tokens: list[str]) -> None:
    with TemporaryDirectory() as folder:
        try:
            found = imported(Path(folder), "".join(tokens))
        except ConfigError:
            return
        assert yaml.safe_load(yaml.safe_dump(found.document)) == found.document


def test_the_head_of_what_is_written_names_what_is_missing(tmp_path: Path) -> None:
    (tmp_path / "ecelerity.conf").write_text("outbound_throttle = 3\n")
    done = CliRunner().invoke(main, ["import-momentum", str(tmp_path / "ecelerity.conf")])
    assert "# Not carried over as it stands there:\n" in done.stdout
    assert yaml.safe_load(done.stdout)["domain"] == {}

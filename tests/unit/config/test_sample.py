"""The sample config/mcmt.yaml works as it is and names every option, with its default."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic.fields import FieldInfo

from channels.apn.options import FeedbackOptions
from mcmt.config.beanstalkd import BeanstalkdStanza
from mcmt.config.document import Path as Place
from mcmt.config.document import Reading, read
from mcmt.config.load import load
from mcmt.config.rotate_schema import RotateStanza
from mcmt.config.rule_schema import RuleMatchStanza, RuleSetStanza, RuleStanza, RuleThenStanza
from mcmt.config.sample import uncommented as uncommented_text
from mcmt.config.schema import (
    ChannelLoggerStanza,
    ControlStanza,
    DomainStanza,
    GatewayStanza,
    GroupStanza,
    HttpAddressStanza,
    HttpStanza,
    HttpTokenStanza,
    ListenerStanza,
    ListenStanza,
    MainLoggerStanza,
    MakeDomainsStanza,
    MonitorStanza,
    PropellerStanza,
    PyapnsStanza,
    RootStanza,
    SpoolStanza,
    TokenLoggerStanza,
)
from mcmt.config.shaping import CurfewStanza
from mcmt.config.telemetry import TelemetryStanza
from mcmt.config.webhook_schema import WebhookStanza
from mcmt.config.xmpp import XmppStanza
from mcmt.errors import ConfigError
from mcmt.eventlog.format import check_format
from mcmt.options import OptionsModel
from tests.unit.config.support import channels

SAMPLE = Path(__file__).parents[3] / "config" / "mcmt.yaml"

TOKEN: Place = ("domain", "apn.example.com")
CERTIFICATE: Place = ("domain", "apn-certificate.example.com")
SMARTHOST: Place = ("domain", "*")
RULE: Place = ("rules", "too-many")
LISTEN: Place = ("esmtp_listener", "listen", "127.0.0.1:2525")

STANZAS: list[tuple[type[OptionsModel], list[Place]]] = [
    (RootStanza, [()]),
    (SpoolStanza, [("spool",)]),
    (ControlStanza, [("control",)]),
    (MonitorStanza, [("monitor",)]),
    (ListenerStanza, [("esmtp_listener",)]),
    (ListenStanza, [LISTEN]),
    (GatewayStanza, [("apns_gateway", "listen", place) for place in ("127.0.0.1:2195", "127.0.0.1:3195")]),
    (HttpStanza, [("http_listener",)]),
    (HttpAddressStanza, [("http_listener", "listen", "127.0.0.1:8025")]),
    (HttpTokenStanza, [("http_listener", "tokens", "shop")]),
    (PyapnsStanza, [("pyapns", "listen", "127.0.0.1:7077")]),
    (MakeDomainsStanza, [("pyapns", "listen", "127.0.0.1:7077", "make_domains")]),
    (PropellerStanza, [("propeller", "listen", "127.0.0.1:8080")]),
    (CurfewStanza, [("curfew",)]),
    (RuleStanza, [(*RULE,)]),
    (RuleMatchStanza, [(*RULE, "match")]),
    (RuleThenStanza, [(*RULE, "then")]),
    (RuleSetStanza, [(*RULE, "then", "set")]),
    (BeanstalkdStanza, [("beanstalkd", "connect", "127.0.0.1:11300")]),
    (XmppStanza, [("xmpp_component", "127.0.0.1:5347")]),
    (DomainStanza, [(), ("domain", "discard.example.com")]),
    (GroupStanza, [("domain_group", "apps")]),
    (channels()["apn"].Options, [TOKEN, CERTIFICATE]),
    (FeedbackOptions, [(*CERTIFICATE, "feedback")]),
    (channels()["smtp"].Options, [SMARTHOST]),
    (ChannelLoggerStanza, [("apn_logger", "apn_logger1")]),
    (MainLoggerStanza, [("ec_logger", "ec_logger1")]),
    (TokenLoggerStanza, [("token_logger", "token_logger1")]),
    (WebhookStanza, [("webhook", "webhook1")]),
    (TelemetryStanza, [("opentelemetry",)]),
    (RotateStanza, [("apn_logger", "apn_logger1", "rotate")]),
    (RotateStanza, [("ec_logger", "ec_logger1", "rotate")]),
]
OPTIONS = [
    pytest.param(model, name, places, id=f"{model.__name__}.{name}")
    for model, places in STANZAS
    for name in model.model_fields
]


def uncommented() -> str:
    """The sample with every option set."""
    return uncommented_text(SAMPLE.read_text())


def everything() -> Reading:
    document = read(uncommented().encode(), "mcmt.yaml")
    assert document.faults == ()
    return document.readings[0]


def at(data: Any, place: Place) -> Any:
    for step in place:
        data = data[step]
    return data


def test_the_sample_works_as_it_is() -> None:
    loaded = load(SAMPLE, channels(), check_format=check_format, full_hostname=lambda: "host.example.com")

    assert loaded.warnings == ()
    assert list(loaded.settings.domains) == ["discard.example.com"]
    # Safe: only this machine can reach it.
    assert [listen.host for listen in loaded.settings.listen] == ["127.0.0.1"]
    assert loaded.settings.spool.path == SAMPLE.parents[1] / "spool"


def test_with_everything_set_only_files_are_missing(tmp_path: Path) -> None:
    file = tmp_path / "mcmt.yaml"
    file.write_text(uncommented())

    with pytest.raises(ConfigError) as caught:
        load(file, channels(), check_format=check_format)

    assert [fault.option.rpartition(".")[2] for fault in caught.value.faults] == [
        "apn_auth_key",
        "tls_ca",
        "tls_certificate",
        "tls_ca",
        "tls_certificate",
        "tls_ca",
        "tls_ca",
    ]
    assert all(fault.text.endswith("cannot be read: No such file or directory") for fault in caught.value.faults)


@pytest.mark.parametrize(("model", "name", "places"), OPTIONS)
def test_every_option_is_named_with_its_default(model: type[OptionsModel], name: str, places: list[Place]) -> None:
    reading = everything()
    place = next(place for place in places if name in at(reading.data, place))
    line = uncommented().splitlines()[reading.mark((*place, name), key=True).line - 1]
    comment = line.rpartition(" # ")[2]
    assert comment, f"{name} is not explained"
    field = model.model_fields[name]
    if field.is_required():
        assert comment.endswith("required")
        return
    told = re.search(r"default: (.+?)(, or .*|; it cannot be switched off)?$", comment)
    assert told, f"the default of {name} is not told"
    default = field.get_default(call_default_factory=True)
    written = at(reading.data, place)[name] if told[1] == "as shown" else yaml.safe_load(told[1])
    if told[1] == "as shown":
        logger = channels()["apn"].LOGGER
        assert logger is not None
        assert written == getattr(logger, name.removeprefix("log_").removesuffix("_format"))
    elif default is None and (name != "max_retries" or model is RuleSetStanza):
        assert told[1]  # in words: there is no value that means it
    else:
        assert value(model, name, field, told[1]) == default


def value(model: type[OptionsModel], name: str, field: FieldInfo, text: str) -> object:
    """What the option would be if *text* stood in the file."""
    (reading,) = read(f"{name}: {text}\n".encode(), "default").readings
    needed: dict[str, object] = {}
    if model is DomainStanza:
        needed = {"delivery_method": "x", "routes": ["x://y"]}
    elif model is CurfewStanza:
        needed = {"start": "22:00", "end": "07:00", "time_zone": "UTC"}
    elif model is RuleThenStanza:
        needed = {"set": {"retry_interval": 1}, "duration": 1}
    elif model is RuleMatchStanza:
        needed = {"code": 429}
    elif model is RuleStanza:
        needed = {"match": {"code": 429}, "times": 1, "within": 1, "then": {"suspend": True, "duration": 1}}
    elif model is SpoolStanza:
        needed = {"path": "spool"}
    elif model is FeedbackOptions:
        needed = {"route": "apn-feedback://gateway.example.com"}
    elif model is TokenLoggerStanza:
        needed = {"logfile": "tokens.jsonl"}
    elif model is WebhookStanza:
        needed = {"url": "x", "secret": "x"}
    elif model is TelemetryStanza:
        needed = {"endpoint": "x"}
    elif model is GatewayStanza:
        needed = {"tls_certificate": "x", "client_ca": "x"}
    elif model is HttpTokenStanza:
        needed = {"hash": "x"}
    elif model is MakeDomainsStanza:
        needed = {"suffix": "x"}
    elif model is PropellerStanza:
        needed = {"auth_token": "x", "topics": {"x": "y"}}
    elif model is BeanstalkdStanza:
        needed = {"tubes": {"x": "y"}}
    elif model is XmppStanza:
        needed = {"jid": "x", "secret": "x", "domain": "x"}
    return getattr(model.model_validate({**needed, **reading.data}), name)


def test_nothing_is_named_that_is_no_option() -> None:
    """Every line that looks like an option is one: a commented name that no stanza knows would be a fault above."""
    known = {name for model, _ in STANZAS for name in model.model_fields}
    stanzas = {
        "apns_gateway",
        "http_listener",
        "tokens",
        "pyapns",
        "propeller",
        "beanstalkd",
        "connect",
        "xmpp_component",
        "spool",
        "control",
        "esmtp_listener",
        "monitor",
        "listen",
        "domain",
        "domain_group",
        "include",
        "apn_logger",
        "ec_logger",
        "token_logger",
        "webhook",
        "opentelemetry",
    }
    instances = {"discard.example.com", "apn.example.com", "apn-certificate.example.com", "shop", "too-many"}
    instances |= {"apps", "apn_logger1", "ec_logger1", "token_logger1", "webhook1"}
    names = set(re.findall(r"^ *([\w.-]+):", uncommented(), flags=re.MULTILINE))
    assert names - known - stanzas - instances == set()


@pytest.mark.parametrize(
    "junk", ["", "[]", "{}", "{a: {b: 1}}", "[[1], {}]", "-7", "true", "1.5", "'~x'", "' '", "'\\0'", "9" * 400]
)
def test_whatever_stands_in_the_place_of_a_value_is_at_most_a_fault(tmp_path: Path, junk: str) -> None:
    """ConfigError is all that ever comes out, and every fault but those of missing files has a line and a column."""
    file = tmp_path / "mcmt.yaml"
    lines = uncommented().splitlines(keepends=True)
    for number, line in enumerate(lines):
        match = re.match(r" *[^ #][^ ]*:(?= |$)", line)
        if match is None:
            continue
        file.write_text("".join([*lines[:number], f"{match[0]} {junk}\n", *lines[number + 1 :]]))
        try:
            load(file, channels(), check_format=check_format, full_hostname=lambda: "host.example.com")
        except ConfigError as error:
            for fault in error.faults:
                assert re.fullmatch(r".*mcmt\.yaml(:\d+:\d+)?", fault.place)
                assert fault.text

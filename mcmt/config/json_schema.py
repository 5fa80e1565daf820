"""The JSON Schema (draft 2020-12) of the configuration, made from the models that read it, for editors.

It knows every option, its type and what the sample says of it, and which options a channel has. What depends on several
options, and what stands in files, is left to ``mcmt check``.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from mcmt.config.beanstalkd import STANZA as BEANSTALKD
from mcmt.config.beanstalkd import BeanstalkdStanza
from mcmt.config.channel_schema import Channels, ChannelSchema
from mcmt.config.document import Path as Place
from mcmt.config.gateways import STANZA as GATEWAY
from mcmt.config.http import STANZA as HTTP
from mcmt.config.includes import INCLUDE
from mcmt.config.loggers import MAIN, TOKENS
from mcmt.config.monitor import MONITOR
from mcmt.config.request_doors import PROPELLER, PYAPNS
from mcmt.config.rotate_schema import RotateStanza
from mcmt.config.sample import ANY, Descriptions, sample_file
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
    MonitorStanza,
    PropellerStanza,
    PyapnsStanza,
    RootStanza,
    SpoolStanza,
    TokenLoggerStanza,
)
from mcmt.config.scopes import GROUPS
from mcmt.config.telemetry import OPENTELEMETRY, TelemetryStanza
from mcmt.config.webhook_schema import WebhookStanza
from mcmt.config.webhooks import WEBHOOK
from mcmt.config.xmpp import STANZA as XMPP
from mcmt.config.xmpp import XmppStanza
from mcmt.options import OptionsModel

Schema = dict[str, Any]


def json_schema(channels: Channels) -> Schema:
    """The schema of a configuration whose domains may have these *channels*."""
    defaults: Schema = {}
    for properties in (_properties(DomainStanza), *(_channel(each) for each in channels.values())):
        for option, schema in properties.items():
            defaults[option] = _either(defaults.get(option), schema)
    defaults = {option: _or_null(schema) for option, schema in defaults.items()}
    loggers = {each.LOGGER.stanza: ChannelLoggerStanza for each in channels.values() if each.LOGGER}
    domain = _domain(channels, defaults)
    group = _domain(channels, defaults | _properties(GroupStanza), required=["members"])
    schema = {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "mcmt",
        "$defs": {"domain": domain, "domain_group": group},
        "type": "object",
        "additionalProperties": False,
        "properties": {
            INCLUDE: {"anyOf": [{"type": "string"}, {"type": "array", "items": {"type": "string"}}]},
            **defaults,
            **_properties(RootStanza),
            "spool": _stanza(SpoolStanza),
            "control": _empty_or(_stanza(ControlStanza)),
            MONITOR: _empty_or(_stanza(MonitorStanza)),
            "esmtp_listener": _stanza(ListenerStanza, listen=_map(_stanza(ListenStanza))),
            GATEWAY: _object({"listen": _map(_stanza(GatewayStanza))}),
            HTTP: _stanza(HttpStanza, listen=_map(_stanza(HttpAddressStanza)), tokens=_map(_stanza(HttpTokenStanza))),
            PYAPNS: _object({"listen": _map(_stanza(PyapnsStanza))}),
            PROPELLER: _object({"listen": _map(_stanza(PropellerStanza))}),
            BEANSTALKD: _object({"connect": _map(_stanza(BeanstalkdStanza))}),
            XMPP: _map(_stanza(XmppStanza)),
            "domain": _map({"$ref": "#/$defs/domain"}),
            GROUPS: _map({"$ref": "#/$defs/domain_group"}),
            **{name: _map(_logger(model)) for name, model in sorted(loggers.items())},
            MAIN: _map(_logger(MainLoggerStanza)),
            TOKENS: _map(_logger(TokenLoggerStanza)),
            WEBHOOK: _map(_stanza(WebhookStanza)),
            OPENTELEMETRY: _stanza(TelemetryStanza),
            **{name: _empty_or(_object({})) for name in channels},
        },
    }
    descriptions = Descriptions(sample_file().read_text("utf-8"))
    for definition, place in (("domain", ("domain", ANY)), ("domain_group", (GROUPS, ANY))):
        schema["$defs"][definition] = _described(schema["$defs"][definition], place, descriptions)
    return _described(schema, (), descriptions)


def alternatives(schema: Schema) -> Iterator[Schema]:
    """What a value may be: *schema* itself, each of its "anyOf", each item of a list."""
    yield schema
    for each in schema.get("anyOf", ()):
        yield from alternatives(each)
    if isinstance(items := schema.get("items"), dict):
        yield from alternatives(items)


def _described(schema: Schema, place: Place, descriptions: Descriptions) -> Schema:
    """*schema* with what is said of each option in it."""
    made = dict(schema)
    if "properties" in schema:
        made["properties"] = {
            name: _with_description(_described(each, (*place, name), descriptions), (*place, name), descriptions)
            for name, each in schema["properties"].items()
        }
    if isinstance(inner := schema.get("additionalProperties"), dict):
        made["additionalProperties"] = _described(inner, (*place, ANY), descriptions)
    if isinstance(inner := schema.get("items"), dict):
        made["items"] = _described(inner, place, descriptions)  # the sample shows one, not a list
    if "anyOf" in schema:
        made["anyOf"] = [_described(each, place, descriptions) for each in schema["anyOf"]]
    return made


def _with_description(schema: Schema, place: Place, descriptions: Descriptions) -> Schema:
    told = descriptions.of(place)
    return {**schema, "description": told} if told else schema


def _properties(model: type[OptionsModel]) -> Schema:
    schema = model.model_json_schema()
    found: Schema = _tidy(schema.get("properties", {}), schema.get("$defs", {}))
    return found


def _channel(channel: ChannelSchema) -> Schema:
    ignored = {name: {"deprecated": True, "description": why} for name, why in channel.Options.IGNORED.items()}
    return {**_properties(channel.Options), **ignored}


def _tidy(schema: Any, models: Schema) -> Any:
    """*schema* without titles, with *models* in place, and with the booleans that YAML makes of some words."""
    if isinstance(schema, list):
        return [_tidy(each, models) for each in schema]
    if not isinstance(schema, dict):
        return schema
    if "$ref" in schema:
        return _tidy(models[schema["$ref"].rpartition("/")[2]], models)
    # "title" is an annotation, or an option of that name.
    tidied = {key: _tidy(value, models) for key, value in schema.items() if key != "title" or isinstance(value, dict)}
    words = tidied.get("enum")
    if isinstance(words, list):
        booleans = [word == "yes" for word in words if word in ("yes", "no")]
        tidied["enum"] = [*words, *booleans]
        if booleans:
            tidied.pop("type", None)
    return tidied


def _either(first: Schema | None, second: Schema) -> Schema:
    return second if first is None or first == second else {"anyOf": [first, second]}


def _or_null(schema: Schema) -> Schema:
    return {"anyOf": [{key: value for key, value in schema.items() if key != "default"}, {"type": "null"}]} | {
        key: value for key, value in schema.items() if key == "default"
    }


def _object(properties: Mapping[str, Any], required: Iterable[str] = ()) -> Schema:
    return {
        "type": "object",
        "additionalProperties": False,
        "properties": dict(properties),
        "required": sorted(required),
    }


def _stanza(model: type[OptionsModel], **more: Schema) -> Schema:
    required = [name for name, field in model.model_fields.items() if field.is_required()]
    return _object(_properties(model) | more, required)


def _empty_or(schema: Schema) -> Schema:
    return {"anyOf": [schema, {"type": "null"}]}


def _map(schema: Schema) -> Schema:
    """Named stanzas; one without options may be empty."""
    return _empty_or({"type": "object", "additionalProperties": _empty_or(schema)})


def _logger(model: type[OptionsModel]) -> Schema:
    return _stanza(model, rotate=_empty_or(_stanza(RotateStanza)))


def _domain(channels: Channels, properties: Schema, required: Iterable[str] = ()) -> Schema:
    """A stanza with every option of any channel, and for each channel what it has not."""
    ours = DomainStanza.model_fields.keys() | GroupStanza.model_fields.keys()
    rules = [
        {
            "if": {"properties": {"delivery_method": {"const": kind}}, "required": ["delivery_method"]},
            "then": {"propertyNames": {"enum": sorted(ours | _channel(channel).keys())}},
        }
        for kind, channel in sorted(channels.items())
    ]
    return _object(properties, required) | {"allOf": rules}

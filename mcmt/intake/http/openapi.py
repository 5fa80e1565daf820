"""The OpenAPI 3.1 document: what a client may send is taken from the structures that read it."""

from __future__ import annotations

from typing import Any, Final

import msgspec

from mcmt import __version__
from mcmt.intake.http.problem import CONTENT_TYPE
from mcmt.intake.http.standing import PAGE
from mcmt.intake.http.submission import SubmittedMessage
from mcmt.message.priority import WORDS

_REFERENCE: Final = "#/components/schemas/{name}"
_KEY: Final = {
    "name": "Idempotency-Key",
    "in": "header",
    "description": "The same key and the same request again: the same id, and nothing is sent twice. Known for a day.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_TIME: Final = {"type": "string", "format": "date-time"}
_DELIVERY: Final = {
    "type": "object",
    "required": ["id", "to", "token", "state"],
    "properties": {
        "id": {"type": "string", "description": "As in the logs"},
        "to": {"type": "string"},
        "token": {"type": "string"},
        "state": {"enum": ["waiting", "sending", "delivered", "failed"]},
        "time": {**_TIME, "description": "When it ended"},
        "code": {"type": "string", "description": "The gateway's status"},
        "text": {"type": "string", "description": "The gateway's reason"},
        "remote_id": {"type": "string", "description": "The gateway's id of it, as apns-id"},
        "attempts": {"type": "integer"},
        "due": _TIME,
        "expires": _TIME,
        "last": {"type": "string", "description": "Code and text of the last answer"},
    },
}
_PROBLEM: Final = {
    "type": "object",
    "required": ["type", "title", "status", "detail"],
    "properties": {
        "type": {"type": "string"},
        "title": {"type": "string"},
        "status": {"type": "integer"},
        "detail": {"type": "string"},
        "field": {"type": "string", "description": "What is to blame, as parts[0].tokens"},
    },
}
_ACCEPTED: Final = {
    "type": "object",
    "required": ["id", "deliveries"],
    "properties": {"id": {"type": "string", "pattern": "^[0-9a-f]{24}$"}, "deliveries": {"type": "integer"}},
}


def document() -> bytes:
    """The document as JSON."""
    (message,), components = msgspec.json.schema_components([SubmittedMessage], ref_template=_REFERENCE)
    schemas: dict[str, Any] = {
        **components,
        "Accepted": _ACCEPTED,
        "Delivery": _DELIVERY,
        "Problem": _PROBLEM,
        "Standing": {
            "type": "object",
            "required": ["id", "received", "total", "deliveries"],
            "properties": {
                "id": {"type": "string"},
                "received": _TIME,
                "total": {"type": "integer"},
                "deliveries": {"type": "array", "items": _reference("Delivery")},
                "next": {"type": "string", "description": "Where more of them are"},
            },
        },
    }
    told = {
        "openapi": "3.1.0",
        "info": {"title": "mcmt", "version": __version__},
        "security": [{"bearer": []}],
        "paths": {
            "/v1/messages": {"post": _post(message)},
            "/v1/messages/{id}": {"get": _get()},
            "/v1/openapi.json": {
                "get": {
                    "operationId": "openapi",
                    "summary": "This document",
                    "security": [],
                    "responses": {"200": _content("This document", {"type": "object"})},
                }
            },
        },
        "components": {"schemas": schemas, "securitySchemes": {"bearer": {"type": "http", "scheme": "bearer"}}},
    }
    return msgspec.json.encode(told)


def _reference(name: str) -> dict[str, str]:
    return {"$ref": _REFERENCE.format(name=name)}


def _content(description: str, schema: dict[str, Any], media_type: str = "application/json") -> dict[str, Any]:
    return {"description": description, "content": {media_type: {"schema": schema}}}


def _problems(**described: str) -> dict[str, Any]:
    return {
        status.removeprefix("_"): _content(text, _reference("Problem"), CONTENT_TYPE)
        for status, text in described.items()
    }


def _post(message: dict[str, Any]) -> dict[str, Any]:
    text = {"schema": {"type": "string"}}
    accepted = _content("It is on disk, with all its deliveries", _reference("Accepted"))
    accepted["headers"] = {"Location": {"schema": {"type": "string"}}}
    bulk = _content("Of NDJSON: a line for each line", {"type": "string"}, "application/x-ndjson")
    query = [
        {"name": name, "in": "query", "description": f"Of a raw message: {name}", "schema": schema}
        for name, schema in (
            ("to", {"type": "array", "items": {"type": "string"}}),
            ("from", {"type": "string"}),
            ("schedule", {"type": "string"}),
            ("expires", {"type": "string"}),
            ("priority", {"enum": list(WORDS)}),
        )
    ]
    return {
        "operationId": "send",
        "summary": "Send a message",
        "description": "JSON; or a message as it is, its envelope in the query; or NDJSON, a message a line.",
        "parameters": [_KEY, *query],
        "requestBody": {
            "required": True,
            "content": {
                "application/json": {"schema": message},
                "application/x-ndjson": text,
                "message/rfc822": text,
                "multipart/vnd.msys.mcmt": text,
            },
        },
        "responses": {
            "202": accepted,
            "200": bulk,
            **_problems(
                _400="The message is wrong, and where",
                _401="No token, or none that is known",
                _403="The token may not do this",
                _408="The body did not come in time",
                _413="It is larger than max_message_size",
                _415="A media type that is not taken",
                _422="The key was used for another message",
                _429="Come again: memory is short",
                _503="Come again: it was not kept, or is not known to be",
            ),
        },
    }


def _get() -> dict[str, Any]:
    page = {"type": "integer", "minimum": 0, "maximum": 999_999_999}
    return {
        "operationId": "standing",
        "summary": "Where every delivery of a message stands",
        "parameters": [
            {"name": "id", "in": "path", "required": True, "schema": {"type": "string", "minLength": 1}},
            {"name": "after", "in": "query", "description": "The last number of the page before", "schema": page},
            {"name": "limit", "in": "query", "description": f"At most {PAGE}", "schema": page},
        ],
        "responses": {
            "200": _content("A page of its deliveries", _reference("Standing")),
            **_problems(
                _400="A parameter is wrong",
                _401="No token, or none that is known",
                _403="The token may not do this",
                _404="There is no such message of this token's",
                _503="Come again: a process is being started",
            ),
        },
    }

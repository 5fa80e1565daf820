"""Requests of older push servers' clients: what is read does not depend on how it was split; a call or a fault, a form
or nothing, and whatever is taken can be sent."""

from __future__ import annotations

import json
import xmlrpc.client

from mcmt.errors import MessageError
from mcmt.intake.propeller import FIELDS, read_form
from mcmt.intake.pyapns.notifications import read_notifications
from mcmt.intake.pyapns.xmlrpc import FAILURE, XmlRpcFault, fault, read_call, result
from mcmt.wire.http1 import HEAD, Refusal, Request, RequestParser
from tests.fuzz.octets import Octets, cut

LONGEST = 8192
_BODY = 4096


def run(data: bytes) -> None:
    octets = Octets(data)
    seed = octets.number(2)
    stream = octets.rest()
    found = _requests([stream])
    assert _requests(cut(stream, seed)) == found
    for request in found[0]:
        assert len(request.body) <= _BODY
        assert request.path.startswith("/")
        _form(request)
        _call(request.body)
    _call(stream)


def _requests(pieces: list[bytes]) -> tuple[list[Request], Refusal | None]:
    parser = RequestParser(_BODY)
    found: list[Request] = []
    for piece in pieces:
        parser.receive(piece)
        while (request := parser.take()) is not None:
            found.append(request)
        assert parser.held < HEAD + _BODY + len(piece)
    return found, parser.refusal


def _form(request: Request) -> None:
    for name, value in read_form(request).items():
        assert len(name) + len(value) <= 3 * len(request.body)
    assert len(read_form(request)) <= FIELDS + 1


def _call(body: bytes) -> None:
    try:
        call = read_call(body)
    except XmlRpcFault as told:
        assert (told.code, told.text.startswith("Can't deserialize input: ")) == (FAILURE, True)
        _reads(fault(told))
        return
    assert b"<!DOCTYPE" not in body.partition(b"<methodCall")[0]
    try:
        notifications = read_notifications(*call.values[1:3]) if len(call.values) == 3 else ()
    except MessageError:
        return
    for each in notifications:
        assert isinstance(json.loads(each.payload), dict)
        assert 0 < len(each.token) <= 100
    _reads(result(None))


def _reads(answer: bytes) -> None:
    """A client can read it."""
    try:
        xmlrpc.client.loads(answer)
    except xmlrpc.client.Fault as told:
        assert told.faultCode == FAILURE

"""XML-RPC as pyapns speaks it: a call out of a body, a body out of a result. Pure.

Source: xmlrpc.com/spec.md, with the nil extension both ways; the faults are those of Twisted 20.3, which served pyapns.

Rules: no DTD and no entity of its own passes (so nothing expands and nothing is fetched); elements do not nest deeper
than DEPTH. What is wrong is an XmlRpcFault with the text that clients of pyapns know.
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple
from xml.parsers import expat
from xmlrpc import client

NOT_FOUND: Final = 8001
FAILURE: Final = 8002
DEPTH: Final = 400
"""Elements within one another: a struct within a struct is four of them."""


class XmlRpcFault(Exception):  # noqa: N818 - the protocol's word
    """What the client is told instead of a result."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(f"{code} {text}")
        self.code = code
        self.text = text


class Call(NamedTuple):
    """A method's name, and what it is given."""

    method: str
    values: tuple[Any, ...]


def read_call(body: bytes) -> Call:
    """The call that *body* is. Raises XmlRpcFault."""
    # Dates and binaries stay objects of the library: neither is JSON, and no method takes one.
    reader = client.Unmarshaller()
    reader.xml(None, None)  # type: ignore[arg-type]  # None: text comes decoded
    parser = expat.ParserCreate()
    depth = 0

    def begin(name: str, attributes: dict[str, str]) -> None:
        nonlocal depth
        depth += 1
        if depth > DEPTH:
            raise ValueError(f"more than {DEPTH} elements within one another")
        reader.start(name, attributes)

    def end(name: str) -> None:
        nonlocal depth
        depth -= 1
        reader.end(name)

    def refuse(*_: object) -> None:
        raise ValueError("a DTD is not taken")

    parser.StartElementHandler = begin
    parser.EndElementHandler = end
    parser.CharacterDataHandler = reader.data
    parser.StartDoctypeDeclHandler = refuse
    parser.EntityDeclHandler = refuse
    parser.buffer_text = True
    try:
        parser.Parse(body, True)
        values = tuple(reader.close())
        method = reader.getmethodname()
    except client.Fault as fault:
        raise _unreadable(f"a fault: {fault.faultString}") from None
    # The unmarshaller raises whatever a stack that does not fit makes of it.
    except Exception as error:
        raise _unreadable(error) from None
    if not isinstance(method, str):
        raise _unreadable("it calls no method")
    return Call(method, values)


def _unreadable(reason: object) -> XmlRpcFault:
    return XmlRpcFault(FAILURE, f"Can't deserialize input: {reason}")


def no_such_method(name: str) -> XmlRpcFault:
    """What a client is told of a method that there is not."""
    prefix, dot, _ = name.partition(".")
    return XmlRpcFault(NOT_FOUND, f"no such subHandler {prefix}" if dot else f"procedure {name} not found")


def result(value: Any) -> bytes:
    """The body that says *value*; None is nil."""
    return client.dumps((value,), methodresponse=True, allow_none=True).encode("utf-8", "replace")


def fault(told: XmlRpcFault) -> bytes:
    """The body that says a fault."""
    text = "".join([c if c in "\t\n" or c >= " " else "?" for c in told.text[:_LONGEST]])
    return client.dumps(client.Fault(told.code, text), methodresponse=True, allow_none=True).encode("utf-8", "replace")


_LONGEST: Final = 1000
"""Characters of a fault's text: it may hold what the client has sent."""

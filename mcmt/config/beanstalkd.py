"""``beanstalkd``: the servers that jobs are taken from, read into their settings."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Final

from pydantic import Field

from mcmt.config.channel_schema import Channels
from mcmt.config.document import Path
from mcmt.config.faults import Checker
from mcmt.config.gateways import check_push_domain
from mcmt.config.listeners import parse_address
from mcmt.config.request_doors import is_loopback
from mcmt.config.settings import INTAKE_COPIES, BeanstalkdSettings, DomainSettings
from mcmt.message.address import routing_name
from mcmt.message.failure import is_mailbox
from mcmt.options import OptionsModel, Size
from mcmt.wire.beanstalk import NAME, is_tube

STANZA: Final = "beanstalkd"
_CONNECT: Final = "connect"


class BeanstalkdStanza(OptionsModel):
    """``beanstalkd.connect``, one server"""

    tubes: Annotated[dict[str, str], Field(min_length=1)]
    return_path: str | None = None
    """None: nobody hears of failures."""
    max_message_size: Annotated[Size, Field(ge=1)] = 64 * 1024


def read_beanstalkd(
    checker: Checker, channels: Channels, domains: Mapping[str, DomainSettings], memory: int
) -> tuple[BeanstalkdSettings, ...]:
    """Every server that is right; none without the stanza. *memory*: bytes of ``max_intake_bytes`` of one process."""
    if STANZA not in checker.data:
        return ()
    given = checker.mapping((STANZA,), checker.data[STANZA])
    for option in given.keys() - {_CONNECT}:
        elsewhere = dict.fromkeys(BeanstalkdStanza.model_fields, f"it belongs to a server below {STANZA}.{_CONNECT}")
        checker.unknown((STANZA, option), (), {_CONNECT}, elsewhere)
    connect: Path = (STANZA, _CONNECT)
    entries = checker.mapping(connect, given.get(_CONNECT))
    if not entries:
        checker.fault(
            connect, 'there is no server to take jobs from; add one such as "127.0.0.1:11300": {...}', key=True
        )
    found: dict[tuple[str, int], BeanstalkdSettings] = {}
    for address, options in entries.items():
        path: Path = (*connect, address)
        stanza, _ = checker.stanza(BeanstalkdStanza, path, options)
        place = _read_place(checker, path, address)
        if stanza is None or place is None:
            continue
        if place in found:
            checker.fault(path, f"{found[place].address} is the same server; keep one of the two", key=True)
        for tube, domain in stanza.tubes.items():
            if not is_tube(tube):
                text = f"a tube has 1 to {NAME} letters, digits and -+/;.$_(), and does not begin with -"
                checker.fault((*path, "tubes", tube), text, key=True)
            check_push_domain(checker, channels, domains, (*path, "tubes", tube), domain)
        if stanza.return_path and not is_mailbox(stanza.return_path):
            checker.fault((*path, "return_path"), "expected a mail address such as push@example.com")
        _check_size(checker, path, stanza.max_message_size, memory)
        if not is_loopback(place[0]):
            text = "is not this machine: jobs come in clear, and whoever reaches that server may push"
            checker.warn(path, text, key=True)
        found[place] = BeanstalkdSettings(
            address=address,
            host=place[0],
            port=place[1],
            tubes={tube: routing_name(domain) for tube, domain in stanza.tubes.items()},
            return_path=stanza.return_path or "",
            max_message_size=stanza.max_message_size,
        )
    return tuple(found.values())


def _read_place(checker: Checker, path: Path, address: str) -> tuple[str, int] | None:
    try:
        host, port = parse_address(address)
    except ValueError as error:
        checker.fault(path, str(error), key=True)
        return None
    if host is None or not port:
        checker.fault(path, 'expected a server and its port such as "127.0.0.1:11300"', key=True)
        return None
    return host, port


def _check_size(checker: Checker, path: Path, size: int, memory: int) -> None:
    if (needed := INTAKE_COPIES * size) > memory:
        checker.fault(
            (*path, "max_message_size"),
            f"a job of {size} bytes needs {needed} bytes of esmtp_listener.max_intake_bytes, and there are {memory}, "
            "so that it would never fit; change one",
        )

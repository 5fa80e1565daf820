"""``pyapns`` and ``propeller``: the addresses for clients of older push servers, read into their settings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final, TypeVar

from mcmt.config.channel_schema import Channels
from mcmt.config.document import Path
from mcmt.config.faults import Checker
from mcmt.config.gateways import check_push_domain
from mcmt.config.listeners import read_place
from mcmt.config.made_domains import making_of
from mcmt.config.made_settings import MakeDomains
from mcmt.config.schema import MakeDomainsStanza, PropellerStanza, PyapnsStanza
from mcmt.config.scopes import GROUPS
from mcmt.config.settings import (
    INTAKE_COPIES,
    AddressSettings,
    DomainSettings,
    PropellerSettings,
    PyapnsSettings,
)
from mcmt.message.address import routing_name
from mcmt.message.failure import is_mailbox

PYAPNS: Final = "pyapns"
PROPELLER: Final = "propeller"

S = TypeVar("S", PyapnsSettings, PropellerSettings)


class RequestDoorsReader:
    """Reads both stanzas; what is wrong is noted in *checker*."""

    def __init__(
        self,
        checker: Checker,
        channels: Channels,
        domains: Mapping[str, DomainSettings],
        taken: Sequence[AddressSettings],
        memory: int,
    ) -> None:
        """*taken*: the addresses of other doors. *memory*: bytes of ``max_intake_bytes`` of one process."""
        self._checker = checker
        self._channels = channels
        self._domains = domains
        self._memory = memory
        self._groups = checker.mapping((GROUPS,), checker.data.get(GROUPS)).keys()
        self._making: dict[str, MakeDomains] = {}
        self._taken = {
            f"{one.host or ''}:{one.port} of {one.option.partition('.')[0]}": (one.host, one.port) for one in taken
        }

    def pyapns(self) -> tuple[PyapnsSettings, ...]:
        """Every address that is right; none without the stanza."""
        return self._read(PYAPNS, PyapnsStanza, PyapnsSettings, ("production", "sandbox"))

    def propeller(self) -> tuple[PropellerSettings, ...]:
        """Every address that is right; none without the stanza."""
        return self._read(PROPELLER, PropellerStanza, PropellerSettings, ("topics",))

    def _read(
        self,
        name: str,
        model: type[PyapnsStanza] | type[PropellerStanza],
        settings: type[S],
        maps: tuple[str, ...],
    ) -> tuple[S, ...]:
        checker = self._checker
        if name not in checker.data:
            return ()
        given = checker.mapping((name,), checker.data[name])
        for option in given.keys() - {"listen"}:
            elsewhere = dict.fromkeys(model.model_fields, f"it belongs to an address below {name}.listen")
            checker.unknown((name, option), (), {"listen"}, elsewhere)
        listen: Path = (name, "listen")
        entries = checker.mapping(listen, given.get("listen"))
        if not entries:
            text = 'there is no address to listen on; add one such as "127.0.0.1:7077": {...}'
            checker.fault(listen, text, key=True)
        found: list[S] = []
        for address, options in entries.items():
            path: Path = (*listen, address)
            stanza, wrong = checker.stanza(model, path, options)
            place = read_place(checker, path, address, self._taken, key=True)
            if stanza is None or place is None:
                continue
            values: dict[str, Any] = {option: getattr(stanza, option) for option in model.model_fields}
            for option in maps:
                values[option] = self._read_map((*path, option), values[option] or {})
            if name == PYAPNS:
                values["make_domains"] = self._read_making(path, values["make_domains"])
            makes = values.get("make_domains") is not None or "make_domains" in wrong
            if not any(values[option] for option in maps) and not makes and not wrong & set(maps):
                checker.fault(path, f"no app has a domain; name some in {' or '.join(maps)}", key=True)
            values["return_path"] = stanza.return_path or ""
            if stanza.return_path and not is_mailbox(stanza.return_path):
                checker.fault((*path, "return_path"), "expected a mail address such as push@example.com")
            self._check_size(path, stanza.max_message_size)
            if name == PYAPNS and not is_loopback(place[0]):
                text = "is not this machine alone, and clients of pyapns show no password: whoever reaches it may push"
                checker.warn(path, text, key=True)
            found.append(settings(host=place[0], port=place[1], **values))
        return tuple(found)

    def _read_map(self, path: Path, given: Mapping[str, str]) -> Mapping[str, str]:
        for app, domain in given.items():
            check_push_domain(self._checker, self._channels, self._domains, (*path, app), domain)
        return {app: routing_name(domain) for app, domain in given.items()}

    def _read_making(self, path: Path, given: MakeDomainsStanza | None) -> MakeDomains | None:
        if given is None:
            return None
        path = (*path, "make_domains")
        making = making_of(given)
        if making.domain_group is not None and making.domain_group not in self._groups:
            self._checker.fault((*path, "domain_group"), f"there is no domain_group {making.domain_group}; add it")
        for option in ("production", "sandbox"):
            for index, route in enumerate(getattr(making, option)):
                if route.scheme != "apn":
                    self._checker.fault((*path, option, index), "expected a route such as apn://api.push.apple.com")
        if self._making.setdefault(making.suffix, making) != making:
            text = "is another address' suffix, whose make_domains is not the same; give each a suffix of its own"
            self._checker.fault((*path, "suffix"), text)
        return making

    def _check_size(self, path: Path, size: int) -> None:
        if (needed := INTAKE_COPIES * size) > self._memory:
            self._checker.fault(
                (*path, "max_message_size"),
                f"a request of {size} bytes needs {needed} bytes of esmtp_listener.max_intake_bytes, and there are "
                f"{self._memory}, so that it would never fit; change one",
            )


def is_loopback(host: str | None) -> bool:
    """Whether *host* is this machine, as it sees itself."""
    try:
        return host == "localhost" or (host is not None and ip_address(host).is_loopback)
    except ValueError:
        return False

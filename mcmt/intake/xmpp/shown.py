"""What those who watch a domain are told of the stanzas that a component gets and answers (mcmt/intake/exchanges.py).

Rules: a secret is never shown, neither one that a server shows us nor one that we give; a device token that is not in
hex, which the trace would not know for one, is not either.
"""

from __future__ import annotations

import copy
import re
from collections.abc import Callable
from typing import Final
from xml.etree.ElementTree import Element, tostring

from mcmt.intake.exchanges import Exchanges, Said
from mcmt.wire.trace import Tracing

_SECRET: Final = re.compile("(?i)secret|passw|auth")
"""In the name of a form's field."""
_is_hex: Final = re.compile(r"\s*[0-9A-Fa-f]*\s*").fullmatch
# Of our own answers, as commands.py writes them.
_GIVEN: Final = re.compile("(<field var='secret'><value>)[^<]*")


class StanzaWatch:
    """Of one component."""

    def __init__(self, tracing: Tracing, protocol: str) -> None:
        self._tracing = tracing
        self._protocol = protocol
        self._connection = ""
        self._exchanges: Exchanges | None = None

    @property
    def on(self) -> bool:
        """Somebody watches something."""
        return bool(self._tracing.watched)

    def told(
        self, stanza: Element, domain: str, address: str, connection_id: str, say: Callable[[str], None]
    ) -> Callable[[str], None]:
        """*say*, and whoever watches *domain* is told of the stanza and of what is said to it. Of a message, which is
        not answered, they are told now."""
        if self._exchanges is None or self._connection != connection_id:
            self._connection = connection_id
            self._exchanges = Exchanges(self._tracing, address, self._protocol)
        exchanges, xml = self._exchanges, _shown(stanza)
        name = stanza.tag.rpartition("}")[2]
        asked = Said(f"{name} {stanza.get('type', '')}".rstrip(), tuple(stanza.attrib.items()), len(xml), xml)
        if name != "iq":
            exchanges.tell((domain,), asked, None)
            return say

        def tell_and_say(text: str) -> None:
            shown = _GIVEN.sub(r"\1...", text).encode("utf-8", "replace")
            kind = "error" if text.partition(">")[0].endswith(" type='error'") else "result"
            exchanges.tell((domain,), asked, Said(f"iq {kind}", (), len(shown), shown, True))
            say(text)

        return tell_and_say


def _shown(stanza: Element) -> bytes:
    """Its XML, without what is secret in it."""
    shown = copy.deepcopy(stanza)
    for field in shown.iter():
        name = field.get("var", "")
        for value in field.iter() if name else ():
            if _SECRET.search(name) or ("token" in name.lower() and not _is_hex(value.text or "")):
                value.text = "..."
    return tostring(shown)

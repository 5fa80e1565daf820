"""The header block of a push, put together from prepared pieces.

Source: Apple, "Sending notification requests to APNs". Everything that the deliveries of a connection
have in common is encoded once: method, scheme and authority before the path; topic, push type, priority
and the provider token after it. What differs (path, apns-id, expiration) is appended as literals.
Nothing enters the dynamic table, so blocks do not depend on their order.
"""

from __future__ import annotations

from mcmt.message.identity import uuid_of
from mcmt.message.model import Delivery, Headers, header
from mcmt.message.priority import NORMAL
from mcmt.wire.header_block import field_name, field_value, literal

from .expiration import expiration_of

_PATH = field_name(":path")
_APNS_ID = field_name("apns-id")
_EXPIRATION = field_name("apns-expiration")
_PREPARED_LIMIT = 1024  # messages with a collapse id or an expiration of their own fill it; then it is begun anew


class RequestBuilder:
    """Builds the blocks of one connection."""

    def __init__(self, authority: str, topic: str | None, expiry: float) -> None:
        self._head = literal(":method", "POST") + literal(":scheme", "https") + literal(":authority", authority)
        self._topic = topic
        self._expiry = expiry
        self._authorization = b""
        self._prepared: dict[Headers, tuple[bytes, bool, str | None]] = {}
        self._prepared_bulk: dict[Headers, tuple[bytes, bool, str | None]] = {}

    def authorize(self, provider_token: str) -> None:
        """Use this provider token from now on."""
        # RFC 7541 7.1.3: a credential is marked so that no intermediary indexes it.
        self._authorization = literal("authorization", f"bearer {provider_token}", never_indexed=True)
        self._prepared.clear()
        self._prepared_bulk.clear()

    def block(self, delivery: Delivery) -> tuple[bytes, str]:
        """The header block and the apns-id of a delivery."""
        headers = delivery.part.headers
        known = self._prepared if delivery.priority >= NORMAL else self._prepared_bulk
        prepared = known.get(headers)
        if prepared is None:
            prepared = self._prepare(headers, known)
        tail, has_expiration, given_id = prepared
        apns_id = given_id or uuid_of(delivery.sender.batch_id, delivery.number)
        path = field_value(f"/3/device/{delivery.token}")
        block = b"".join((self._head, _PATH, path, tail, _APNS_ID, field_value(apns_id)))
        if not has_expiration:
            expiration = expiration_of(delivery.sender.received, delivery.asked, self._expiry)
            block += _EXPIRATION + field_value(str(expiration))
        return block, apns_id

    def _prepare(
        self, headers: Headers, known: dict[Headers, tuple[bytes, bool, str | None]]
    ) -> tuple[bytes, bool, str | None]:
        fields = [(name, value) for name, value in headers if name.startswith("apns-") and name != "apns-id"]
        if self._topic is not None and header(headers, "apns-topic") is None:
            fields.append(("apns-topic", self._topic))
        if known is self._prepared_bulk and header(headers, "apns-priority") is None:
            # What may let everything else pass need not wake the device: Apple's 5, where the default is 10.
            fields.append(("apns-priority", "5"))
        tail = self._authorization + b"".join(literal(name, value) for name, value in fields)
        prepared = (tail, header(headers, "apns-expiration") is not None, header(headers, "apns-id"))
        if len(known) >= _PREPARED_LIMIT:
            known.clear()
        known[headers] = prepared
        return prepared

"""A delivery as a frame of command 2, from pieces that the deliveries of one message share.

What the protocol has no item for stays behind: topic (the certificate's), push type, collapse id, apns-id.
"""

from __future__ import annotations

from typing import Final

from mcmt.message.model import Delivery, Part, header
from mcmt.message.notification import Asked
from mcmt.message.priority import NORMAL
from mcmt.wire.apns_binary import TOKEN_SIZE, Prepared, frame, prepare

from ..expiration import expiration_of

_LATEST: Final = 2**32 - 1
"""Seconds since the epoch: the expiration item has 32 bits."""
_PRIORITIES: Final = {"10": 10, "5": 5, "1": 5}
"""By apns-priority: the protocol has no 1, and 5 is what considers the device's power as well."""
_DEFAULT_PRIORITY: Final = 10
_BULK_PRIORITY: Final = 5


class FrameBuilder:
    """Builds the frames of one connection."""

    def __init__(self, expiry: float) -> None:
        """*expiry*: seconds from the reception to the expiration of messages that give none; 0: now or never."""
        self._expiry = expiry
        self._part: Part | None = None
        self._received = 0.0
        self._asked: Asked | None = None
        self._prepared = prepare(b"", 0, _DEFAULT_PRIORITY)

    def frame(self, delivery: Delivery, identifier: int) -> bytes | None:
        """The frame; None when the token has a size that no gateway takes."""
        part, received, asked = delivery.part, delivery.sender.received, delivery.asked
        # By identity: deliveries of one pull share their message's part.
        if part is not self._part or received != self._received or asked is not self._asked:
            self._part, self._received, self._asked = part, received, asked
            self._prepared = self._prepare(delivery)
        try:
            token = bytes.fromhex(delivery.token)
        except ValueError:  # an odd number of digits
            return None
        return frame(self._prepared, token, identifier) if len(token) == TOKEN_SIZE else None

    def _prepare(self, delivery: Delivery) -> Prepared:
        part = delivery.part
        given = header(part.headers, "apns-expiration")
        about = delivery.sender.received, delivery.asked
        expiration = int(given) if given is not None else expiration_of(*about, self._expiry)
        # What may let everything else pass (mcmt/message/priority.py) need not wake the device. One message has one.
        default = _DEFAULT_PRIORITY if delivery.priority >= NORMAL else _BULK_PRIORITY
        priority = _PRIORITIES.get(header(part.headers, "apns-priority") or "", default)
        return prepare(part.content, min(expiration, _LATEST), priority)

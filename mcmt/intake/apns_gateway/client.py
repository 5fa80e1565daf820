"""Who a client is: its certificate's fingerprint, its subject, and the domain that these stand for."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from typing import Any, NamedTuple

from mcmt.config.settings import GatewaySettings

# As the ssl module calls them. RFC 4519 2.39: uid, which is the bundle id in Apple's push certificates.
_UID = "userId"
_NAME = "commonName"


class Client(NamedTuple):
    """A client that has shown a certificate which is good as such."""

    fingerprint: str
    """SHA-256 of the certificate: 64 hex digits, lower case."""
    uid: str
    """The subject's UID; empty: it has none."""
    name: str
    """For people: the subject's UID or common name, else the fingerprint."""

    @classmethod
    def of(cls, der: bytes, certificate: Mapping[str, Any]) -> Client:
        """The holder of a certificate, as the ssl module gives it."""
        fingerprint = hashlib.sha256(der).hexdigest()
        subject = {name: value for field in certificate.get("subject", ()) for name, value in field}
        uid = subject.get(_UID, "")
        return cls(fingerprint, uid, uid or subject.get(_NAME, "") or fingerprint)

    def domain(self, gateway: GatewaySettings) -> str:
        """The domain that this client pushes to; empty: none."""
        if gateway.domain:
            return gateway.domain
        return gateway.domains.get(self.fingerprint) or (gateway.domains.get(self.uid, "") if self.uid else "")

"""Every reason that Apple's gateway gives, with its status, and the tokens that provoke each of them.

Source: Apple, "Handling notification responses from APNs". The order within a status is the index that
reserved tokens use (reserved.py); it is documented, so it only ever grows at the end.
"""

from __future__ import annotations

BY_STATUS: dict[int, tuple[str, ...]] = {
    400: (
        "BadDeviceToken",
        "BadCollapseId",
        "BadExpirationDate",
        "BadMessageId",
        "BadPriority",
        "BadTopic",
        "DeviceTokenNotForTopic",
        "DuplicateHeaders",
        "IdleTimeout",
        "InvalidPushType",
        "MissingDeviceToken",
        "MissingTopic",
        "PayloadEmpty",
        "TopicDisallowed",
    ),
    403: (
        "InvalidProviderToken",
        "BadCertificate",
        "BadCertificateEnvironment",
        "BadEnvironmentKeyIdInToken",
        "ExpiredProviderToken",
        "Forbidden",
        "MissingProviderToken",
        "UnrelatedKeyIdInToken",
    ),
    404: ("BadPath",),
    405: ("MethodNotAllowed",),
    410: ("Unregistered", "ExpiredToken"),
    413: ("PayloadTooLarge",),
    429: ("TooManyRequests", "TooManyProviderTokenUpdates"),
    500: ("InternalServerError",),
    503: ("ServiceUnavailable", "Shutdown"),
}
"""Status to its reasons; the commonest one first."""

STATUS: dict[str, int] = {reason: status for status, reasons in BY_STATUS.items() for reason in reasons}
"""Reason to its status."""

"""Apple's binary provider protocol, without I/O, in both directions.

Source: Apple, "Binary Provider API" and "Legacy Notification Format" (Local and Remote Notification Programming Guide).
Integers are big-endian. A client sends notifications in one of three layouts; success is silence; a failure is one
error packet, after which the gateway closes and has discarded whatever came behind the notification that it names.

The folder by what it knows: values (what travels), notifications (client to gateway), answers (gateway to client:
error packets, and the feedback service's tuples).
"""

from mcmt.wire.apns_binary.answers import ErrorPacketParser, FeedbackParser, error_packet, feedback_tuple
from mcmt.wire.apns_binary.notifications import MAX_FRAME, NotificationParser, Prepared, encode, frame, prepare
from mcmt.wire.apns_binary.values import TOKEN_SIZE, WORDS, ErrorPacket, Fault, FeedbackTuple, Notification, Status

__all__ = [
    "MAX_FRAME",
    "TOKEN_SIZE",
    "WORDS",
    "ErrorPacket",
    "ErrorPacketParser",
    "Fault",
    "FeedbackParser",
    "FeedbackTuple",
    "Notification",
    "NotificationParser",
    "Prepared",
    "Status",
    "encode",
    "error_packet",
    "feedback_tuple",
    "frame",
    "prepare",
]

"""The door for senders of Apple's binary protocol: their frames become messages, dead tokens their feedback.

Source: Apple, "Binary Provider API" (Local and Remote Notification Programming Guide). The codec is
mcmt/wire/apns_binary/. The folder by what it knows: tls (TLS without I/O), client (who a certificate is), connection
(octets, deadlines, the end), burst (frames as parts of a message), session (what was sent, and what is told), feedback
(the other port), listener (the addresses).
"""

from mcmt.intake.apns_gateway.listener import ApnsGateways

__all__ = ["ApnsGateways"]

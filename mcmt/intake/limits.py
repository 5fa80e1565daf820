"""The limits of the SMTP door, by name. Sizes are octets, durations are seconds.

RFC 5321 4.5.3.1 gives the least that a server has to take; each limit here is that or more. What happens
at a limit is said beside it. Those that operators may want to change are options, not here: of one address
``max_message_size``, ``max_recipients_per_message``, ``max_errors``, ``idle_timeout``, ``data_timeout``,
``min_data_rate``; over all of them ``max_connections``, ``max_connections_per_address``, ``max_intake_bytes``,
``auth_failures_per_session``, ``auth_failures_per_address``, ``auth_failure_window`` (mcmt/config/settings.py).
"""

from __future__ import annotations

from typing import Final

COMMAND_LINE: Final = 2048
"""A command with its CR LF (4.5.3.1.4: 512 or more, longer with parameters). Longer: 500, the line is dropped."""
PATH: Final = 512
"""A reverse-path or forward-path without its brackets (4.5.3.1.3: 256). More, since a local part may be a device
token of 200 hex digits. Longer: 501."""
DOMAIN: Final = 255
"""The domain of an address (4.5.3.1.2). Longer: 501."""
DATA_LINE: Final = 64 * 1024
"""A line of the message without its CR LF (4.5.3.1.6: 998). A push payload is one line, and base64 of a client that
does not fold may be too. Longer: 554 when the message has ended."""
REFUSALS: Final = 1000
"""Senders, recipients and messages refused in one session since the last accepted message. Then 421."""
PENDING_REPLIES: Final = 64
"""Replies held back while commands of one burst are worked off. Then they leave, and other sessions have their turn."""
READ: Final = 64 * 1024
"""Octets that a session keeps for later while it is at work on others. Past it the socket is not read, so a session
holds at most a message, this, and the one read of the event loop that went past it."""
DATA_GRACE: Final = 30.0
"""How long the content of a message may take before ``min_data_rate`` is asked of it."""
TLS_HANDSHAKE: Final = 30.0
"""How long the client may take for its part of the TLS handshake. Then the connection is closed."""
PROXY_HEADER: Final = 5.0
"""How long a listed proxy may take for the PROXY protocol's header. Then the connection is dropped."""
LINGER: Final = 2.0
"""How long what a client still sends is thrown away after our last reply. Closing at once would make the kernel send
a reset, and the reply would be lost with it."""
GATEWAY_INPUT: Final = 256 * 1024
"""Of a gateway's client: octets that wait to be kept. Then it is not read until half of them are."""
GATEWAY_LINGER: Final = 5.0
"""How long what a gateway's client still sends is thrown away after an error packet, as with LINGER."""
GATEWAY_PAUSE: Final = 1.0
"""How long a gateway's client whose notifications cannot be kept waits to be told: it comes back at once."""
HTTP_LINE: Final = 16 * 1024
"""The first line of an HTTP request, and each of its header fields. Longer: 400, and the connection ends."""
REMINDER: Final = 60.0
"""Seconds between two words to the operator about one kind of trouble: connections turned away, a full disk."""
AUTH_LINE: Final = 12288
"""An AUTH command or a client's answer to a challenge, with its CR LF (RFC 4954 3 and 4). Longer: 500."""
AUTH_DELAY: Final = 1.0
"""How long a client waits for its first 535; twice as long for each further one."""
AUTH_PENDING: Final = 32
"""Passwords that wait to be computed. More: 454."""
AUTH_KNOWN: Final = 1024
"""Passwords that were right, kept as digests so that they are computed once. More: the oldest is computed again."""
AUTH_ADDRESSES: Final = 10_000
"""Addresses whose failed logins are counted. More: the one that failed first is forgotten."""
BACKLOG: Final = 512
"""Connections that the kernel keeps until they are accepted."""
REJECTIONS: Final = 1000
"""Rejections waiting for the spool. More are counted, not kept."""
SOURCE_JOBS: Final = 500
"""Jobs of one tube of a beanstalkd that are reserved at once. More stay with the server."""
SOURCE_IDLE: Final = 20
"""Whole seconds that a beanstalkd is asked to wait for a job before it says that there is none."""
SOURCE_ANSWER: Final = 10.0
"""How long it may take with any other answer, and past SOURCE_IDLE with that one. Longer: the connection ends."""
SOURCE_TOUCH: Final = 0.5
"""How often jobs that are not on disk yet are touched. The shortest time to run of a job is a second."""
SOURCE_CONNECT: Final = 10.0
"""For look-up and TCP to a beanstalkd."""
SOURCE_BACK_OFF: Final = 0.5
"""Before the second attempt to connect; twice as long before each further one, less up to half by chance."""
SOURCE_MAX_BACK_OFF: Final = 30.0
"""What the doubling ends at."""
SOURCE_PAUSE: Final = 1.0
"""For how long no job is reserved when the spool did not keep one, and the delay of those that are released; twice as
long each further time."""
SOURCE_MAX_PAUSE: Final = 30.0
"""What the doubling ends at. While it lasts one job at a time is tried."""

"""The limits of the SMTP door, by name. Sizes are octets, durations are seconds.

RFC 5321 4.5.3.1 gives the least that a server has to take; each limit here is that or more. What happens
at a limit is said beside it. The size of a message is the listener's ``max_message_size``.
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
RECIPIENTS: Final = 1000
"""Recipients of one transaction (4.5.3.1.8: 100). More: 452, so the client sends the rest in another one."""
ERRORS: Final = 20
"""Commands in one session that were none, or out of place, since the last accepted message. Then 421."""
REFUSALS: Final = 1000
"""Senders, recipients and messages refused in one session since the last accepted message. Then 421."""
PENDING_REPLIES: Final = 64
"""Replies held back while commands of one burst are worked off."""
READ: Final = 64 * 1024
"""What is taken from the stream's buffer at once. The stream stops reading from the socket at the same figure, so a
session holds at most a message, this, and the one read of the event loop that went past it."""
IDLE: Final = 300.0
"""Silence of the client (4.5.3.2.7: 5 minutes). Then 421."""
LINGER: Final = 2.0
"""How long what a client still sends is thrown away after our last reply. Closing at once would make the kernel send
a reset, and the reply would be lost with it."""
SESSIONS: Final = 500
"""Sessions of one listener. More: 421 as the greeting. Stays below the usual limit of 1,024 open files."""
BACKLOG: Final = 512
"""Connections that the kernel keeps until they are accepted."""
REJECTIONS: Final = 1000
"""Rejections waiting for the spool. More are counted, not kept."""

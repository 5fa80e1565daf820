"""The engine's end of the control socket.

The socket is 0600 and takes the place of one that a dead engine left; one that is answered is left alone. CLIENTS can
be connected at a time; what each may cost is bounded in session.py and answers.py.

Rule: a bug in an answer ends that client's connection and nothing else.
"""

from __future__ import annotations

import asyncio
import logging
import os
from typing import cast

import mcmt
from mcmt.clock import Clock
from mcmt.config.settings import Settings
from mcmt.control.answers import Answers
from mcmt.control.front import Front
from mcmt.control.protocol import MAX_LINE, PROTOCOL, Failed, Hello
from mcmt.control.session import EventLog, Refused, Session
from mcmt.control.unix_socket import bind_unix, unlink_if_same

log = logging.getLogger(__name__)

CLIENTS = 32


class ControlServer:
    """Listens on ``settings.control_socket`` from ``start`` to ``close``."""

    def __init__(
        self,
        settings: Settings,
        front: Front,
        eventlog: EventLog,
        clock: Clock,
    ) -> None:
        self._path = settings.control_socket
        self._answers = Answers(settings, front, clock)
        self._eventlog = eventlog
        self._ledger = settings.mainlog[0].name
        self._clients: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._inode = 0

    def reload(self, settings: Settings) -> None:
        """Other settings hold. The socket stays where it is."""
        self._answers.reload(settings)

    async def start(self) -> None:
        """Begin to listen. Raises ControlError naming the path: it is in use, or cannot be had."""
        listening, self._inode = bind_unix(self._path)
        self._server = await asyncio.start_unix_server(self._serve, sock=listening, limit=MAX_LINE)

    async def close(self) -> None:
        """Tell every client that the engine stops, hang up, and take the socket away."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        for client in self._clients:
            client.cancel()
        await asyncio.gather(*self._clients, return_exceptions=True)
        unlink_if_same(self._path, self._inode)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = cast("asyncio.Task[None]", asyncio.current_task())
        session = Session(reader, writer, self._answers, self._eventlog, self._ledger)
        self._clients.add(task)
        try:
            session.send(Hello(PROTOCOL, mcmt.__version__, os.getpid()))
            if len(self._clients) > CLIENTS:
                session.send(Failed("busy", f"{CLIENTS} commands are connected to the engine already; try again"))
            else:
                await session.converse()
        except Refused as refused:
            session.send(refused.failed)
        except asyncio.CancelledError:
            session.send(Failed("stopping", "the engine stops"))
        except (TimeoutError, ConnectionError):
            pass
        except Exception:
            log.exception("a client of the control socket could not be answered")
        finally:
            await session.hang_up()
            self._clients.discard(task)

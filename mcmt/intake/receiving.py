"""The commands that bring a message: DATA (RFC 5321 4.1.1.4) and BDAT (RFC 3030 2).

Rules: 250 after the message only when Reception.receive returned; how many octets a chunk has is believed whatever
else is wrong, so the session stays in step; of a chunk whose size is not known nothing is read as a command. It must
not know who may send, nor to whom.
"""

from __future__ import annotations

from typing import Final

from aiosmtpd.smtp import syntax

from mcmt.errors import MessageError, SpoolError, SpoolFull
from mcmt.intake.asked_for import AskedFor
from mcmt.intake.chunks import ChunkReader, read_chunk_size
from mcmt.intake.compose import NOW
from mcmt.intake.data import BareLineEndError, Content, DataReader
from mcmt.intake.memory import no_room
from mcmt.intake.security import SecureSession
from mcmt.intake.session import TLS_FIRST, Work

_START_DATA: Final = b"354 end the message with <CR><LF>.<CR><LF>\r\n"
# RFC 3030 2: after a chunk that failed, the client sends RSET before it goes on.
_AFTER_FAULT: Final = b"503 5.5.1 a chunk before this one was refused; RSET begins anew\r\n"


class ReceivingSession(SecureSession):
    """A session that can take a message."""

    _content: DataReader
    """What reads the message that comes after DATA."""
    _chunks: ChunkReader | None = None
    """What reads the message that comes in chunks, from the first BDAT on."""
    _chunk_failed = False
    """One of them was refused, and the client was told."""
    _held = 0
    """Octets of the message that count as held in the intake's memory."""
    _utf8 = False
    """SMTPUTF8 was asked for at MAIL."""
    _asked_for: AskedFor | None = None
    """What else MAIL and RCPT asked for; None: nothing."""

    def _forget(self) -> None:
        super()._forget()
        self._utf8 = False
        self._asked_for = None
        if self._chunks is not None:
            self._drop_chunks()

    def _reset(self) -> None:
        """No transaction is open any more."""
        self._sender = None
        self._recipients = []
        self._utf8 = False
        self._asked_for = None
        if self._chunks is not None:
            self._drop_chunks()

    def _drop_chunks(self) -> None:
        self._door.memory.give_back(self._held)
        self._held = 0
        self._chunks = None
        self._chunk_failed = self._between_chunks = False
        self._content_since = None

    def _no_recipient(self) -> MessageError:
        """Why no message can come now: without a sender there are no recipients either."""
        # RFC 5321 3.3: 503 or 554 where no recipient was taken. Not recorded: each of them was, at RCPT.
        text = "send MAIL first" if self._sender is None else "no recipient was accepted"
        return MessageError(503, "5.5.1", text)

    # -- DATA ----------------------------------------------------------------------------------------------------

    @syntax("DATA")
    def data(self, argument: str | None) -> None:
        """RFC 5321 4.1.1.4."""
        if argument:
            raise MessageError(501, "5.5.4", "DATA takes no argument")
        if self._chunks is not None:
            # RFC 3030 2: BDAT and DATA cannot be used in the same transaction; 503.
            raise MessageError(503, "5.5.1", "no DATA after BDAT; RSET begins anew")
        if not self._recipients:
            raise self._no_recipient()
        if not self._door.memory.fits(1):
            self._refuse("DATA", no_room())
            self._reset()
            return
        self._in_data = True
        self._content = DataReader(self._door.listen.max_message_size)
        self._replies.append(_START_DATA)

    def _take_content(self) -> bool:
        if self._chunks is not None:
            return self._take_chunk(self._chunks)
        reader = self._content
        try:
            ended = reader.feed(self._input)
        except BareLineEndError as reason:
            self._ending = True
            self._refuse("DATA", reason)
            self._end_data()
            return False
        if not self._door.memory.take(reader.held - self._held):
            self._let_go(reader)
        self._held = reader.held
        if ended:
            self._awaited = True
            self._hand_over("DATA", self._receive(reader, "DATA"))
        return ended

    def _let_go(self, reader: Content) -> None:
        """There is no room for what *reader* keeps."""
        reader.refuse(no_room())
        self._door.memory.take(reader.held - self._held)

    # -- BDAT ----------------------------------------------------------------------------------------------------

    @syntax("BDAT octets [LAST]")
    def bdat(self, argument: str | None) -> Work | None:
        """RFC 3030 2."""
        size, last = read_chunk_size(argument or "")
        chunks = self._chunks
        if chunks is None:
            self._chunks = chunks = ChunkReader(self._door.listen.max_message_size)
            if not self._recipients:
                chunks.refuse(MessageError(*TLS_FIRST) if self._tls_first else self._no_recipient())
        if self._content_since is None:
            # All chunks of a message have the time of one message: each with a time of its own, single octets would
            # keep it here for ever.
            self._content_since = self._door.clock.monotonic()
            chunks.octets = self._content_octets = 0
        chunks.begin(size, last=last)
        self._in_data = True
        return None if size else self._end_chunk(chunks)

    def _take_chunk(self, chunks: ChunkReader) -> bool:
        ended = chunks.feed(self._input)
        # What came together with commands is counted here alone.
        self._content_octets = chunks.octets
        if not self._door.memory.take(chunks.held - self._held):
            self._let_go(chunks)
        self._held = chunks.held
        if ended and (work := self._end_chunk(chunks)):
            self._hand_over("BDAT", work)
        return ended

    def _end_chunk(self, chunks: ChunkReader) -> Work | None:
        chunks.end()
        if chunks.last and not self._chunk_failed:
            self._awaited = True
            return self._receive(chunks, "BDAT")
        self._in_data = False
        self._between_chunks = chunks.fault is None
        if chunks.fault is None:
            self._replies.append(b"250 2.0.0 %d octets taken\r\n" % chunks.size)
            return None
        self._content_since = None
        if self._chunk_failed:
            # Not counted as an error: a client that sends chunks without waiting could not know.
            self._replies.append(_AFTER_FAULT)
        else:
            self._chunk_failed = True
            self._refuse("BDAT", chunks.fault)
        if self._draining:
            self._say_draining()
        return None

    # -- both ----------------------------------------------------------------------------------------------------

    async def _receive(self, content: Content, verb: str) -> None:
        """Have the message kept, and say so."""
        reception = self._door.reception
        try:
            envelope, schedule = self._envelope(tuple(self._recipients)), NOW
            if self._asked_for is not None:
                envelope, schedule = self._asked_for.of(envelope)
            mcmt_reception = self._door.listen.mcmt_reception
            batch_id = await reception.receive(envelope, content.content(), mcmt_reception, schedule)
            self._replies.append(f"250 2.0.0 {batch_id} queued\r\n".encode())
            self._errors = self._refusals = 0
        except MessageError as reason:
            self._refuse(verb, reason)
        except SpoolFull as error:
            reception.tell_not_kept(self._connection_id, self._peer, error)
            # RFC 5321 4.2.2: 452 is insufficient system storage; the client keeps the message and comes again.
            self._refuse(verb, MessageError(452, "4.3.1", "not enough room on the disk here; try again later"))
        except SpoolError as error:
            reception.tell_not_kept(self._connection_id, self._peer, error)
            text = "the spool cannot keep the message now; nothing was kept, try again later"
            self._refuse(verb, MessageError(451, "4.3.0", text))
        finally:
            self._end_data()
        if self._draining:
            self._say_draining()

    def _end_data(self) -> None:
        self._door.memory.give_back(self._held)
        self._held = 0
        self._in_data = False
        self._content_since = None
        self._reset()

    def _leave(self) -> None:
        self._end_data()
        super()._leave()

"""A client's connection as the broker sees it: what gathers to be written, what stops it from being read, its end.

Layers of one object, each with a noun of its own: `Plain` takes what comes all day; `Peer` (this file) writes, pauses and
closes; `Holding` keeps acknowledgements for the disk; `Intake` takes publishes; `Client` speaks with transport and protocol.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from ..mqtt.aliases import OutboundAliases
from ..mqtt.connection import ServerConnection, State
from ..mqtt.packets import Packet, Will
from ..mqtt.reasons import Reason
from .plain import Plain
from .transport import Pause
from .unsent import GATHERED_BYTES

if TYPE_CHECKING:
    from .broker import Broker
    from .deadlines import Deadline
    from .listening.door import Visitor
    from .sessions import Session

# How long the last words may take to be read.
LINGER_S = 5.0


class Peer(Plain):
    __slots__ = (
        "_cut",
        "_delivered",
        "_gathering",
        "_made_at",
        "_unread",
        "aliases",
        "deadline",
        "keep_alive_s",
        "resumed",
        "send_bytes_max",
        "surplus",
        "unacknowledged",
        "visitor",
        "will",
        "window",
        "writable",
    )

    _broker: Broker

    def __init__(self, broker: Broker, visitor: Visitor | None = None) -> None:
        settings = broker.settings
        largest = settings.packet_bytes_max
        if visitor is not None and visitor.door.settings.packet_bytes_max:
            largest = min(largest, visitor.door.settings.packet_bytes_max)
        super().__init__(
            broker,
            ServerConnection(packet_bytes_max=largest, topic_alias_max=settings.topic_alias_max),
            settings.receive_maximum,
        )
        self.visitor = visitor  # None: a part of this edge, through no door; no rules apply
        self.will: Will | None = None
        self.window = settings.inflight_max
        self.send_bytes_max = 0  # the largest packet it takes; 0: any
        self.aliases: OutboundAliases | None = None  # towards it
        self.surplus = False  # one too many: it will be told so
        self.resumed = False  # its session was here before this connection
        self.writable = True
        self.keep_alive_s = 0.0
        self._made_at = broker.now
        self.deadline: Deadline | None = None  # of CONNECT, then of the next packet
        self._cut = False  # by us, because it holds too much
        self._unread = 0
        self._gathering = 0  # the size of the unfinished packet, as last told
        self._delivered: int | None = None  # as asked when the socket was about to be closed
        self.unacknowledged: Callable[[], int | None] | None = None

    @property
    def user(self) -> str | None:
        """The verified user name; None: anonymous."""
        return None if self.visitor is None else self.visitor.user

    @property
    def client_id(self) -> str:
        return "" if self._session is None else self._session.client_id

    @property
    def session(self) -> Session | None:
        return self._session

    @property
    def is_open(self) -> bool:
        return self._connection.state is State.OPEN

    @property
    def connection(self) -> ServerConnection:
        return self._connection

    def reply(self, packet: Packet) -> None:
        data = self._connection.encode(packet)
        if data is not None:
            self.send(data)

    def send(self, data: bytes) -> None:
        """Gather; the broker flushes when it has done what it does, one write for each connection."""
        broker, out, size = self._broker, self._out, len(data)
        if not out:
            broker.dirty.append(self)
        out.append(data)
        self._out_bytes += size
        broker.gathered += size
        if self._out_bytes > broker.write_buffer_max:
            self.flush()
        if broker.gathered > GATHERED_BYTES:
            broker.flush()

    def flush(self) -> None:
        out = self._out
        if out:
            self._out = []
            self._written += self._out_bytes
            self._broker.gathered -= self._out_bytes
            self._out_bytes = 0
            if self.transport is not None:
                self.transport.write(b"".join(out))

    def spoken(self) -> int | None:
        """Where in the bytes written all acknowledgements end; None while some wait."""
        return self._written + self._out_bytes

    def delivered(self) -> int | None:
        """How many of the bytes written the peer's TCP has acknowledged; None: cannot be told.

        `unacknowledged` may count more than was written here (TLS and WebSocket add their own): then fewer are believed.
        """
        if self.unacknowledged is None or self.transport is None:
            return None
        waiting = self.unacknowledged()
        return self._delivered if waiting is None else self._written - waiting

    def remember_delivered(self) -> None:
        """The connection broke and its socket is about to be closed: nobody can ask it later."""
        if self._session is not None and self._session.doubts is not None:
            self._delivered = self.delivered()

    def fits(self, size: int) -> bool:
        return self._connection.fits(size)

    def pause(self, why: int) -> None:
        if not self._paused and self.transport is not None:
            self.transport.pause_reading()
        self._paused |= why

    def resume(self, why: int) -> None:
        if not self._paused & why:
            return
        self._paused &= ~why
        self.heard_at = self._broker.now  # it could not be heard
        if not self._paused and self.transport is not None:
            self.transport.resume_reading()

    @property
    def gathered(self) -> int:
        return len(self._connection.partial or b"")

    @property
    def stopped(self) -> bool:
        """It is not read, and not because it does not read."""
        return bool(self._paused & ~Pause.WRITE)

    def silent_since(self, now: float) -> float:
        """When it was last heard, or could not be, or took something of what we wrote; while the disk takes no publish
        nobody's silence counts, since a client may do nothing else until its PUBACK comes.

        Before CONNECT: when the connection was made, since bytes that lead nowhere are not worth waiting for.
        """
        if self._paused & ~Pause.WRITE:
            self.heard_at = now
        elif self._paused and self.transport is not None:
            unread = self.transport.get_write_buffer_size()
            if unread < self._unread:
                self.heard_at = now
            self._unread = unread
        if not self.is_open:
            self._made_at = now if self._paused else self._made_at
            return self._made_at
        return (
            now
            if self._broker.paused is not None
            else max(self.heard_at, self._broker.taking_since)
        )

    def close(self, reason: Reason, detail: str) -> None:
        """Close this connection, telling why where the protocol can. The will is published."""
        if self.transport is None:
            return
        farewell = self._connection.farewell(reason, detail)
        if farewell:
            self.send(farewell)
        self._broker.tally.closed[reason.name.lower()] += 1
        self.flush()
        # TLS reads on by itself until the other side ends (ssl_shutdown_timeout)
        linger = getattr(self.transport, "linger", None)
        if linger is not None:
            linger()
        self._shut()
        self._gone(f"{reason.name.lower().replace('_', ' ')}: {detail}")

    def cut_off(self) -> None:
        """At once and without a word: too much was written to it that it does not read. `connection_lost` follows."""
        if self.transport is not None:
            self._cut = True
            self._broker.tally.closed["unread"] += 1
            self.transport.reset()

    def _shut(self) -> None:
        self.flush()
        self._settle_doubts()  # while the socket can still be asked
        transport, unsent = self.transport, self._broker.unsent
        if transport is not None:
            transport.close()
            if transport.get_write_buffer_size():
                unsent.leaves(transport)

                def give_up(_: float) -> None:  # what it does not read in time it does not get
                    unsent.left(transport)
                    transport.reset()

                self._broker.deadlines.at(self._broker.now + LINGER_S, give_up)

    def _settle_doubts(self) -> None:
        if self._session is not None and self._session.link is self:
            self._broker.book.closing(self._session, self)

    def _gone(self, why: str) -> None:
        self._settle_doubts()
        self.transport = None
        self._broker.gathered -= self._out_bytes
        self._out = []
        self._out_bytes = 0
        self._broker.gone(self, why)

"""The broker: who is connected and what sessions exist. One thread; no call in here waits.

It owns what clients share: the gate, routes, the fan-out, deadlines, and the decision to take no publishes. The rim
(`listener.py`) calls `tick` and gives each TCP connection a `Client`; the committer calls `on_durable`. `now` is when
the clock was last looked at: at each tick, each commit, each read of other than plain packets.
"""

from __future__ import annotations

import random
from typing import TYPE_CHECKING

from ...core.clock import Clock
from ...core.record import TopicPartition
from ..mqtt.packets import Connect
from ..mqtt.reasons import Reason
from ..streams import StreamTable
from .book import Book
from .client import HELD_BYTES, Client
from .deadlines import Deadlines
from .departures import Departures, Source
from .fanout import Fanout
from .gate import Gate
from .gathering import Gathering
from .journal import Committer, Journal
from .lifetimes import Lifetimes, Observer
from .moments import Moments
from .peer import Peer
from .plain import Rounds
from .routing import Router
from .sessions import Session
from .settings import MqttSettings
from .subscriptions import Subscriptions
from .tally import Tally
from .transport import Pause
from .turns import Turns
from .unsent import Unsent

if TYPE_CHECKING:
    from .access.access import Access
    from .access.rules import Rights
    from .listening.door import Visitor

# Deliveries that wait for the disk, beyond which no publish is taken until some are made: they are made a commit at a time,
# a microsecond or two each, and nobody else is served meanwhile.
DELIVERIES_MAX = 30_000
BUSY_DELIVERING = "there is enough to deliver"


class Broker(Rounds):
    gate: Gate
    subscriptions: Subscriptions
    tally: Tally

    def __init__(
        self,
        journal: Journal,
        committer: Committer,
        *,
        streams: StreamTable,
        settings: MqttSettings,
        clock: Clock,
        rng: random.Random,
        source: Source,
        observer: Observer | None = None,
        moments: Moments | None = None,
    ) -> None:
        settings.check()
        super().__init__(clock.monotonic())
        self.settings = settings
        self.clock = clock
        self.tally = Tally()
        self.deadlines = Deadlines()
        self.departures = Departures(
            settings=settings,
            tally=self.tally,
            clock=clock,
            source=source,
            ends=journal,
            streams={name: stream.filters for name, stream in streams.streams.items()},
            on_lost=self._lost,
        )
        self.fanout = Fanout(settings, self.tally, self, self.departures)
        self.subscriptions = self.fanout.subscriptions
        self.gate = Gate(journal, committer, self.fanout.deliver)
        self.departures.gate = self.gate
        self.sessions: dict[str, Session] = {}
        self.clients: set[Peer] = set()
        self.gathering = Gathering(int(settings.gather_memory_max))
        self.dirty: list[Peer] = []  # clients with gathered output
        self.gathered = 0  # its bytes
        self.unsent = Unsent(int(settings.unsent_memory_max))
        self.write_buffer_max = int(settings.write_buffer_max)
        self.taking_since = self.now  # when that ended last
        self.held: dict[Client, None] = {}  # who has sent what has to wait for the disk
        self.knocking: dict[Client, Connect] = {}  # ... and whose CONNECT has to
        self.turns = Turns(self)
        self.access: Access | None = None  # None: nobody is asked who they are
        self.moments = moments or Moments(clock, boot="", trusted=lambda: False)
        self.book: Book = Book(
            journal,
            committer,
            self.moments,
            monotonic=clock.monotonic,
            evidence_quiet_s=float(settings.evidence_quiet),
        )
        self.departures.book = self.book
        self._router = Router(streams, journal)
        self._journal = journal
        self.committer = committer
        self._observer = observer
        self._closing = False
        self._lifetimes = Lifetimes(self, self._router, committer, rng=rng, observer=observer)
        committer.add_listener(self.on_durable)

    # --- the rim calls ----------------------------------------------------------------------------------------

    def client(self, visitor: Visitor | None = None) -> Client:
        """For a connection just accepted."""
        return Client(self, visitor)

    def look_at_time(self) -> None:
        self.now = self.departures.now = self.clock.monotonic()

    def tick(self) -> None:
        self.look_at_time()
        self.deadlines.run(self.now)
        self.book.tick(self.now)
        self._review_disk()
        self.gathering.tick(self.now)
        self.unsent.look()
        self.departures.run()
        if self.departures.tick(self.now):
            self.committer.request()
        self.flush()

    def on_durable(self, commit: int) -> None:
        self.look_at_time()
        self.gate.on_durable(commit)
        self.departures.run()
        if self.departures.settle():
            self.committer.request()
        if self.paused is not None:
            self._review_disk()
        if self.dirty:
            self.flush()

    def received(self) -> None:
        """After each read of a client, or each round of reads: ask for the commit, write what gathered, look at the disk."""
        self.round_ms = 0
        self.gate.pass_all()
        self.departures.run()
        self.departures.settle()
        if self._journal.pending_bytes:
            self.committer.request()
        if self.dirty:
            self.flush()
        if self.paused is None and self._is_enough:
            self._review_disk()

    def departed(self) -> None:
        """After what is neither a read of a client nor a commit: a read of the journal, a client that reads again."""
        self.departures.run()
        if self.departures.settle():
            self.committer.request()
        if self.dirty:
            self.flush()

    def look_at_clock(self) -> int:
        """Once in a round."""
        self.round_ms = self.clock.wall_ms()
        return self.round_ms

    @property
    def pending(self) -> bool:
        """Something was taken that is not durable yet."""
        return self._journal.pending_bytes > 0

    def flush(self) -> None:
        dirty = self.dirty
        while dirty:
            dirty.pop().flush()
        self.unsent.review(self.clients)

    @property
    def _is_enough(self) -> bool:
        return self._journal.overfull or self.gate.due > DELIVERIES_MAX

    @property
    def unready(self) -> str | None:
        """Why it takes no publishes, for longer than deliveries take."""
        return None if self.paused == BUSY_DELIVERING else self.paused

    @property
    def is_overfull(self) -> bool:
        """Nothing more may be put into the open commit."""
        return self._journal.overfull

    def pause(self, why: str) -> None:
        """No publish is taken; whoever sends one waits. Everybody else is served."""
        if self.paused is None:
            self.tally.paused += 1
            self.paused = why
            self.choose_reads()
        self.paused = why

    def choose_reads(self) -> None:
        """A read brings little while it might have to be held."""
        is_little = self.paused is not None or self.turns.is_crowded
        self.unsent.read_at_most(HELD_BYTES if is_little else None)

    def take_again(self) -> None:
        """The disk accepts: who waits is heard in the order in which they came to wait, until it is enough again."""
        self.paused = None
        self.taking_since = self.now
        self.choose_reads()
        while self.knocking and not self._journal.overfull:
            client = next(iter(self.knocking))
            client.knocks_again(self.knocking.pop(client))
        while self.held and self.paused is None and not self._is_enough:
            client = next(iter(self.held))
            del self.held[client]
            client.disk_accepts()
        self.received()

    def _review_disk(self) -> None:
        if self._closing:
            return
        if self.committer.stalled is not None:
            self.pause(self.committer.stalled)
        elif self._journal.overfull:
            self.pause("the disk is slower than the publishers")
        elif self.gate.due > DELIVERIES_MAX:
            self.pause(BUSY_DELIVERING)
        elif self.paused is not None:
            self.take_again()

    def stop_reading(self) -> None:
        """First half of an orderly end: take nothing more; what was taken can still be acknowledged."""
        self._closing = True
        self.pause("shutting down")
        for client in self.clients:
            client.pause(Pause.DISK)

    def close(self) -> None:
        """Second half: say goodbye to everybody. Wills are published: the clients did not choose to go.

        Those with a delay wait on with their session, for the next start."""
        for client in tuple(self.clients):
            client.close(Reason.SERVER_SHUTTING_DOWN, "the broker is stopping")
        self.departures.settle_all()

    # --- connections ------------------------------------------------------------------------------------------

    def admit(self, client: Client) -> None:
        self.tally.accepted += 1
        self.clients.add(client)
        surplus = len(self.clients) - self.settings.connections_max
        if self._closing or surplus > self.settings.refusals_max:
            # before CONNECT: there is no version to answer in
            client.close(Reason.SERVER_BUSY, "too many connections")
            return
        client.surplus = surplus > 0  # it is told in its own version, when it has said which
        self._lifetimes.watch(client, self.now)

    def must_wait(self, packet: Connect) -> bool:
        """A CONNECT that asks for what has to be in the log (a session that is kept, a will), while there is no room."""
        return (
            self.paused is not None
            and self._journal.overfull
            and (
                packet.will is not None
                or not packet.clean_start
                or bool(packet.properties.session_expiry_interval)
            )
        )

    def knock(self, client: Client, packet: Connect) -> None:
        """CONNECT: who is it? Raises Violation with the reason for CONNACK."""
        visitor = client.visitor
        access = self.access
        if access is not None and visitor is not None:
            admitted = access.admits(visitor, packet, lambda late: client.judged(packet, late))
            if not admitted:
                client.hold_off(Pause.ACCESS)
                return
        self.connect(client, packet)

    def change(self, settings: MqttSettings) -> None:
        """Other limits for what comes from now on. Raises Misconfigured."""
        settings.check()
        self.settings = settings
        self.gathering.bytes_max = int(settings.gather_memory_max)
        self.unsent.change(int(settings.unsent_memory_max))
        self.write_buffer_max = int(settings.write_buffer_max)
        self.fanout.change(settings)

    def rights(self, user: str | None, client_id: str) -> Rights | None:
        """None: everything is allowed."""
        return None if self.access is None else self.access.rights(user, client_id)

    def guard(self, access: Access) -> None:
        """Ask `access` from now on; called again when its rules have changed."""
        self.access = access
        self.subscriptions.is_guarded = access.rules is not None
        self.subscriptions.generation += 1  # nobody's remembered answer holds
        self._lifetimes.judge_again()

    def connect(self, client: Client, packet: Connect) -> None:
        """CONNECT. Raises Violation with the reason for CONNACK."""
        self._lifetimes.connect(client, packet)

    def adopt(self, session: Session) -> None:
        """A session from before the restart."""
        self._lifetimes.adopt(session)

    def gone(self, client: Peer, why: str) -> None:
        """The connection is over, for whatever reason; called once."""
        if client.visitor is not None:
            client.visitor.door.left(client.visitor)
        if isinstance(client, Client):
            self.turns.forget(client)
            self.held.pop(client, None)
            self.knocking.pop(client, None)
        if client in self.gathering:
            self.gathering.ask(client, 0)
        self._lifetimes.gone(client, why)

    def _lost(self, who: str, tp: TopicPartition, count: int) -> None:
        if self._observer is not None:
            self._observer.missed(who, tp, count)

    def crashed(self, client: Client, error: Exception) -> None:
        self.tally.crashes += 1
        if self._observer is not None:
            self._observer.crashed(client, error)

"""The plain case in one go: PUBLISH packets without anything special on topics that are known, and PUBACK without a reason.

This is what sensors and subscribers send all day. `take_plain` scans, looks the topic up and appends, until it meets
anything else: a packet that is not plain (see `edge/mqtt/_scan_py.py` for what is), a topic without a route, a route with
early acknowledgements, a journal that refuses. There it stops, with nothing of that packet done, and the ordinary path
(`intake.py`) goes on from that byte. So what it does, the ordinary path would have done with the same result; both are
under the same tests, and so is the compiled twin `_plain.pyx`.

`Plain` is a client as far as that case takes it: a read, its publishes held for their commit, their PUBACKs released;
`Peer`, `Holding`, `Intake` and `Client` build on it. What it asks, with every packet, of that which all clients share stands
in small bases of `Broker`, `Tally`, `Gate` and `Subscriptions`, so that the compiled twin finds it without a look-up.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Protocol

from ...core.errors import HeadwaterError
from ..mqtt._scan_py import scan_publishes
from ..mqtt.connection import State
from ..mqtt.packets import Version

if TYPE_CHECKING:
    from ...core.record import Headers
    from ..mqtt.connection import ServerConnection
    from .doubts import Doubts, Fresh
    from .journal import PartitionWriter
    from .messages import Message
    from .routing import Route, Routes
    from .sessions import Session
    from .transport import Transport

_PLAIN_PUBACK = b"\x40\x02"
# After a read of so much the disk's backlog is looked at, even within a round: a round of large reads is 16 MiB.
LARGE_READ_BYTES = 4096


class Way:
    """Of `Route`, what every packet on its topic asks for."""

    __slots__ = ("append", "early", "headers", "headers_qos_0", "key", "quiet")

    append: Callable[..., int]
    early: PartitionWriter | None
    headers: Headers
    headers_qos_0: Headers
    key: bytes
    quiet: int


class Lasting:
    """Of `Session`."""

    __slots__ = ("doubts", "no_local")

    doubts: Doubts | None
    no_local: set[str]


def take_plain(  # noqa: PLR0917 - by position, because names cost as much as a parsed packet
    data: bytes,
    packet_bytes_max: int,
    with_properties: bool,
    known: dict[bytes, Route],
    generation: int,
    now_ms: int,
    acks: list[bytes],
    offer: Callable[[Route, bytes, int, int], None],
    settle: Callable[[int], bool | None],
    told: list[Fresh] | None,
) -> tuple[int, int]:
    """(position of the first byte not taken, publishes taken). The PUBACKs of those at QoS 1 are added to `acks`.

    `offer(route, payload, qos, offset)` is called for what may have subscribers, when it is appended; `settle(packet_id)`
    for each PUBACK, and where it says True that one is for the ordinary path. `told`, where repetitions are looked for
    (doubts.py), gets each publish at QoS 1. Nothing is raised.
    """
    position = taken = 0
    while True:
        if data[position : position + 2] == _PLAIN_PUBACK and packet_bytes_max >= 4:
            packet_id = int.from_bytes(data[position + 2 : position + 4], "big")
            if len(data) < position + 4 or not packet_id:
                return position, taken
            if settle(packet_id):
                return position, taken
            position += 4
            continue
        # one at a time: where the second is not for us, the first is done all the same
        run, end = scan_publishes(_first(data, position), 0, packet_bytes_max, with_properties)
        if not run:
            return position, taken
        topic, payload, puback = run[0]
        route = known.get(topic)
        if route is None or route.early is not None:
            return position, taken
        try:
            offset = route.append(
                now_ms, route.key, payload, route.headers if puback else route.headers_qos_0
            )
        except HeadwaterError:
            return position, taken
        if puback:
            acks.append(puback)
            if told is not None:
                told.append((topic, payload, int.from_bytes(puback[2:], "big"), True))
        if route.quiet != generation:
            offer(route, payload, 1 if puback else 0, offset)
        taken += 1
        position += end


def _first(data: bytes, position: int) -> bytes:
    """The packet that begins at `position`, or what is left where it is not whole."""
    length = shift = 0
    for index in range(position + 1, min(position + 5, len(data))):
        length |= (data[index] & 0x7F) << shift
        shift += 7
        if data[index] < 0x80:
            return data[position : index + 1 + length]
    return data[position:]


class Counts:
    """Of `Tally`, what every packet adds to."""

    __slots__ = ("acknowledged", "bytes_received", "published")

    def __init__(self) -> None:
        self.bytes_received = 0  # of payload-bearing reads
        self.published = [0, 0, 0]  # PUBLISH packets taken into the journal, by QoS
        self.acknowledged = 0  # PUBACK and PUBREC written after their commit


class Waiter(Protocol):
    def release(self, commit: int) -> None: ...


class Held:
    """What waits for one commit."""

    __slots__ = ("commit", "due", "messages", "waiters")

    def __init__(self, commit: int) -> None:
        self.commit = commit
        self.waiters: list[Waiter] = []
        self.messages: list[Message] = []
        self.due = 0  # what they cost to deliver (gate.py)


def release_all(waiters: Sequence[Waiter], commit: int) -> None:
    for waiter in waiters:
        waiter.release(commit)


class OpenGate:
    """Of `Gate`."""

    __slots__ = ("open",)

    def __init__(self) -> None:
        self.open: Held | None = None  # of the open commit, once somebody waits for it

    def begin(self) -> Held:
        """What waits for the open commit (gate.py)."""
        raise LookupError("no journal")


class Changing:
    """Of `Subscriptions`: the generation moves with every change."""

    __slots__ = ("generation",)

    def __init__(self) -> None:
        self.generation = 0


class Rounds:
    """Of `Broker`."""

    __slots__ = ("gate", "now", "paused", "round_ms", "subscriptions", "tally")

    gate: OpenGate
    subscriptions: Changing
    tally: Counts

    def __init__(self, now: float) -> None:
        self.now = now  # when the clock was last looked at
        self.round_ms = 0  # the wall clock of this round of reads; 0: nobody has looked yet
        self.paused: str | None = None  # why no publish is taken

    def look_at_clock(self) -> int:
        """Once in a round (broker.py)."""
        return self.round_ms

    def received(self) -> None:
        """After each read of a client, or each round of reads (broker.py)."""


class Plain:
    __slots__ = (
        "_acks",
        "_broker",
        "_commit",
        "_connection",
        "_held",
        "_older",
        "_out",
        "_out_bytes",
        "_paused",
        "_pubrecs",
        "_routes",
        "_session",
        "_written",
        "heard_at",
        "in_rounds",
        "receipts",
        "receive_maximum",
        "transport",
        "version",
    )

    _broker: Rounds

    def __init__(self, broker: Rounds, connection: ServerConnection, receive_maximum: int) -> None:
        self._broker = broker
        self._connection = connection
        self._session: Session | None = None
        self._routes: Routes | None = None
        self.transport: Transport | None = None
        self.version = Version.V311
        self.receive_maximum = receive_maximum
        self.receipts = False  # it asked where its records lie
        self.in_rounds = False  # the broker is told once for many of them
        self.heard_at = broker.now
        self._paused = 0
        self._out: list[bytes] = []
        self._out_bytes = 0
        self._written = 0  # bytes given to the transport
        # acknowledgements held: of the newest commit, and of those before it
        self._commit = -1
        self._acks: list[bytes] = []
        self._older: list[tuple[int, list[bytes]]] = []
        self._held = 0
        self._pubrecs = 0  # ... of which PUBREC

    def data_received(self, data: bytes) -> None:
        broker = self._broker
        self.heard_at = broker.now
        broker.tally.bytes_received += len(data)
        try:
            position = 0 if broker.paused is not None else self._take_plain(data)
            if position < len(data) or not data:  # nothing new: there is something kept to be taken
                self._take_rest(data[position:] if position else data)
        except Exception as error:
            self._failed(error)
        if not self.in_rounds or len(data) > LARGE_READ_BYTES:
            broker.received()

    def _take_plain(self, data: bytes) -> int:
        """What of `data` is plain, and how far that goes; 0 where this client or its packets are not."""
        session, connection = self._session, self._connection
        if (
            session is None
            or session.no_local
            or self.receipts
            or connection.state is not State.OPEN
            or connection.partial is not None
        ):
            return 0
        broker, routes, doubts = self._broker, self._routes, session.doubts
        assert routes is not None
        if doubts is not None and doubts.carries:
            return 0
        acks: list[bytes] = []
        position, taken = take_plain(
            data,
            connection.packet_bytes_max,
            self.version is Version.V5,
            routes.young,
            broker.subscriptions.generation,
            broker.round_ms or broker.look_at_clock(),
            acks,
            self._offer,
            session.outbound.settle,
            None if doubts is None else doubts.fresh,
        )
        if taken:
            published = broker.tally.published
            published[1] += len(acks)
            published[0] += taken - len(acks)
            if acks and doubts is not None:
                self._published()
            self._hold(acks)
        return position

    def _hold(self, acks: list[bytes]) -> None:
        """Keep acknowledgements until the open commit is durable."""
        if not acks:
            return
        gate = self._broker.gate
        held = gate.open or gate.begin()
        if self._commit == held.commit:
            self._acks += acks
        else:
            if self._acks:
                self._older.append((self._commit, self._acks))
            self._acks = acks
            self._commit = held.commit
            held.waiters.append(self)
        self._held += len(acks)
        if self._held >= self.receive_maximum:
            self._filled()

    def release(self, commit: int) -> None:
        """Commit `commit` and all before it are on disk: their acknowledgements go out, in order."""
        acks = self._acks
        if self._commit > commit:
            acks = []
        else:
            self._acks = []
            self._commit = -1
        if self._older:
            acks = self._pop_older(commit) + acks
        self._held -= len(acks)
        if self._pubrecs:
            self._pubrecs -= sum(ack[0] == 0x50 for ack in acks)
        if self.transport is None or not acks:
            return
        self._broker.tally.acknowledged += len(acks)
        data = acks[0] if len(acks) == 1 else b"".join(acks)
        if self._out:
            self.send(data)
        else:
            self._written += len(data)
            self.transport.write(data)
        doubts = None if self._session is None else self._session.doubts
        if doubts is not None:
            doubts.written(commit, self._written + self._out_bytes)
        if self._paused:
            self._emptied()

    # --- what does not happen with every packet: holding.py, intake.py, client.py --------------------------------

    def send(self, data: bytes) -> None:
        """Gather what is written with the next flush."""

    def _take_rest(self, data: bytes) -> None:
        """By the ordinary path."""

    def _failed(self, error: Exception) -> None:
        """The connection boundary."""

    def _offer(self, route: Route, payload: bytes, qos: int, offset: int) -> None:
        """Somebody may want it."""

    def _published(self) -> None:
        """`doubts` was told of publishes."""

    def _filled(self) -> None:
        """As much is held as it may have in flight."""

    def _emptied(self) -> None:
        """Something left while it is not read."""

    def _pop_older(self, commit: int) -> list[bytes]:
        """What older commits hold, up to this one."""
        return []

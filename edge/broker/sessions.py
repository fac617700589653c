"""A session: what outlives a connection (MQTT 5.0, section 4.1).

Outward it has an `Outbound` (flights, and what waits); inward `incoming` holds the packet identifiers between PUBLISH at
QoS 2 and its PUBREL. It knows no socket: `link` is the client while it is connected.
"""

from __future__ import annotations

from ..mqtt.packets import SubscriptionOptions, Will
from .access.rules import Rights
from .deadlines import Deadline
from .departures import Departures
from .flights import Link
from .moments import Moment
from .outbound import Outbound
from .outboundstate import pack, unpack
from .plain import Lasting


class Session(Lasting):
    __slots__ = (
        "client_id",
        "end_due",
        "ends_at",
        "expiry_s",
        "filters",
        "incoming",
        "left",
        "number",
        "outbound",
        "rights",
        "standing_will",
        "user",
        "will",
        "will_delay_s",
        "will_due",
        "will_number",
    )

    def __init__(self, client_id: str, departures: Departures) -> None:
        self.client_id = client_id
        self.user: str | None = None  # whose it is; None: of someone anonymous
        self.rights: Rights | None = None  # of that user under this identifier; None: everything
        self.number = 0  # in the book; 0: not there, the session ends with its connection
        self.will_number = 0  # in the book, of one that is there for the sake of its will alone
        self.expiry_s = 0.0
        self.left: Moment | None = None  # since when it has no connection
        self.doubts = None  # of a session in the book
        self.ends_at = 0.0  # while nobody is connected
        self.filters: dict[str, tuple[SubscriptionOptions, int]] = {}  # and identifier, 0: none
        self.no_local = set()  # those of them that do not want what this client publishes
        # QoS 2 packet identifier -> number of the commit that holds its record
        self.incoming: dict[int, int] = {}
        self.outbound = Outbound(self, departures)
        # published when the session ends or the delay is over, unless the client returns before
        self.will: Will | None = None
        self.standing_will: Will | None = (
            None  # the same and that of its connection: what a restart finds
        )
        self.will_delay_s = 0.0  # from `left`
        self.will_due: Deadline | None = None
        self.end_due: Deadline | None = None

    @property
    def kept(self) -> bool:
        """It outlives its connection, and a restart."""
        return self.expiry_s > 0

    @property
    def receive_maximum(self) -> int:
        return self.outbound.receive_maximum

    @property
    def link(self) -> Link | None:
        return self.outbound.link

    @property
    def queued(self) -> int:
        """Messages that wait, in memory or in the journal; after a restart records that may be such."""
        return self.outbound.backlog.queued + self.outbound.backlog.behind

    @property
    def in_flight(self) -> int:
        return self.outbound.in_flight

    def outbound_state(self) -> bytes:
        """What is durable of its deliveries; the book notes it."""
        return pack(self.outbound.state())

    def restore_outbound(self, state: bytes) -> None:
        """Once, with its subscriptions, before it is bound to anything. `state`: what `outbound_state` gave before."""
        self.outbound.restore(unpack(state))

    # --- connection comes and goes ----------------------------------------------------------------------------

    def bind(self, link: Link) -> None:
        self.outbound.link = link

    def settle(self) -> None:
        """Somebody is back, or nobody will be: nothing is due any more."""
        for deadline in (self.will_due, self.end_due):
            if deadline is not None:
                deadline.cancel()
        self.will_due = self.end_due = None

    def resend(self, now: float) -> None:
        """After CONNACK with session present: in flight first ([MQTT-4.4.0-1]), then what waits."""
        self.outbound.resend(now)

    def unbind(self, now: float) -> None:
        self.outbound.unbind()
        self.ends_at = now + self.expiry_s

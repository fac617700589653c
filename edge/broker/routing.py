"""Topic to partition, remembered: a publish on a topic seen before costs one dictionary look-up.

The memory is two generations of a bounded dictionary: a topic is looked up in the young one, then in the old one (and
moved), then worked out; when the young one is full it becomes the old one. So at most twice `ROUTES_MAX` routes are
held, whatever clients publish, and a busy topic is never forgotten.
"""

from __future__ import annotations

from ...core.errors import Closed, Refused
from ...core.record import Headers, TopicPartition
from ..mqtt.reasons import Reason, Violation
from ..mqtt.topics import decode_topic_name, is_ours
from ..streams import StreamTable
from .access.rules import Rights
from .journal import Journal, PartitionWriter
from .plain import Way
from .stored import marked_with_qos

# One route is about 300 bytes with its topic: 2 x 8,192 of them 5 MiB, and enough for a large site.
ROUTES_MAX = 8192
# Where keys depend on the client, each connection has its own: a device has a handful of topics.
CLIENT_ROUTES_MAX = 32
# Where access rules apply, each connection remembers what it may use: one reference for a topic, the route is shared.
GUARDED_ROUTES_MAX = 256
# A longer topic is worked out every time rather than remembered.
ROUTE_TOPIC_BYTES_MAX = 256


class TopicRefused(Violation):
    """A legal topic that we do not take (MQTT 5: 0x90 in PUBACK; 3.1.1: the connection is closed)."""

    def __init__(self, topic: str) -> None:
        super().__init__(Reason.TOPIC_NAME_INVALID, f"topic {topic[:80]!r} is not for clients")


class NotPermitted(TopicRefused):
    """A topic that this client may not publish to (0x87)."""

    def __init__(self, topic: str) -> None:
        Violation.__init__(self, Reason.NOT_AUTHORIZED, f"{topic[:80]!r}: not permitted")


def refusal(error: Exception) -> Reason:
    """MQTT's word for why a publish was not taken. Raises Violation where nothing will be taken any more."""
    if isinstance(error, Violation):
        return error.reason
    if isinstance(error, Refused):
        return Reason.IMPLEMENTATION_SPECIFIC_ERROR
    if isinstance(error, Closed):
        raise Violation(Reason.SERVER_SHUTTING_DOWN, str(error))
    return Reason.QUOTA_EXCEEDED


class Place:
    """A partition as all its routes share it: three objects less for each of thousands."""

    __slots__ = ("append", "tp", "writer")

    def __init__(self, tp: TopicPartition, writer: PartitionWriter) -> None:
        self.tp, self.writer, self.append = tp, writer, writer.append


class Route(Way):
    """Where the messages of one topic go. `quiet` is the generation of subscriptions in which nobody wanted them; where
    records may be acknowledged before their commit (`early`), none ever is, so that those of all others pay nothing for it.

    `headers` are the record headers of a plain message at QoS 1, `headers_qos_0` of one at QoS 0: ready-made, so that the
    hot path makes none.
    """

    __slots__ = ("topic", "topic_bytes", "tp")

    def __init__(
        self, topic: str, topic_bytes: bytes, place: Place, key: bytes, headers: Headers
    ) -> None:
        self.topic = topic
        self.topic_bytes = topic_bytes
        self.tp = place.tp
        self.append = place.append
        self.early = place.writer if place.writer.early else None
        self.key = topic_bytes if key == topic_bytes else key  # usually it is: held once
        self.headers = headers
        self.headers_qos_0 = marked_with_qos(headers, 0)
        self.quiet = -1


class Routes:
    """The routes of all clients, or of one where keys depend on the client."""

    __slots__ = ("_client_id", "_journal", "_limit", "_old", "_places", "streams", "young")

    def __init__(self, streams: StreamTable, journal: Journal, client_id: str, limit: int) -> None:
        self.young: dict[bytes, Route] = {}
        self._old: dict[bytes, Route] = {}
        self._places: dict[TopicPartition, Place] = {}  # one for each partition of the settings
        self.streams = streams
        self._journal = journal
        self._client_id = client_id
        self._limit = limit

    def find(self, topic_bytes: bytes) -> Route:
        """What `young` did not have. Raises Violation for what is no topic name, TopicRefused."""
        route = self.young.get(topic_bytes) or self._old.get(topic_bytes)
        if route is None:
            route = self._work_out(decode_topic_name(topic_bytes), topic_bytes)
        if len(topic_bytes) <= ROUTE_TOPIC_BYTES_MAX:
            if len(self.young) >= self._limit:
                self._old = self.young
                self.young = {}
            self.young[topic_bytes] = route
        return route

    def _work_out(self, topic: str, topic_bytes: bytes) -> Route:
        if is_ours(topic):
            raise TopicRefused(topic)
        tp, key, headers = self.streams.match(topic).place(topic, self._client_id)
        place = self._places.get(tp)
        if place is None:
            place = self._places[tp] = Place(tp, self._journal.writer(tp))
        return Route(topic, topic_bytes, place, key, headers)


class GuardedRoutes(Routes):
    """The routes that one client may use: a topic is judged when it is first seen, and then it is one look-up too."""

    __slots__ = ("_inner", "_rights")

    def __init__(self, inner: Routes, rights: Rights, journal: Journal, client_id: str) -> None:
        super().__init__(inner.streams, journal, client_id, GUARDED_ROUTES_MAX)
        self._inner = inner
        self._rights = rights

    def _work_out(self, topic: str, topic_bytes: bytes) -> Route:
        if not self._rights.may_write(topic):
            raise NotPermitted(topic)
        return self._inner.find(topic_bytes)


class Router:
    __slots__ = ("_journal", "_shared", "_streams")

    def __init__(self, streams: StreamTable, journal: Journal) -> None:
        self._streams = streams
        self._journal = journal
        self._shared = Routes(streams, journal, "", ROUTES_MAX)

    def routes(self, client_id: str, rights: Rights | None = None) -> Routes:
        routes = self._shared
        if self._streams.uses_client:
            routes = Routes(self._streams, self._journal, client_id, CLIENT_ROUTES_MAX)
        if rights is not None:
            return GuardedRoutes(routes, rights, self._journal, client_id)
        return routes

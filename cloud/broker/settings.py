"""Settings of the Kafka-protocol broker."""

from __future__ import annotations

import msgspec

from ...core.units import MIB, ByteSize, Duration
from .topics import TopicDefaults


class TopicSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[cloud.broker.topics]: what holds for topics without an override of their own"""

    auto_create: bool = True
    """Make a topic when a client first names it, as Kafka does by default: an edge's new stream needs no ceremony."""

    partitions: int = 1
    """Partitions of a topic made that way (Kafka's default). The uplink asks for its own number."""

    partitions_max: int = 10_000
    """Partitions of one topic; a bound on what one CreateTopics request can make a node hold."""

    retention: Duration = Duration(7 * 86400)
    """How long the log keeps records after it took them (retention.ms; Kafka's default). Long enough for a sink to be
    repaired; the lake is the archive. 0 keeps them for ever."""

    retention_bytes: ByteSize = ByteSize(0)
    """Bytes kept per partition (retention.bytes). 0 is unlimited: time alone decides."""

    batch_bytes_max: ByteSize = ByteSize(MIB + 12)
    """Largest record batch taken (max.message.bytes; Kafka's default, which clients' own limits are made for)."""

    def defaults(self) -> TopicDefaults:
        return TopicDefaults(
            retention_ms=round(self.retention * 1000) or -1,
            retention_bytes=int(self.retention_bytes) or -1,
            max_message_bytes=int(self.batch_bytes_max),
        )


class BrokerSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[cloud.broker]"""

    topics: TopicSettings = TopicSettings()
    """What holds for topics without an override."""

    request_bytes_max: ByteSize = ByteSize(16 * MIB)
    """A larger frame closes its connection before anything is allocated. Clients' own limit is about 1 MiB a request;
    the uplink may carry many partitions in one."""

    connections_max: int = 10_000
    """More are closed at once; each idle one costs a few KiB."""

    idle_timeout: Duration = Duration(600)
    """A connection that sends nothing for so long is closed (Kafka's connections.max.idle.ms)."""

    send_timeout: Duration = Duration(30)
    """A client that takes none of its answer for so long is cut off: the answer holds memory that others wait for."""

    requests_in_flight_max: int = 64
    """Requests of one connection that are answered at the same time. Kafka takes one, which at 250 ms a flush allows
    four requests a second; reading ahead puts all of them into one object."""

    connection_bytes_in_flight_max: ByteSize = ByteSize(8 * MIB)
    """Produced bytes of one connection that wait for their object; above it the connection is not read."""

    produce_bytes_in_flight_max: ByteSize = ByteSize(40 * MIB)
    """The same for the whole node. With one more request it stays below the journal's pending_bytes_max, so that
    the journal never has to refuse."""

    produce_timeout_max: Duration = Duration(60)
    """The longest that a Produce request waits for the store, whatever it asks for; then REQUEST_TIMED_OUT."""

    fetch_bytes_max: ByteSize = ByteSize(16 * MIB)
    """The largest Fetch answer. Clients ask for 50 MiB by habit; they get the rest with the next request."""

    fetch_memory_max: ByteSize = ByteSize(128 * MIB)
    """Fetch answers being gathered or sent, all connections together; further ones wait their turn."""

    fetch_wait_max: Duration = Duration(60)
    """The longest that a Fetch waits for data, whatever it asks for."""

    producer_ids_block: int = 1_000
    """Producer ids taken from the log at a time; the unused rest of a block is lost with its node, of 2^63."""

    producer_idle_max: Duration = Duration(14 * 86400)
    """A producer id silent for so long is forgotten. An edge may be offline for days and then asks where it stopped:
    longer than Kafka's one day on purpose. About 300 bytes each."""

    housekeeping_interval: Duration = Duration(30)
    """How often retention, idle producers and idle groups are looked at."""

    drain_timeout: Duration = Duration(10)
    """How long a stopping node waits for answers that are under way."""

"""Settings of the uplink. Values only: clock, journal and network are components and come in by the constructor."""

from __future__ import annotations

import msgspec

from ...core.errors import Misconfigured
from ...core.kafka.credentials import SaslSettings, TlsSettings
from ...core.units import KIB, MIB, ByteSize, Duration
from .limits import ShapingSettings

# zstd's own; below -7 it only gets faster by compressing nothing.
COMPRESSION_LEVELS = (-7, 22)


class UplinkSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    batch_bytes_max: ByteSize = ByteSize(500_000)
    """Of a batch before compression: cutting one holds the event loop some 2 ms (10 on a small board), in which no
    MQTT client is served; five in flight are still 10 MB/s to a cloud that flushes every 250 ms. Below Kafka's
    message.max.bytes (1,048,588) even uncompressed."""
    batch_records_max: int = 5_000
    """The same bound for tiny records, whose cost is by the piece."""
    linger: Duration = Duration(0.25)
    """How long is gathered before something is sent at all: Headwater's cloud flushes no more often, and 100-byte readings
    compress tenfold together and not at all alone."""
    linger_max: Duration = Duration(2)
    """A trickle is gathered longer: less than `linger_bytes` leaves so often at the most, all streams in one request. The
    first after a silence waits `linger` alone. A request costs some 500 bytes on the wire however little is in it, so ten
    readings a second cost 50 bytes each at 2 s and 210 at 0.25 s; a live view is 1 s older on average. It is the bound
    on what gathering adds to a reading's age. 0: nothing is held for its size."""
    linger_bytes: ByteSize = ByteSize(8 * KIB)
    """So much, before compression and with addresses, is worth a request: its frame is a third of what travels then."""
    linger_metered: Duration = Duration(20)
    """`linger_max` over a metered link, where bytes cost more than freshness: one reading a second costs 60 bytes each, a
    fifth of what a bridge spends, and is 10 s older on average. From two a second on it is `linger_bytes` that sends."""
    linger_priority: int = 7
    """Streams of this priority and above (alarms; declared losses are) wait `linger` and no longer; streams have 4."""
    compression: str = "zstd"
    """zstd or none. On a 100-byte JSON reading zstd level 1 costs under 0.3 µs and saves nine tenths of the link."""
    compression_level: int = 1
    """zstd -1 reached 11.2x on readings, -3 11.5x at half the speed."""
    in_flight: int = 5
    """Batches unanswered per partition. Kafka remembers five per producer; more would break exactly once."""
    requests_in_flight: int = 5
    """Requests unanswered per leader, so that a cloud that flushes every 250 ms does not hold the link idle."""
    request_bytes_max: ByteSize = ByteSize(4 * MIB)
    """Of one request, which carries one batch of many partitions. Well below any broker's frame limit."""
    memory_bytes_max: ByteSize = ByteSize(16 * MIB)
    """Of records read and not yet acknowledged, whatever the backlog: what a small board can spare."""
    read_bytes: ByteSize = ByteSize(512 * KIB)
    """Of one journal read; a card reads this in some 25 ms, in another thread."""
    scan_partitions_min: int = 8
    """From so many hungry partitions on, the journal is read in arrival order (sequential) instead of one by one."""
    request_timeout: Duration = Duration(30)
    """Without an answer for so long the connection is given up; the broker is told to give up at two thirds of it."""
    late_copies: Duration = Duration(60)
    """A request on a connection that broke is applied, and replicated, within this time or never: the sum of what brokers
    allow a request (Kafka: 30 s) and a lagging follower (replica.lag.time.max.ms, 30 s). Raise it with theirs."""
    backoff_first: Duration = Duration(0.1)
    """First pause after a failure; doubles, with full jitter."""
    backoff_max: Duration = Duration(60)
    """Longest pause: an edge notices a cloud that is back within a minute."""
    spread: Duration = Duration(2)
    """At the start and after a connection broke, a random part of this passes before the next attempt: a thousand edges
    that lost the same cloud, or got power back together, come as five hundred a second and not as one."""
    stable_after: Duration = Duration(10)
    """A link that lived so long starts again from the first pause."""
    live_share: int = 70
    """Of the link, in percent, for live data while history fills in behind; what one does not use the other takes."""
    split_records: int = 10_000
    """A partition that is further behind when the link comes back sends live data beside its backlog, at once. Less is
    caught up in a second or two anyway."""
    split_after: Duration = Duration(10)
    """While the link is up: so long must a partition stay further behind before its live data go beside the backlog."""
    ranges_max: int = 4
    """Of live lane and backlogs of one partition, one for each outage that has not filled in yet; 1: everything in order,
    live data wait for history. Each costs a producer identity at the broker and some 2 KiB here."""
    cursor_interval: Duration = Duration(1)
    """How often acknowledgements are written down. They can be asked for again, so this saves flash, not data."""
    partitions: int = 0
    """Partitions of a topic that the uplink creates; 0: as many as the stream has at the edge, at least 4."""
    replication_factor: int = -1
    """Of a topic that the uplink creates; -1: the cluster's default."""
    keepalive: Duration = Duration(60)
    """A silent connection is probed so often: carriers forget one after some minutes, and a probe costs 100 bytes."""
    tls: TlsSettings = TlsSettings()
    sasl: SaslSettings = SaslSettings()
    shaping: ShapingSettings = ShapingSettings()

    def __post_init__(self) -> None:
        if not 1 <= self.in_flight <= 5:
            raise Misconfigured(f"edge.uplink_options.in_flight {self.in_flight} must be 1 to 5")
        if self.linger_bytes > self.batch_bytes_max:
            raise Misconfigured("edge.uplink_options.linger_bytes is above batch_bytes_max")
        if not 1 <= self.live_share <= 99:
            raise Misconfigured(f"edge.uplink_options.live_share {self.live_share} must be 1 to 99")
        if self.ranges_max < 1 or self.split_records < 1:
            raise Misconfigured("edge.uplink_options.ranges_max and split_records are at least 1")
        if self.compression not in {"zstd", "none"}:
            raise Misconfigured(
                f"edge.uplink_options.compression {self.compression!r} must be zstd or none"
            )
        if self.batch_bytes_max > self.request_bytes_max:
            raise Misconfigured("edge.uplink_options.batch_bytes_max is above request_bytes_max")
        if self.memory_bytes_max < 2 * self.batch_bytes_max + self.read_bytes:
            raise Misconfigured(
                "edge.uplink_options.memory_bytes_max must hold two batches (batch_bytes_max) and one read (read_bytes)"
            )
        if (
            self.batch_records_max < 1
            or self.requests_in_flight < 1
            or self.scan_partitions_min < 1
        ):
            raise Misconfigured(
                "edge.uplink_options.batch_records_max, requests_in_flight and scan_partitions_min are at least 1"
            )

        for name in ("request_timeout", "backoff_first", "backoff_max", "keepalive"):
            if getattr(self, name) <= 0:
                raise Misconfigured(f"edge.uplink_options.{name} must be above 0s")
        if not 0 <= self.linger_priority <= 10:
            raise Misconfigured(
                "edge.uplink_options.linger_priority must be 0 to 10 (10: no stream)"
            )
        if self.partitions < 0 or self.replication_factor < -1 or self.replication_factor == 0:
            raise Misconfigured(
                "edge.uplink_options.partitions is at least 0, replication_factor 1 or more, or -1"
            )
        if not COMPRESSION_LEVELS[0] <= self.compression_level <= COMPRESSION_LEVELS[1]:
            raise Misconfigured("edge.uplink_options.compression_level must be -7 to 22")

    @property
    def linger_longest(self) -> float:
        """Seconds that anything may be gathered, over whatever link."""
        return float(max(self.linger, self.linger_max, self.linger_metered))

"""The MQTT broker's limits. Each is announced to MQTT 5 clients in CONNACK where the protocol has a word for it."""

from __future__ import annotations

import msgspec

from ...core.errors import Misconfigured
from ...core.units import KIB, MIB, ByteSize, Duration


class MqttSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    connections_max: int = 10_000
    """A gateway sees hundreds; ten thousand idle ones are about as many as its memory bears."""
    refusals_max: int = 100
    """Connections beyond those that are heard until their CONNECT, to be told why in their own version."""
    packet_bytes_max: ByteSize = ByteSize(MIB)
    """Sensor readings have hundreds of bytes; a camera still has a few hundred KiB. Bounds what one client can hold."""
    gather_memory_max: ByteSize = ByteSize(16 * MIB)
    """What all clients together may hold of packets above 4 KiB that have not wholly arrived. Who comes then is not read
    until others are done; as much again may wait, and beyond it the newest is closed."""
    connect_timeout: Duration = Duration(10)
    """From TCP accept to a whole CONNECT: ample on a bad radio, short for those who only hold the door open."""
    keep_alive_max: int = 0
    """Seconds; above it (or at none) an MQTT 5 client is told this one instead. 0: whatever the client wishes."""
    receive_maximum: int = 1000
    """Unacknowledged QoS 1 and 2 publishes of one client: two syncs' worth at 10,000 a second and 50 ms."""
    topic_alias_max: int = 64
    """Aliases of one connection: a device has a handful of topics; each costs its topic's length."""
    topic_alias_out_max: int = 64
    """The same in the other direction, where the client takes any: what a repeated topic saves is bytes on a thin link."""
    response_information: str = "responses/{client}"
    """Told to MQTT 5 clients that ask where answers to them may be sent; empty: nothing is told."""
    subscriptions_max: int = 1000
    """Subscriptions of one session: what one client may make us remember and match."""
    filter_levels_max: int = 256
    """Levels of a topic filter: each is a node in memory; real hierarchies have fewer than ten, Mosquitto takes 201."""
    sessions_max: int = 20_000
    """Sessions kept, connected or not: twice the connections."""
    session_expiry_max: Duration = Duration(7 * 86_400)
    """How long a session may outlive its connection: a week away is a holiday, longer is a device that was replaced."""
    inflight_max: int = 100
    """Unacknowledged deliveries to one subscriber: enough to fill a mobile link, less if the client says so."""
    inflight_bytes_max: ByteSize = ByteSize(MIB)
    """The same in topics and payloads: a hundred camera pictures would be more than a radio link can hold."""
    burst_messages_max: int = 500
    """Messages kept in memory for one connected subscriber that is slower than its publishers; what is more waits in
    the log, by offset, and is read again. Five windows: a burst of one commit needs no reading."""
    burst_bytes_max: ByteSize = ByteSize(256 * KIB)
    """The same in topics, payloads and what they cost beside."""
    replay_memory_max: ByteSize = ByteSize(8 * MIB)
    """All subscribers' bursts, and what was read from the log for them: a thousand that return at once share it."""
    replay_read_bytes: ByteSize = ByteSize(64 * KIB)
    """Read from the log for one subscriber at a time: some hundred readings, handed out in a millisecond."""
    replay_reads_max: int = 4
    """Reads of the log under way at a time: a card has one head, and publishers need it too."""
    progress_interval: Duration = Duration(10)
    """How often the QoS 1 progress of a kept session is noted in the log: what a power cut makes us send again. QoS 2
    is noted before each packet."""
    write_buffer_max: ByteSize = ByteSize(256 * KIB)
    """Bytes a client has not yet read: beyond it QoS 0 is dropped, the rest waits in the log, and we stop reading it."""
    unsent_memory_max: ByteSize = ByteSize(32 * MIB)
    """The same of all clients together: while many hold some, each may hold less; beyond it the greatest holders are cut
    off. A hundred and twenty-eight full buffers: more is a flood, not a site with bad radios."""
    retained_messages_max: int = 100_000
    """Retained topics; one for each sensor of a large site."""
    retained_bytes_max: ByteSize = ByteSize(16 * MIB)
    """The same in bytes of topics and payloads."""
    evidence_quiet: Duration = Duration(2)
    """So long without a commit, and one is made to note that acknowledgements arrived (QoS 1 publishes of kept sessions):
    what is in doubt when the power goes may be taken for a repetition. At most 177 MB a day, none with frequent commits."""
    checkpoint_bytes: ByteSize = ByteSize(16 * MIB)
    """Log after which sessions and retained messages are written out, and as much is read again at a start: a fraction
    of a second on the slowest card. At most an eighth of the log's limit."""
    checkpoint_interval: Duration = Duration(300)
    """The same by time, so that a quiet site's log can be retired, too."""
    will_delay_max: Duration = Duration(86_400)
    """A will that comes a day late tells nobody anything."""

    def check(self) -> None:
        """Limits against each other and against the protocol. Raises Misconfigured."""
        for name in (
            "receive_maximum",
            "inflight_max",
            "keep_alive_max",
            "topic_alias_max",
            "topic_alias_out_max",
        ):
            if not 0 <= getattr(self, name) <= 0xFFFF:
                raise Misconfigured(f"edge.mqtt_limits.{name} must be at most 65535")
        for name in (
            "receive_maximum", "inflight_max", "connections_max", "replay_reads_max", "gather_memory_max",
            "subscriptions_max", "filter_levels_max", "sessions_max", "inflight_bytes_max", "burst_messages_max",
            "burst_bytes_max", "replay_memory_max", "replay_read_bytes", "write_buffer_max", "checkpoint_bytes",
        ):  # fmt: skip
            if getattr(self, name) < 1:
                raise Misconfigured(f"edge.mqtt_limits.{name} must be at least 1")
        for name in ("refusals_max", "retained_messages_max"):
            if getattr(self, name) < 0:
                raise Misconfigured(f"edge.mqtt_limits.{name} must be at least 0")
        for name in (
            "connect_timeout",
            "progress_interval",
            "evidence_quiet",
            "checkpoint_interval",
        ):
            if getattr(self, name) <= 0:
                raise Misconfigured(f"edge.mqtt_limits.{name} must be above 0s")
        if self.unsent_memory_max < self.write_buffer_max:
            raise Misconfigured(
                "edge.mqtt_limits.unsent_memory_max must be at least write_buffer_max"
            )
        if len(self.response_information.encode()) > 1024 or "\0" in self.response_information:
            raise Misconfigured("edge.mqtt_limits.response_information must be at most 1024 bytes")
        if not 128 <= self.packet_bytes_max <= 256 * MIB:
            raise Misconfigured("edge.mqtt_limits.packet_bytes_max must be 128B to 256MiB")

"""Streams: which MQTT topics go where, under which key, into which partition.

A stream is declared in TOML; the first whose filter matches takes the message, the default stream takes the rest.

    [[edge.streams]]
    name = "readings"
    filters = ["sensors/#"]
    key = "{2}"             # the second topic level; {topic} is the default, {client} the publisher
    partitions = 4

The key decides the partition (CRC-32 of its bytes, modulo the number of partitions), so what shares a key keeps its
order. Changing filters, key or partitions moves only what arrives afterwards.
"""

from __future__ import annotations

import enum
import re
import zlib
from collections.abc import Callable, Sequence

import msgspec

from ..core.errors import Misconfigured, Refused
from ..core.record import (
    THINNED_SUFFIX,
    TOPIC_HEADER,
    Headers,
    TopicPartition,
    check_name,
)
from ..core.units import KIB, MIB, ByteSize, Duration
from .mqtt.reasons import Violation
from .mqtt.topics import SHARED_PREFIX, check_topic_filter, matches

# A journal holds ten thousand partitions; one stream that takes them all is more likely a slip of the pen.
PARTITIONS_MAX = 1024


class WhenFull(enum.Enum):
    """What gives way when a stream has reached its size, or the log its budget."""

    REFUSE = "refuse"  # the new: publishes go unacknowledged or are refused, nothing unsent is lost
    DROP_OLDEST = "drop-oldest"  # the old: gone with a gap record, sent or not
    THIN_OLDEST = "thin-oldest"  # the old: gone with a gap record, their numbers summarised in the stream NAME.thinned


class Durability(enum.Enum):
    """When a publish to the stream is acknowledged. QoS 2 always waits for the disk."""

    SYNC = "sync"  # when it is on disk
    INTERVAL = "interval"  # at once; it is on disk at the latest `interval` later
    MEMORY = "memory"  # at once; it is written only while the link is away, when its memory is full, or at the end


class RetentionSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How much of a stream stays at the edge. Without limits of its own a stream lives by the journal's."""

    bytes: ByteSize | None = None
    """None: only the journal's total counts; on small disks one number is easier to get right than many."""
    age: Duration | None = None
    """None: keep as long as there is room; a week without a link is when old readings are wanted most."""


class StreamSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str
    """A legal Kafka topic name: the cloud's topic is called the same."""
    filters: tuple[str, ...] = ()
    """MQTT topic filters; none for a stream that only takes what nobody else wants (the default stream)."""
    key: str = "{topic}"
    """{topic}, {client}, {1}, {2} …: one device's readings usually share a topic, and so their order."""
    partitions: int = 1
    """One is right below some thousand messages a second: order everywhere, and the smallest batches to send."""
    retention: RetentionSettings = RetentionSettings()
    durability: Durability = Durability.SYNC
    """Sync: an acknowledgement means disk. The others save flash where the latest readings may be lost by a power cut; what
    was lost is declared as a gap ("at most"), and no offset is ever given twice."""
    interval: Duration = Duration(1)
    """Of streams that are not sync: how long an acknowledged record may be in memory only. A sync costs 4 KiB of flash and
    more; at 1s that is 350 MB a day, at 10s a tenth."""
    memory_bytes: ByteSize = ByteSize(MIB)
    """Of memory streams, all partitions together: what is held unwritten at most. A minute of a hundred 100-byte readings
    a second; half full it is written, so that a link that is slow costs flash and not readings."""
    when_full: WhenFull = WhenFull.REFUSE
    """Refuse: what was acknowledged is never given up unless the owner said so. Streams beside it that may drop make room
    for it, and it does not keep them from that."""
    thin_interval: Duration = Duration(60)
    """Of thin-oldest: min, max, mean and count of each number in JSON payloads, by key, for each such span or longer."""
    priority: int = 4
    """0 (last) to 9 (first): who is sent first when the link is slow, and who gives way last when the log is full; the
    middle, so that both sides have room."""


_FIELD = re.compile(r"\{([^{}]*)\}")
# A topic has 65,535 bytes and so no level of more than five digits.
_LEVEL = re.compile(r"[1-9][0-9]{0,4}")


class Stream:
    """A declared stream, checked. Raises Misconfigured."""

    __slots__ = ("_key_text", "_render", "filters", "name", "partitions", "settings", "uses_client")

    def __init__(self, settings: StreamSettings) -> None:
        self.settings = settings
        self.name = settings.name
        self.partitions = settings.partitions
        try:
            check_name(settings.name, what="name")
            self.filters = [check_topic_filter(each) for each in settings.filters]
        except (Refused, Violation) as error:
            raise Misconfigured(f"edge.streams {settings.name!r}: {error}") from None
        if settings.name.endswith(THINNED_SUFFIX):
            raise Misconfigured(
                f"edge.streams {settings.name!r}: names that end with {THINNED_SUFFIX} are for summaries"
            )
        if not 1 <= settings.thin_interval <= 31 * 86_400:
            raise Misconfigured(f"edge.streams {settings.name!r}: thin_interval must be 1s to 31d")
        if settings.name.startswith("_"):
            raise Misconfigured(f"edge.streams {settings.name!r}: names that begin with _ are ours")
        if any(each.startswith(SHARED_PREFIX) for each in self.filters):
            raise Misconfigured(
                f"edge.streams {settings.name!r}: a shared subscription is not a filter"
            )
        if not 1 <= settings.partitions <= PARTITIONS_MAX:
            raise Misconfigured(
                f"edge.streams {settings.name!r}: partitions must be 1 to {PARTITIONS_MAX}"
            )
        if not 0.01 <= settings.interval <= 86_400:
            raise Misconfigured(f"edge.streams {settings.name!r}: interval must be 10ms to 1d")
        if settings.memory_bytes < 64 * KIB * settings.partitions:
            raise Misconfigured(
                f"edge.streams {settings.name!r}: memory_bytes must be at least 64KiB for each partition"
            )
        if not 0 <= settings.priority <= 9:
            raise Misconfigured(f"edge.streams {settings.name!r}: priority must be 0 to 9")
        self._render = _compile_key(settings.name, settings.key)
        self._key_text = settings.key
        self.uses_client = "{client}" in settings.key

    def key(self, topic: str, client_id: str) -> str:
        if self._key_text == "{topic}":
            return topic
        return self._render(topic, client_id)

    def place(self, topic: str, client_id: str) -> tuple[TopicPartition, bytes, Headers]:
        """(partition, record key, record headers) of a message."""
        key_text = self.key(topic, client_id)
        key = key_text.encode()
        headers: Headers = () if key_text == topic else ((TOPIC_HEADER, topic.encode()),)
        return TopicPartition(self.name, zlib.crc32(key) % self.partitions), key, headers


def _compile_key(name: str, template: str) -> Callable[[str, str], str]:
    parts = _FIELD.split(template)  # text, field, text, field, …, text
    if any("{" in text or "}" in text for text in parts[::2]):
        raise Misconfigured(
            f"edge.streams {name!r}: key {template!r} has a brace that is not closed"
        )
    for field in parts[1::2]:
        if field not in {"topic", "client"} and not _LEVEL.fullmatch(field):
            raise Misconfigured(
                f"edge.streams {name!r}: key {template!r} may use {{topic}}, {{client}} and levels {{1}}, {{2}} …"
            )

    def render(topic: str, client_id: str) -> str:
        levels = topic.split("/")
        out: list[str] = []
        for index, part in enumerate(parts):
            if index % 2 == 0:
                out.append(part)
            elif part == "topic":
                out.append(topic)
            elif part == "client":
                out.append(client_id)
            else:
                # a topic with fewer levels has an empty one there, as "a//b" has
                out.append(levels[int(part) - 1] if int(part) <= len(levels) else "")
        return "".join(out)

    return render


class StreamTable:
    """All streams in the order of their declaration; the default last."""

    __slots__ = ("_default", "streams")

    def __init__(self, declared: Sequence[StreamSettings], *, default: str = "default") -> None:
        self.streams = {settings.name: Stream(settings) for settings in declared}
        if len(self.streams) < len(declared):
            names = [settings.name for settings in declared]
            twice = next(name for name in names if names.count(name) > 1)
            raise Misconfigured(f"edge.streams: {twice!r} is declared twice")
        for stream in self.streams.values():
            if not stream.filters and stream.name != default:
                raise Misconfigured(
                    f"edge.streams {stream.name!r}: filters are needed, or no message would ever go there "
                    f"(edge.default_stream is {default!r})"
                )
        if default not in self.streams:
            self.streams[default] = Stream(StreamSettings(name=default))
        self._default = self.streams[default]

    @property
    def uses_client(self) -> bool:
        return any(stream.uses_client for stream in self.streams.values())

    def match(self, topic: str) -> Stream:
        for stream in self.streams.values():
            for topic_filter in stream.filters:
                if matches(topic_filter, topic):
                    return stream
        return self._default

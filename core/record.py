"""The nouns that every room shares: a record, the partition it lies in, and its address for life.

A record is Kafka's: timestamp, key, value, headers. At the edge the key is by default the MQTT topic and the value
the payload, byte for byte. Its *address* (edge, stream, partition, offset) is fixed when its commit is synced and
travels in the header `ADDRESS_HEADER` to the Parquet row, so that duplicates cannot hide and gaps can be proven.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from .errors import Refused

# One header carries the whole address: constant prefix, so zstd makes it nearly free.
ADDRESS_HEADER = "hw.address"
# The edge journal's identity (16 hex digits): an edge that was wiped starts again at offset 0 under another log.
LOG_HEADER = "hw.log"
# Where the range began that the record was sent in (ASCII digits); absent: 0. See edge/uplink/ranges.py.
RANGE_HEADER = "hw.range"
# The clock that stamped the record: boot, trust and wall − boot time (core/belief.py).
TIME_HEADER = "hw.time"
# The MQTT topic, present only where the record's key is not the topic. The other `mqtt.…` headers and how user properties
# become headers: edge/broker/stored.py.
TOPIC_HEADER = "mqtt.topic"

# The stream in which gap records travel, and its fields (JSON): see core/gap.py.
GAPS_STREAM = "_gaps"
# The stream of clock anchors, JSON as well: see core/anchor.py.
TIME_STREAM = "_time"

# Summaries of a stream's records that had to go (core/journal/files/thinning.py) are records of a stream of this name.
THINNED_SUFFIX = ".thinned"

# Kafka's rule for topic names (org.apache.kafka.common.internals.Topic): a stream is a topic.
_NAME = re.compile(r"[A-Za-z0-9._-]{1,249}\Z")

Headers = tuple[tuple[str, bytes | None], ...]


class TopicPartition(NamedTuple):
    """One partition of a stream: Kafka's word for both rooms."""

    topic: str
    partition: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}"


class Record(NamedTuple):
    """What is appended. `timestamp` is milliseconds since the epoch, as the writer's clock believed."""

    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class StoredRecord(NamedTuple):
    """What is read back: a record with the offset it lives at."""

    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Headers = ()


class Address(NamedTuple):
    """(edge, stream, partition, offset): unique for ever together with the edge's log identity."""

    edge: str
    stream: str
    partition: int
    offset: int

    def encode(self) -> bytes:
        return f"{self.edge}/{self.stream}/{self.partition}/{self.offset}".encode()

    @classmethod
    def decode(cls, text: bytes) -> Address:
        """Raises Refused where the header was not written by an edge."""
        try:
            edge, stream, partition, offset = text.decode().split("/")
            return cls(edge, stream, int(partition), int(offset))
        except ValueError:
            raise Refused(f"not a record address: {text[:80]!r}") from None


def check_name(name: str, *, what: str) -> str:
    """A stream or edge name is a legal Kafka topic name. Raises Refused."""
    if not _NAME.match(name) or name in {".", ".."}:
        raise Refused(f"{what} {name!r} must be 1 to 249 of the characters A-Z a-z 0-9 . _ -")
    return name

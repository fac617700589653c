"""What changes in a shard besides records: the events of its log, as JSON so that `headwater log dump` is readable.

Rule: an event says everything that applying it needs. Identifiers, times and choices are made by the node that
proposes it and written down; applying is arithmetic, so every node that replays the log arrives at the same state.
An event that this version does not know stops the replay: guessing at state that acknowledgements rest on loses data.
"""

from __future__ import annotations

import msgspec

from ...core.errors import Corrupt


class Event(msgspec.Struct, frozen=True, tag_field="event", kw_only=True):
    """Base of all events; the tag is the class's name."""


class TopicCreated(Event, frozen=True, tag=True):
    topic: str
    topic_id: str  # uuid, 32 hex digits
    partitions: int
    config: dict[str, str] = {}
    at_ms: int = 0


class TopicDeleted(Event, frozen=True, tag=True):
    topic: str
    topic_id: str


class PartitionsAdded(Event, frozen=True, tag=True):
    """`partitions` is the new total."""

    topic: str
    partitions: int


class TopicConfigured(Event, frozen=True, tag=True):
    """`config` replaces every override the topic had."""

    topic: str
    config: dict[str, str]


class PartitionRetired(Event, frozen=True, tag=True):
    """The topic was deleted: its producers are forgotten; a Trim beside this event takes the records.

    The next offset stays, so that no offset ever names two records."""

    topic: str
    partition: int


class ProducerIdsAllocated(Event, frozen=True, tag=True):
    """Ids below `next_id` were handed out, or burnt with the node that held their block."""

    next_id: int


class ProducersForgotten(Event, frozen=True, tag=True):
    """Idle for longer than the setting: (topic, partition, producer id)."""

    producers: list[tuple[str, int, int]]


class CommittedOffset(msgspec.Struct, frozen=True, array_like=True):
    topic: str
    partition: int
    offset: int
    leader_epoch: int = -1
    metadata: str = ""


class OffsetsCommitted(Event, frozen=True, tag=True):
    group: str
    offsets: list[CommittedOffset]
    at_ms: int


class OffsetsForgotten(Event, frozen=True, tag=True):
    """Committed offsets dropped, because their topic is gone or an administrator said so."""

    group: str
    partitions: list[tuple[str, int]]


class GroupDeleted(Event, frozen=True, tag=True):
    group: str


class TimeMarked(Event, frozen=True, tag=True):
    """The node's wall clock as this object was made, at most once a minute: what age means to retention."""

    at_ms: int


AnyEvent = (
    TopicCreated
    | TopicDeleted
    | PartitionsAdded
    | TopicConfigured
    | PartitionRetired
    | ProducerIdsAllocated
    | ProducersForgotten
    | OffsetsCommitted
    | OffsetsForgotten
    | GroupDeleted
    | TimeMarked
)

_DECODER: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_ENCODER = msgspec.json.Encoder()


def encode_event(event: AnyEvent) -> bytes:
    return _ENCODER.encode(event)


def decode_event(data: bytes) -> AnyEvent:
    """Raises Corrupt."""
    try:
        return _DECODER.decode(data)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"unknown event in the log: {bytes(data[:80])!r}: {error}") from error

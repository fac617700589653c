"""What one commit holds, and who is told of it.

An object's entries are applied in the order in which they were submitted, on the owner when it is durable and on
every later owner at replay. Nothing else may change the state machine, which makes state a function of the log.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from ...record import TopicPartition


class Batch(NamedTuple):
    """One record batch v2, base offset already set to `ShardWriter.next_offset(partition)`."""

    partition: TopicPartition
    data: bytes


class Event(NamedTuple):
    """Bytes of the state machine's own: producer sequences, committed offsets, stream metadata."""

    data: bytes


class Trim(NamedTuple):
    """The log start offset of a partition moves forward to `start`; older records may be collected."""

    partition: TopicPartition
    start: int


class Drop(NamedTuple):
    """The partition is gone with all its records; a batch that follows begins again at offset 0."""

    partition: TopicPartition


Entry = Batch | Event | Trim | Drop


class CommitResult(NamedTuple):
    """Where a submission became durable."""

    seq: int


class StateMachine(Protocol):
    """State as a function of the log. All three are called on the event loop and must not block."""

    def apply(self, seq: int, entries: Sequence[Entry]) -> None:
        """One durable object. Must be deterministic and must not fail for entries that were accepted once."""

    def snapshot(self) -> bytes:
        """All state after the last `apply`."""

    def restore(self, snapshot: bytes) -> None:
        """Replaces all state, whatever it was before. Never called: the state of an empty log."""

"""Where records come from: the small part of a Kafka cluster that the sink needs.

The real one is cloud/sink/kafka.py; tests have one in memory. A source holds no positions: the lake does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

from ...core.journal.reading import Bounds
from ...core.record import TopicPartition


class Aborted(NamedTuple):
    """A transaction that was aborted: this producer's batches from `first_offset` up to its next marker are no data."""

    producer_id: int
    first_offset: int


class Fetched(NamedTuple):
    """Some bytes of one partition, asked for at `offset`. Whole batches; the first may begin before `offset`."""

    partition: TopicPartition
    offset: int
    batches: bytes
    aborted: Sequence[Aborted] = ()
    end: int = -1  # the partition's end, -1 unknown: for the lag


class OutOfRange(NamedTuple):
    """The partition does not hold `offset`; `bounds` is what it holds now."""

    partition: TopicPartition
    offset: int
    bounds: Bounds


class Source(Protocol):
    async def cluster_id(self) -> str:
        """Raises Unavailable; Refused where the cluster has none; Closed where it is another than before."""

    async def partitions(self) -> list[TopicPartition]:
        """All partitions of all topics, asked anew. Raises Unavailable."""

    @property
    def topic_ids(self) -> Mapping[str, str]:
        """By topic, as of the last `partitions`; none: unknown. A topic that is deleted and made anew has another one."""

    async def topic_id(self, topic: str) -> str:
        """Asked anew; "" where it is unknown, or there is no such topic. Raises Unavailable."""

    async def bounds(self, partition: TopicPartition) -> Bounds:
        """Raises Unavailable, Missing."""

    async def fetch(
        self, positions: Mapping[TopicPartition, int], *, wait_s: float
    ) -> list[Fetched | OutOfRange]:
        """What lies at these offsets; waits up to `wait_s` where nothing does. Raises Unavailable, Closed.

        A partition that is missing from the answer had nothing, or could not be read now.
        """

    async def close(self) -> None: ...

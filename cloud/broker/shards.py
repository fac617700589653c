"""Which shard a thing lives in, and the shards that this node owns.

Handlers ask here and take None for an answer: that shard belongs to another node. Topics and producer ids live in the
controller shard; a partition and its producers in the shard its name hashes to; a group's offsets likewise.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping

from ...core.record import TopicPartition
from .cluster import Cluster
from .shard import Shard
from .topics import Topic

CONTROLLER = 0


class Shards:
    def __init__(self, cluster: Cluster, owned: Iterable[Shard]) -> None:
        self.cluster = cluster
        self._owned = {shard.number: shard for shard in owned}
        # one node, one shard: the controller's. A node without it will follow its log instead.
        self._topics_of = self._owned[CONTROLLER].state

    def owned(self) -> Iterator[Shard]:
        yield from self._owned.values()

    def of(self, tp: TopicPartition) -> Shard | None:
        return self._owned.get(self.cluster.shard_of(tp))

    def of_group(self, group_id: str) -> Shard | None:
        return self._owned.get(self.cluster.shard_of_group(group_id))

    @property
    def controller(self) -> Shard | None:
        return self._owned.get(CONTROLLER)

    # -- topics, as of the last object applied

    @property
    def topics(self) -> Mapping[str, Topic]:
        return self._topics_of.topics

    def topic_by_id(self, topic_id: uuid.UUID) -> Topic | None:
        return self._topics_of.topics_by_id.get(topic_id.hex)

    def has(self, tp: TopicPartition) -> bool:
        topic = self.topics.get(tp.topic)
        return topic is not None and 0 <= tp.partition < topic.partitions

    def find(self, tp: TopicPartition) -> Shard | None:
        """The owned shard of an existing partition."""
        return self.of(tp) if self.has(tp) else None

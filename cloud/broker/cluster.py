"""`cluster.json`: what is decided once, when the first node opens an empty store.

The cluster id names the log in the lake's positions, the shard count maps partitions to shards; neither can ever change.
Create-if-absent decides between nodes that start together: the loser reads what the winner wrote.
"""

from __future__ import annotations

import base64
import contextlib
import random
import uuid
import zlib

import msgspec

from ...core.errors import AlreadyExists, Corrupt, Missing, Refused
from ...core.objectstore import ObjectStore
from ...core.record import TopicPartition

CLUSTER_KEY = "cluster.json"
FORMAT = 1


class Cluster(msgspec.Struct, frozen=True, kw_only=True):
    cluster_id: str
    shards: int
    format: int = FORMAT

    def shard_of(self, tp: TopicPartition) -> int:
        return zlib.crc32(f"{tp.topic}/{tp.partition}".encode()) % self.shards

    def shard_of_group(self, group_id: str) -> int:
        return zlib.crc32(group_id.encode()) % self.shards


async def found_or_join(store: ObjectStore, *, shards: int, rng: random.Random) -> Cluster:
    """Raises Corrupt, Refused, Unavailable, and Unknown where the caller may simply ask again."""
    try:
        return _decode((await store.get(CLUSTER_KEY)).data, store.location)
    except Missing:
        pass
    founded = Cluster(cluster_id=_draw_id(rng), shards=shards)
    # another node may be first, or our own answer lost: what stands there counts
    with contextlib.suppress(AlreadyExists):
        await store.put_if_absent(CLUSTER_KEY, msgspec.json.encode(founded))
    return _decode((await store.get(CLUSTER_KEY)).data, store.location)


def _decode(data: bytes, location: str) -> Cluster:
    try:
        cluster = msgspec.json.decode(data, type=Cluster)
    except msgspec.MsgspecError as error:
        raise Corrupt(f"{location}: {CLUSTER_KEY}: {error}") from error
    if cluster.format != FORMAT:
        raise Refused(
            f"{location}: {CLUSTER_KEY} has format {cluster.format}, this version knows {FORMAT}"
        )
    if cluster.shards < 1:
        raise Corrupt(f"{location}: {CLUSTER_KEY} has {cluster.shards} shards")
    return cluster


def _draw_id(rng: random.Random) -> str:
    """22 URL-safe characters, as Kafka's cluster ids are."""
    drawn = uuid.UUID(int=rng.getrandbits(128), version=4)
    return base64.urlsafe_b64encode(drawn.bytes).decode().rstrip("=")

"""Where an edge partition goes: which cloud partition, under which of the edge's producer ids.

Edge partition p of edge E goes to cloud partition (crc32(E) + p) mod C: neighbours spread, and so do edges. Where the
edge has more partitions than the cloud topic, p and p + C share a cloud partition and must not share a producer id:
`slot` p // C names which of the edge's producer ids is used. C is pinned in the cursor at first contact, because a
partition that moved would leave its order and its sequence numbers behind.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple


class Placement(NamedTuple):
    target: int
    slot: int


def place(edge: str, partition: int, *, partitions: int) -> Placement:
    return Placement((zlib.crc32(edge.encode()) + partition) % partitions, partition // partitions)

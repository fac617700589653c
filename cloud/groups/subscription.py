"""What a consumer subscribes to: the head of the metadata it joins with.

Rule: the metadata is the clients' own, and only ever read here to protect what they use; what cannot be read may be
anything, so it counts as a subscription to everything (as at Kafka's coordinator).
"""

from __future__ import annotations

from ...core.errors import Refused

CONSUMER = "consumer"


def subscribes(metadata: bytes, topic: str) -> bool:
    """Whether a member that joined a "consumer" group with this metadata reads the topic."""
    try:
        return topic in _topics(metadata)
    except Refused:
        return True


def _topics(metadata: bytes) -> list[str]:
    """version int16, then an array of strings; user data and whatever later versions added follow. Raises Refused."""
    count, position = _int(metadata, 2, 4), 6
    topics: list[str] = []
    for _ in range(count):
        size = _int(metadata, position, 2)
        position += 2 + size
        if size < 0 or position > len(metadata):
            raise Refused(f"a subscription ends inside its topic {len(topics)}")
        topics.append(metadata[position - size : position].decode(errors="replace"))
    return topics


def _int(data: bytes, position: int, size: int) -> int:
    if position + size > len(data):
        raise Refused(f"a subscription of {len(data)} bytes ends before byte {position + size}")
    return int.from_bytes(data[position : position + size], "big", signed=True)

"""Who is in the cluster: the nodes that Metadata lists and clients connect to.

A node is known to people by its name and to Kafka clients by a number, which is derived from the name so that it stays
the same wherever the node runs. One node knows itself alone; a cluster will learn of the others through the bucket.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple, Protocol


class Member(NamedTuple):
    """One live node and the address it advertises."""

    node_id: int
    name: str
    host: str
    port: int


class Membership(Protocol):
    @property
    def me(self) -> Member: ...

    def live(self) -> list[Member]:
        """All live nodes, this one among them, by id."""

    def owner(self, shard: int) -> Member:
        """The node that should write the shard."""


def node_id(name: str) -> int:
    """A positive int32 from the name."""
    return zlib.crc32(name.encode()) & 0x7FFF_FFFF


class SoleMember:
    """A cluster of one."""

    def __init__(self, me: Member) -> None:
        self._me = me

    @property
    def me(self) -> Member:
        return self._me

    def live(self) -> list[Member]:
        return [self._me]

    def owner(self, shard: int) -> Member:
        del shard  # all are mine
        return self._me

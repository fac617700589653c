"""Who is in the cluster: the nodes that Metadata lists and clients connect to.

A node is known to people by its name and to Kafka clients by a number, which is derived from the name so that it stays
the same wherever the node runs. One node knows itself alone; a cluster will learn of the others through the bucket.
"""

from __future__ import annotations

import zlib
from typing import NamedTuple, Protocol


class Asker(NamedTuple):
    """Who sent a request, in which version, and through which door."""

    client_id: str
    host: str
    version: int
    is_tls: bool = False


class Member(NamedTuple):
    """One live node and the addresses it advertises: in the clear, and over TLS where it has that."""

    node_id: int
    name: str
    host: str
    port: int
    tls: tuple[str, int] | None = None

    def address(self, asker: Asker) -> tuple[str, int]:
        """Where this asker reaches it: who came through the TLS door is sent there again."""
        return self.tls if asker.is_tls and self.tls is not None else (self.host, self.port)


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

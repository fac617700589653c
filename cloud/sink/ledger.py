"""The ledger of one commit: which addresses enter the table, which are there already, which offsets are accounted for.

Rule: per edge partition offsets only go forward. A record below the table's position is a duplicate (sent twice by
an edge that could not know better): it is dropped, and counted, so that Kafka's offsets still tile. A record above it
leaves a hole, which `verify` will hold against the declared gaps. Positions move with the commit or not at all.
"""

from __future__ import annotations

from collections.abc import Callable

from ...core.record import TopicPartition
from ..lake.delta.txn import Txn
from ..lake.lineage import KafkaSpan, RowSpan
from ..lake.positions import EdgePartition, edge_app_id, kafka_app_id
from .addresses import Addresses, Run


class _Account:
    """One Kafka partition's offsets in this commit."""

    def __init__(self, first: int) -> None:
        self.first = first
        self.next = first
        self.rows = 0
        self.duplicates = 0
        self.absent = 0
        self.lost = 0


class Ledger:
    """`position` looks up the table's committed position of an application, None where it has none."""

    def __init__(self, cluster: str, position: Callable[[str], int | None]) -> None:
        self._cluster = cluster
        self._position = position
        self._accounts: dict[TopicPartition, _Account] = {}
        self._next: dict[EdgePartition, int] = {}
        self._ranges: dict[EdgePartition, list[tuple[int, int]]] = {}
        self._dead: dict[EdgePartition, int] = {}

    # ---- Kafka's side

    def next_offset(self, partition: TopicPartition, first: int) -> int:
        """Where the reading of this partition stands; `first` where it has not begun in this commit."""
        return self._accounts.setdefault(partition, _Account(first)).next

    def read(self, partition: TopicPartition, next_offset: int, *, records: int) -> None:
        """Offsets up to `next_offset` were read, and held so many records; the others are absent."""
        account = self._accounts[partition]
        account.absent += next_offset - account.next - records
        account.rows += records
        account.next = next_offset

    def lose(self, partition: TopicPartition, first: int, next_offset: int) -> None:
        """Retention took these before they could be read."""
        self.next_offset(partition, first)
        account = self._accounts[partition]
        account.lost += next_offset - account.next
        account.next = next_offset

    # ---- the addresses' side

    def admit(self, addresses: Addresses, runs: list[Run]) -> list[int] | None:
        """The rows that are new; None for all of them. Counts the others as duplicates."""
        kept: list[int] = []
        start = 0
        for run in runs:
            new = self._admit_run(addresses, start, start + run.records)
            account = self._accounts[run.partition]
            account.duplicates += run.records - len(new)
            account.rows -= run.records - len(new)
            kept += new
            start += run.records
        return None if len(kept) == start else kept

    def _admit_run(self, addresses: Addresses, start: int, end: int) -> range | list[int]:
        """A run is mostly one edge partition's offsets, one after another: seen at a glance."""
        place, offset = addresses.place[start:end], addresses.offset[start:end]
        count = end - start
        if place.count(place[0]) == count and offset == list(range(offset[0], offset[0] + count)):
            where = addresses.places[place[0]]
            if offset[0] >= self._next_of(where):
                self._extend(where, offset[0], offset[-1])
                return range(start, end)
        kept = []
        for row in range(count):
            where = addresses.places[place[row]]
            if offset[row] >= self._next_of(where):
                self._extend(where, offset[row], offset[row])
                kept.append(start + row)
        return kept

    def _next_of(self, where: EdgePartition) -> int:
        found = self._next.get(where)
        if found is None:
            # Kafka's own offsets cannot come twice: the reading's position sees to it
            found = (self._position(edge_app_id(where)) or 0) if where.edge else 0
            self._next[where] = found
        return found

    def _extend(self, where: EdgePartition, first: int, last: int) -> None:
        ranges = self._ranges.setdefault(where, [])
        if ranges and ranges[-1][1] + 1 == first:
            ranges[-1] = (ranges[-1][0], last)
        else:
            ranges.append((first, last))
        self._next[where] = last + 1

    def bury(self, where: EdgePartition) -> None:
        """One dead letter among its rows."""
        self._dead[where] = self._dead.get(where, 0) + 1

    # ---- what the commit says

    def row_spans(self) -> list[RowSpan]:
        return [
            RowSpan(
                edge=where.edge,
                log=where.log,
                stream=where.stream,
                partition=where.partition,
                ranges=ranges,
                dead=self._dead.get(where, 0),
            )
            for where, ranges in self._ranges.items()
        ]

    def kafka_spans(self) -> list[KafkaSpan]:
        return [
            KafkaSpan(
                cluster=self._cluster,
                topic=tp.topic,
                partition=tp.partition,
                first=account.first,
                next=account.next,
                rows=account.rows,
                duplicates=account.duplicates,
                absent=account.absent,
                lost=account.lost,
            )
            for tp, account in sorted(self._accounts.items())
            if account.next > account.first
        ]

    def txns(self, *, now_ms: int) -> list[Txn]:
        moved = [
            (kafka_app_id(self._cluster, tp), account.next)
            for tp, account in sorted(self._accounts.items())
            if account.next > account.first
        ]
        moved += [(edge_app_id(w), self._next[w]) for w in self._ranges if w.edge]
        return [Txn(app_id=name, version=next_, last_updated=now_ms) for name, next_ in moved]

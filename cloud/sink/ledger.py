"""The ledger of one commit: which addresses enter the table, which are there already, which offsets are accounted for.

Rule: a record is new if its offset is not covered (..lake.coverage), and covers then what its label says. Where live data
come beside the backlog of an outage, what is covered is several intervals, each of which only grows. What is covered is a
duplicate (sent twice by an edge that could not know better): it is dropped, and counted, so that Kafka's offsets still
tile. What is skipped leaves a hole, which `verify` will hold against the declared gaps. Positions move with the
commit or not at all.
"""

from __future__ import annotations

from ...core.record import TopicPartition
from ..lake.coverage import Coverage
from ..lake.delta.txn import Txn
from ..lake.lineage import KafkaSpan, RowSpan, merge
from ..lake.positions import EdgePartition, Positions, edge_app_id, kafka_app_id
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
    """`positions`: those that the table has committed."""

    def __init__(self, cluster: str, positions: Positions) -> None:
        self._cluster = cluster
        self._positions = positions
        self._accounts: dict[TopicPartition, _Account] = {}
        self._covered: dict[EdgePartition, Coverage] = {}
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
            where, label = addresses.places[place[0]], addresses.label_of(start)
            if self._covered_of(where).is_free(offset[0], offset[-1]) and (
                addresses.label is None or label == addresses.label_of(end - 1)
            ):
                self._extend(where, offset[0], offset[-1], label)
                return range(start, end)
        kept = []
        for row in range(count):
            where = addresses.places[place[row]]
            if offset[row] not in self._covered_of(where):
                label = addresses.label_of(start + row)
                self._extend(where, offset[row], offset[row], label)
                kept.append(start + row)
        return kept

    def _covered_of(self, where: EdgePartition) -> Coverage:
        found = self._covered.get(where)
        if found is None:
            # Kafka's own offsets cannot come twice: the reading's position sees to it
            found = self._positions.coverage(where) if where.edge else Coverage()
            self._covered[where] = found
        return found

    def _extend(self, where: EdgePartition, first: int, last: int, label: int) -> None:
        ranges = self._ranges.setdefault(where, [])
        if ranges and ranges[-1][1] + 1 == first:
            ranges[-1] = (ranges[-1][0], last)
        else:
            ranges.append((first, last))
        self._covered[where].add(label, last + 1)

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
                ranges=merge(ranges),
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
        for where in self._ranges:
            for first, after in self._covered[where] if where.edge else ():
                app_id = edge_app_id(where, first)
                if self._positions.position(app_id) != after:
                    moved.append((app_id, after))
        return [Txn(app_id=name, version=next_, last_updated=now_ms) for name, next_ in moved]

"""Lineage: which addresses a data file holds, and which Kafka offsets a commit accounts for. Tags on add actions.

Two tags, both compact JSON:
  headwater.rows    of each file: per edge partition the ranges of offsets whose rows lie in it, and its dead letters.
                    The ranges' sizes add up to the file's numRecords: each row has exactly one address.
  headwater.kafka   of one file of each commit (the first): per Kafka partition the offsets [first, next) that the
                    commit accounts for. Each became a row, or was dropped as a duplicate (its address was in the
                    table already), or holds no record (`absent`: transaction markers, aborted, compacted away), or
                    was gone before it could be read (`lost`): next − first = rows + duplicates + absent + lost.

So `verify` can prove from the log alone that nothing is missing and nothing is twice: no data file is opened. A commit
that moves positions without having rows (all duplicates) writes a file of no rows, to have an add to put its tags on.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import msgspec

from ...core.errors import Corrupt
from .delta.add import Add
from .positions import EdgePartition

_Span = TypeVar("_Span", bound=msgspec.Struct)

ROWS_TAG = "headwater.rows"
KAFKA_TAG = "headwater.kafka"


class RowSpan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Addresses of one edge partition in one file. `ranges` include both ends, ascending, apart from each other."""

    edge: str = ""
    log: str = ""
    stream: str
    partition: int = 0
    ranges: list[tuple[int, int]]
    dead: int = 0

    @property
    def place(self) -> EdgePartition:
        return EdgePartition(self.edge, self.log, self.stream, self.partition)

    @property
    def rows(self) -> int:
        return sum(last - first + 1 for first, last in self.ranges)


class KafkaSpan(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Offsets `first` to `next` − 1 of one Kafka partition, and what became of them."""

    cluster: str
    topic: str
    partition: int = 0
    first: int
    next: int
    rows: int = 0
    duplicates: int = 0
    absent: int = 0
    lost: int = 0

    @property
    def adds_up(self) -> bool:
        return self.next - self.first == self.rows + self.duplicates + self.absent + self.lost


def tags(rows: Sequence[RowSpan], kafka: Sequence[KafkaSpan]) -> dict[str, str | None]:
    """`kafka` is given for the first file of a commit only."""
    out: dict[str, str | None] = {ROWS_TAG: msgspec.json.encode(rows).decode()}
    if kafka:
        out[KAFKA_TAG] = msgspec.json.encode(kafka).decode()
    return out


def row_spans(add: Add) -> list[RowSpan] | None:
    """None where another writer made the file."""
    text = (add.tags or {}).get(ROWS_TAG)
    return None if text is None else _decode(text, RowSpan, add)


def kafka_spans(add: Add) -> list[KafkaSpan]:
    text = (add.tags or {}).get(KAFKA_TAG)
    return [] if text is None else _decode(text, KafkaSpan, add)


def _decode(text: str, kind: type[_Span], add: Add) -> list[_Span]:
    try:
        return msgspec.json.decode(text, type=list[kind])  # type: ignore[valid-type]
    except msgspec.MsgspecError as error:
        raise Corrupt(f"the lineage of {add.path} cannot be read: {error}") from error


def merge(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Sorted, adjoining ones joined. Overlaps are joined too: who must notice them looks before."""
    out: list[tuple[int, int]] = []
    for first, last in sorted(ranges):
        if out and first <= out[-1][1] + 1:
            out[-1] = (out[-1][0], max(out[-1][1], last))
        else:
            out.append((first, last))
    return out

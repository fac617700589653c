"""What a partition is told about the cloud, and what it tells the operator: values, no behaviour."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple


class Described(NamedTuple):
    """What DescribeProducers says of our producer id."""

    epoch: int
    last_sequence: int


class Sample(NamedTuple):
    """A record that was read back: its offset at the edge, and a digest of its key and value."""

    offset: int
    digest: int


class Found(NamedTuple):
    """What reading back from `floor` to the high watermark found of our edge partition.

    `seen`: by label (`hw.range`, the origin of the range it was sent in) one past the highest offset; `cloud_offset`: one
    past the last record of it that lies in the asking range or beyond, in the cloud's offsets. `last`: the newest batch of
    our producer id. `truncated`: the cloud no longer holds all from `floor` on. `samples`: the last record of each of the
    newest own batches, to be held against the journal. `remade`: the log ended before `floor`, and was read from its start.
    """

    seen: Mapping[int, int]
    cloud_offset: int
    truncated: bool = False
    last: Described | None = None
    samples: tuple[Sample, ...] = ()
    remade: bool = False

    def reach(self, origin: int, acked: int) -> int | None:
        """One past what is known to be stored of the range from `origin` on; None where nothing of it was seen.

        A record at `o` labelled `L` says that all of [L, o] is stored: it counts where that touches [origin, acked).
        """
        at, met = acked, False
        for label, next_offset in sorted(self.seen.items()):
            if next_offset > origin and label <= at:
                at, met = max(at, next_offset), True
        return at if met else None

    def strangers(self, at: int, end: int | None) -> list[int]:
        """Labels of ranges that begin behind `at` and before `end`: opened by a newer cursor than ours."""
        return [
            label
            for label, next_offset in sorted(self.seen.items())
            if label > at and next_offset > label and (end is None or label < end)
        ]


class Refusal(NamedTuple):
    first: int
    last: int
    code: int
    detail: str


class Notice(NamedTuple):
    """Something an operator should read in the log."""

    event: str
    detail: str

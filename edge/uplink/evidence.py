"""What a partition is told about the cloud, and what it tells the operator: values, no behaviour."""

from __future__ import annotations

from typing import NamedTuple


class Described(NamedTuple):
    """What DescribeProducers says of our producer id."""

    epoch: int
    last_sequence: int


class Found(NamedTuple):
    """What reading back from `floor` to the high watermark found: one past the highest own offset, if any.

    `last`: the newest batch of our producer id. `truncated`: the cloud no longer holds all from `floor` on.
    """

    next_offset: int | None
    cloud_offset: int
    truncated: bool = False
    last: Described | None = None


class Refusal(NamedTuple):
    first: int
    last: int
    code: int
    detail: str


class Notice(NamedTuple):
    """Something an operator should read in the log."""

    event: str
    detail: str

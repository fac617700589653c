"""What an operator sees of the uplink: the state of the link, what is behind, and when it will have caught up."""

from __future__ import annotations

import enum

import msgspec

from .shaping import ShapingStatus


class LinkState(enum.StrEnum):
    CONNECTING = "connecting"
    CONNECTED = "connected"
    WAITING = "waiting"  # between two attempts
    CAPTIVE = "captive"  # what answers speaks HTTP: a portal wants somebody to log in
    OVER_BUDGET = "over budget"  # connected; nothing of the backlog may be sent today
    OUTSIDE_WINDOW = (
        "outside window"  # connected; nothing of the backlog may be sent at this time of day
    )
    STOPPED = "stopped"


class PartitionStatus(msgspec.Struct, frozen=True, kw_only=True):
    stream: str
    partition: int
    target: int
    stage: str
    acked: int
    end: int
    backlog_records: int
    backlog_bytes: int
    """Estimated from the records read so far; the journal keeps no sum."""
    last_error: str
    ranges: int = 0
    """More than one: live data go beside history (ranges.py). 0: not begun."""


class UplinkStatus(msgspec.Struct, frozen=True, kw_only=True):
    state: LinkState
    cluster_id: str
    last_error: str
    backlog_records: int
    backlog_bytes: int
    records_per_second: float
    seconds_to_empty: float | None
    """None where nothing moves; 0 where nothing is behind."""
    memory_bytes: int
    partitions: list[PartitionStatus]


class StreamStatus(msgspec.Struct, frozen=True, kw_only=True):
    stream: str
    priority: int
    backlog_records: int
    backlog_bytes: int
    seconds_to_empty: float | None
    """None: nobody can say, or never at the present pace and under the present rules."""
    waits: str
    """Why it is not sent; empty where nothing but the link's speed holds it."""
    waits_s: float
    lanes: int
    """Of the partition that has most: 1 in order, more while live data go beside a backlog; 0 before first contact."""
    last_error: str


class WireStatus(msgspec.Struct, frozen=True, kw_only=True):
    sent_bytes: int
    received_bytes: int
    queued_bytes: int
    connections: int
    bytes_per_second: float | None
    """Sent while there was something to send."""
    records: int
    requests: int
    failures: int


class LinkOverview(msgspec.Struct, frozen=True, kw_only=True):
    state: LinkState
    cluster: str
    uplink: str
    last_error: str
    next_attempt_s: float | None
    backlog_records: int
    backlog_bytes: int
    seconds_to_empty: float | None
    records_arriving_per_second: float | None
    streams: list[StreamStatus]
    shaping: ShapingStatus
    wire: WireStatus


class Pace:
    """Records a second, as an exponentially weighted mean over about half a minute."""

    _WINDOW_S = 30.0

    def __init__(self) -> None:
        self.records_per_second = 0.0
        self._total = 0
        self._at: float | None = None

    def observe(self, total: int, now: float) -> None:
        if self._at is None or total < self._total:
            self._total, self._at = total, now
            return
        elapsed = now - self._at
        if elapsed < 1.0:
            return
        share = min(1.0, elapsed / self._WINDOW_S)
        rate = (total - self._total) / elapsed
        self.records_per_second += share * (rate - self.records_per_second)
        self._total, self._at = total, now


def seconds_to_empty(records: int, records_per_second: float) -> float | None:
    if records == 0:
        return 0.0
    return records / records_per_second if records_per_second > 0.01 else None

"""The uplink as a person wants to see it: what the link does, what streams wait for, when it will be empty.

Everything is derived here from the uplink's status, its shaper and the kernel's counts; nothing decides by it. `look` is
called every few seconds so that paces are known before anybody asks.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from ...core.clock import Clock
from ...core.journal.reading import JournalReader, bounds_or_none
from .forecast import Mean, seconds_to_empty
from .metering import Meter
from .shaping import Shaper, Waits
from .status import LinkOverview, LinkState, StreamStatus, UplinkStatus, WireStatus
from .totals import LinkTotals

# A record on the wire before any was sent: a compressed reading with its address.
_RECORD_BYTES = 60.0
_BY_WAIT = {
    Waits.BUDGET: LinkState.OVER_BUDGET,
    Waits.RESERVE: LinkState.OVER_BUDGET,
    Waits.WINDOW: LinkState.OUTSIDE_WINDOW,
}


class Observed(Protocol):
    @property
    def totals(self) -> LinkTotals: ...

    @property
    def next_attempt_at(self) -> float: ...

    def status(self) -> UplinkStatus: ...


class Overview:
    """`priority`: of a stream, as its lanes have it."""

    def __init__(
        self,
        uplink: Observed,
        journal: JournalReader,
        *,
        name: str,
        shaper: Shaper,
        meter: Meter,
        clock: Clock,
        priority: Callable[[str], int],
    ) -> None:
        self._uplink = uplink
        self._journal = journal
        self._name = name
        self._shaper = shaper
        self._meter = meter
        self._clock = clock
        self._priority = priority
        self._pace = Mean()
        self._arriving = Mean()
        self._could_move = False

    def look(self, *, could_move: bool) -> None:
        """`could_move`: there is a cluster and something that may be sent to it."""
        now = self._clock.monotonic()
        ends = [bounds_or_none(self._journal, tp) for tp in self._journal.partitions()]
        self._arriving.observe(sum(bounds.end for bounds in ends if bounds), now)
        reading = self._meter.reading()
        self._pace.observe(reading.sent, now, counts=could_move and self._could_move)
        self._could_move = could_move

    def report(self) -> LinkOverview:
        now = self._clock.monotonic()
        status, totals = self._uplink.status(), self._uplink.totals
        streams = self._streams(status, now)
        waiting = status.state in {LinkState.WAITING, LinkState.CAPTIVE}
        return LinkOverview(
            state=_state(status.state, streams),
            cluster=status.cluster_id,
            uplink=self._name,
            last_error=status.last_error,
            next_attempt_s=max(0.0, self._uplink.next_attempt_at - now) if waiting else None,
            backlog_records=status.backlog_records,
            backlog_bytes=status.backlog_bytes,
            seconds_to_empty=_last([stream.seconds_to_empty for stream in streams]),
            records_arriving_per_second=self._arriving.per_second,
            streams=streams,
            shaping=self._shaper.status(now),
            wire=self._wire(totals),
        )

    def _wire(self, totals: LinkTotals) -> WireStatus:
        reading = self._meter.reading()
        return WireStatus(
            sent_bytes=reading.sent,
            received_bytes=reading.received,
            queued_bytes=reading.queued,
            connections=self._meter.connections,
            bytes_per_second=self._pace.per_second,
            records=totals.records,
            requests=totals.requests,
            failures=totals.failures,
        )

    def _streams(self, status: UplinkStatus, now: float) -> list[StreamStatus]:
        """Highest priority first: each is empty when all before it are."""
        records: dict[str, int] = {}
        sizes: dict[str, int] = {}
        errors: dict[str, str] = {}
        lanes: dict[str, int] = {}
        for partition in status.partitions:
            name = partition.stream
            records[name] = records.get(name, 0) + partition.backlog_records
            sizes[name] = sizes.get(name, 0) + partition.backlog_bytes
            errors[name] = errors.get(name) or partition.last_error
            lanes[name] = max(lanes.get(name, 0), partition.ranges)
        priorities = {name: self._priority(name) for name in records}
        ahead: dict[int, float] = {}
        for name, count in records.items():
            for priority in set(priorities.values()):
                if priorities[name] >= priority:
                    wire = count * self._record_bytes(name)
                    ahead[priority] = ahead.get(priority, 0.0) + wire
        is_up = status.state is LinkState.CONNECTED
        times = {p: self._seconds(size, p, now) if is_up else None for p, size in ahead.items()}
        found = []
        for name in sorted(records, key=lambda name: (-priorities[name], name)):
            priority, count = priorities[name], records[name]
            hold = self._shaper.hold(priority, now) if count else None
            found.append(
                StreamStatus(
                    stream=name,
                    priority=priority,
                    backlog_records=count,
                    backlog_bytes=sizes[name],
                    seconds_to_empty=times[priority] if count else 0.0,
                    waits=hold.why.value if hold else "",
                    waits_s=max(0.0, hold.until - now) if hold else 0.0,
                    lanes=lanes[name],
                    last_error=errors[name],
                )
            )
        return found

    def _record_bytes(self, stream: str) -> float:
        """On the wire, all that goes with it included."""
        totals = self._uplink.totals
        sent, size = totals.by_stream.get(stream, (0, 0))
        if not sent:
            return totals.bytes / totals.records if totals.records else _RECORD_BYTES
        overhead = self._meter.reading().sent / totals.bytes if totals.bytes > 10_000 else 1.0
        return max(1.0, overhead) * size / sent

    def _seconds(self, size: float, priority: int, now: float) -> float | None:
        pace, rate = self._pace.per_second, float(self._shaper.settings.rate)
        if rate and pace is None:
            pace = rate  # nothing was measured yet, but faster than this it will not be
        if pace is None:
            return 0.0 if size <= 0 else None
        arriving = (self._arriving.per_second or 0.0) * self._mean_record_bytes()
        pace = min(pace, rate) if rate else pace
        return seconds_to_empty(size, pace, arriving, self._shaper.rules(priority, now))

    def _mean_record_bytes(self) -> float:
        totals = self._uplink.totals
        return totals.bytes / totals.records if totals.records else _RECORD_BYTES


def _state(state: LinkState, streams: list[StreamStatus]) -> LinkState:
    """Connected, but nothing of the backlog may be sent: then the reason is the state."""
    behind = [stream for stream in streams if stream.backlog_records]
    reasons = {_BY_WAIT.get(Waits(stream.waits)) if stream.waits else None for stream in behind}
    if state is not LinkState.CONNECTED or not behind or None in reasons:
        return state
    return LinkState.OVER_BUDGET if LinkState.OVER_BUDGET in reasons else LinkState.OUTSIDE_WINDOW


def _last(times: list[float | None]) -> float | None:
    known = [time for time in times if time is not None]
    return None if len(known) < len(times) else max(known, default=0.0)

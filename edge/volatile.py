"""What is held in memory only, between journal and uplink: let go when it was sent, written when it was not.

A memory stream's records leave its tail as the cloud acknowledges them. Where nothing is acknowledged for `away_s`, the
link counts as away, whatever the reason, and from then on all that is in memory goes to flash at the stream's interval,
until something is acknowledged again. Without an uplink that is always so. Knows nothing of connections: only of progress.
"""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

from ..core.clock import Clock
from ..core.journal.files.journal import FileJournal
from ..core.journal.files.shelf import Loss
from ..core.record import TopicPartition

# A look is a subtraction per partition; the uplink hears of new records in memory as often.
TURN_S = 0.25
# What a healthy link takes at most to answer a batch, beside the time for which the uplink gathers one; what it costs is
# the same span of readings at risk.
AWAY_S = 15.0


Unsent = Callable[[TopicPartition, int, int], Sequence[tuple[int, int]]]


class Tails:
    """The memory streams' partitions, and since when each waits for the cloud.

    `gather_s`: for so long the uplink may gather before it sends."""

    def __init__(self, journal: FileJournal, clock: Clock, *, gather_s: float = 0.0) -> None:
        self._journal = journal
        self._clock = clock
        self._away_s = AWAY_S + gather_s
        self._since: dict[TopicPartition, tuple[int, float]] = {}

    def turn(self, progress: Container[TopicPartition], unsent: Unsent) -> bool:
        """One look; whether something is to be written. `progress`: partitions that the cloud knows; `unsent`: of offsets,
        both included, what it has not got: of a partition with a backlog, live records are there before older ones.
        """
        now = self._clock.monotonic()
        spilled = False
        for partition, writer in self._journal.volatile.items():
            after = writer.next_offset
            missing = unsent(partition, 0, after - 1) if after else ()
            is_known = partition in progress
            if is_known:
                first = writer.tail_first
                writer.sent(next((max(a, first) for a, b in missing if b >= first), after))
            if writer.tail_first == after:
                self._since.pop(partition, None)
                continue
            # one past the newest record that is there: it moves with each answer of the live lane, and with nothing else
            acked = missing[-1][0] if missing and missing[-1][1] == after - 1 else after
            known, since = self._since.get(partition, (acked, now))
            if known != acked:
                since = now
            self._since[partition] = (acked, since)
            if not is_known or now - since > self._away_s:
                writer.spill()
                spilled = True
        return spilled


def all_unsent(partition: TopicPartition, first: int, last: int) -> Sequence[tuple[int, int]]:
    """Without a cloud."""
    return [(first, last)]


def without_sent(losses: Sequence[Loss], unsent: Unsent) -> list[Loss]:
    """What the cloud has is not lost, although it is not here. `unsent`: of offsets, both included, what it has not."""
    return [
        loss._replace(first=first, last=last)
        for loss in losses
        for first, last in unsent(loss.partition, loss.first, loss.last)
    ]

"""What may be forgotten, in two phases, so that a loss is durable on paper before it happens.

  plan       which partitions start later, and which of the offsets given up were never sent (`losses`)
             … the caller appends a gap record for each loss and waits until they are durable …
  carry_out  the new starts become durable, then files go back to the pool. A crash before: nothing happened. After: done.
Rules, in this order, each per stream (`StreamRetention`):
  age     segments whose newest commit is older than `age_max`, by the edge's clock
  bytes   the oldest segments of the stream beyond `bytes_max`
  total   the oldest segments while the journal is above its limit, or the disk is nearly full: first those in which only
          streams of the lowest priority have unsent records, then those of the next
With an uplink (`sent` given) what was sent may always go. What was not goes only where the stream says `drop_oldest` or
`thin_oldest` (thinning.py); otherwise it stays, and when the journal is full new records are refused. Without an uplink
(`sent` None) age and bytes apply as they stand, as in any log, and only the total limit asks the stream's policy.
Everything is counted in whole segments: a segment's file is free when no partition in it starts before its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product

from ...gap import GAPS_PARTITION
from ...record import GAPS_STREAM, TopicPartition
from .holes import united
from .index import Footer
from .journal import HEADROOM_SEGMENTS, FileJournal
from .settings import StreamRetention, WhenFull
from .shelf import Loss, SegmentLost
from .state import Accounted, PartitionBounds, State

_DEFAULT = StreamRetention()
LEVEL_MAX = 9
# A line for a person: which stream to look at first.
KEEPERS_TOLD_MAX = 4


@dataclass(slots=True)
class RetentionPlan:
    """`starts`: only partitions that move. `segments`: files that no one needs once they have moved."""

    starts: dict[TopicPartition, int] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    carry: tuple[int, int] | None = None
    """Unsent gap records, from and before, that go with their segments: first to be written again (carrying.py)."""

    def __bool__(self) -> bool:
        return bool(self.starts or self.segments)


def plan(
    journal: FileJournal,
    now_ms: int,
    *,
    rules: Mapping[str, StreamRetention],
    sent: Mapping[TopicPartition, int] | None,
    free_bytes: int | None = None,
) -> RetentionPlan:
    """`sent`: per partition the offset up to which the uplink was acknowledged. Raises Unavailable."""
    while True:
        try:
            with journal.shelf.lock:
                return _Planner(journal, rules, sent).run(now_ms, free_bytes)
        except SegmentLost:
            continue


def carry_out(journal: FileJournal, agreed: RetentionPlan) -> None:
    """In the disk thread, after the losses were declared durably. Raises Unavailable; then plan again."""
    appender = journal.appender
    starts = {writer.partition: writer.start for writer in journal.writers()}
    for partition, start in agreed.starts.items():
        starts[partition] = max(start, starts.get(partition, 0))
    stream_bytes = dict(appender.state.stream_bytes)
    gone = set(agreed.segments)
    for sequence in list(journal.shelf.sequences):
        if sequence not in gone:
            break
        try:
            with journal.shelf.lock:  # a reader beside us uses the same cache of open segments
                stream_bytes |= journal.shelf.footer(sequence).stream_bytes
        except SegmentLost:
            continue
    absent = united([*appender.absent, *((sequence, sequence) for sequence in agreed.segments)])
    appender.store(
        State(
            log_id=appender.state.log_id,
            generation=appender.state.generation + 1,
            next_sequence=appender.next_sequence,
            next_commit=journal.durable_commit + 1,
            floor=appender.state.floor,
            partitions=[
                PartitionBounds(partition.topic, partition.partition, starts.get(partition, 0), end)
                for partition, end in list(appender.ends.items())
            ],
            stream_bytes=stream_bytes,
            accounted=_still_of_interest(appender.state.accounted, starts),
            reserved=[(*p, *reserved) for p, reserved in appender.reserved.items()],
            absent=absent,
        )
    )
    appender.absent = absent
    with journal.shelf.lock:
        for partition, start in agreed.starts.items():
            writer = journal.writer(partition)
            writer.start = max(writer.start, start)
        journal.shelf.ends_before = dict(starts)
        journal.shelf.bytes_before = stream_bytes
    appender.retire(agreed.segments)


def _still_of_interest(
    accounted: list[Accounted], starts: Mapping[TopicPartition, int]
) -> list[Accounted]:
    """Damage is kept in mind until retention has moved past every offset it may have cost."""
    return [
        known
        for known in accounted
        if not known.losses
        or any(last >= starts.get(TopicPartition(s, p), 0) for s, p, _, last in known.losses)
    ]


def _united(losses: list[Loss]) -> list[Loss]:
    """What a round gives up of one partition, segment by segment, told as one range."""
    united: dict[TopicPartition, list[Loss]] = {}
    for loss in losses:
        ranges = united.setdefault(loss.partition, [])
        if ranges and loss.first == ranges[-1].last + 1:
            ranges[-1] = loss._replace(first=ranges[-1].first)
        else:
            ranges.append(loss)
    return [loss for ranges in united.values() for loss in ranges]


class _Planner:
    def __init__(
        self,
        journal: FileJournal,
        rules: Mapping[str, StreamRetention],
        sent: Mapping[TopicPartition, int] | None,
    ) -> None:
        self._journal = journal
        self._shelf = journal.shelf
        self._rules = rules
        self._sent = sent
        self._old = {writer.partition: writer.start for writer in journal.writers()}
        self._ends = {writer.partition: writer.end for writer in journal.writers()}
        self._starts: dict[TopicPartition, int] = {}
        self._plan = RetentionPlan()

    def run(self, now_ms: int, free_bytes: int | None) -> RetentionPlan:
        for stream in sorted({partition.topic for partition in self._old}):
            rule = self._rules.get(stream, _DEFAULT)
            if rule.age_max is not None:
                self._by_age(stream, rule, now_ms - int(rule.age_max * 1000))
            if rule.bytes_max is not None:
                self._by_bytes(stream, rule, int(rule.bytes_max))
        self._dead_from_oldest()
        self._by_total(free_bytes)
        self._plan.starts = self._starts
        self._plan.losses = _united(self._plan.losses)
        return self._plan

    def _footer(self, index: int) -> Footer:
        return self._shelf.footer(self._shelf.sequences[index])

    def _last_where(self, expired: Callable[[Footer], bool]) -> Footer | None:
        """The newest sealed segment of the leading run for which `expired` holds, by binary search."""
        low, high = 0, len(self._shelf.sequences)
        while low < high:
            middle = (low + high) // 2
            if expired(self._footer(middle)):
                low = middle + 1
            else:
                high = middle
        return self._footer(low - 1) if low else None

    def _by_age(self, stream: str, rule: StreamRetention, cutoff_ms: int) -> None:
        footer = self._last_where(lambda footer: footer.totals.wall_ms < cutoff_ms)
        self._move(stream, rule, footer, f"older than {rule.age_max}")

    def _by_bytes(self, stream: str, rule: StreamRetention, bytes_max: int) -> None:
        written = self._journal.appender.stream_bytes.get(stream, 0)
        footer = self._last_where(
            lambda footer: written - footer.stream_bytes.get(stream, 0) >= bytes_max
        )
        self._move(stream, rule, footer, f"beyond {rule.bytes_max}")

    def _move(self, stream: str, rule: StreamRetention, footer: Footer | None, why: str) -> None:
        if footer is None:
            return
        for partition, end in footer.stream_ends(stream):
            target = end
            if self._sent is not None and rule.when_full is WhenFull.REFUSE:
                target = min(target, self._sent.get(partition, 0))
            thin = rule.when_full is WhenFull.THIN_OLDEST
            self._give_up(partition, target, why, declared=self._sent is not None or thin)

    def _start(self, partition: TopicPartition) -> int:
        return self._starts.get(partition, self._old.get(partition, 0))

    def _give_up(self, partition: TopicPartition, target: int, why: str, *, declared: bool) -> None:
        start = self._start(partition)
        target = min(target, self._ends.get(partition, 0))
        if target <= start:
            return
        self._starts[partition] = target
        unsent = max(start, self._sent.get(partition, 0) if self._sent is not None else 0)
        if declared and unsent < target:
            self._plan.losses.append(Loss(partition, unsent, target - 1, why))

    def _dead(self, footer: Footer) -> bool:
        needed = self._journal.notes_needed_from
        if footer.totals.notes and needed is not None and footer.totals.last_commit >= needed:
            return False
        return all(self._start(p) >= summary.end for p, summary in footer.present())

    def _dead_from_oldest(self) -> None:
        for index, sequence in enumerate(self._shelf.sequences):
            if not self._dead(self._footer(index)):
                return
            self._plan.segments.append(sequence)

    def _by_total(self, free_bytes: int | None) -> None:
        journal, settings = self._journal, self._journal.settings
        segment = int(settings.segment_bytes)
        limit = int(settings.bytes_max)
        if free_bytes is not None:
            # a disk that others fill lowers the limit, before a roll would fail for want of space
            limit = min(limit, journal.used_bytes + free_bytes)
        journal.bytes_limit = limit
        above = journal.used_bytes + settings.reserve_bytes - limit
        # more than needed, so that the next rolls find room while this is carried out
        wanted = -(-above // segment) + HEADROOM_SEGMENTS - len(self._plan.segments)
        chosen = set(self._plan.segments)
        # the lowest priority first; gap records are moved out of the way only when nothing else of it gives room
        levels = sorted({self._rule(partition).priority for partition in self._old})
        for level, carrying in product(levels, (False, True)):
            for index, sequence in enumerate(list(self._shelf.sequences)):
                if wanted <= 0:
                    break
                if sequence in chosen:
                    continue
                footer = self._footer(index)
                before = self._shelf.sequences[index - 1] if index else None
                if before is not None and before not in chosen and self._shelf.ends_by_next(before):
                    continue
                if self._droppable(footer, level, carrying=carrying):
                    if carrying:
                        self._carry()
                    for partition, summary in footer.present():
                        self._give_up(
                            partition, summary.end, f"journal above {limit} bytes", declared=True
                        )
                    chosen.add(sequence)
                    self._plan.segments.append(sequence)
                    wanted -= 1
        self._plan.segments.sort()
        journal.why_kept = "and nothing may be dropped"
        if wanted > 0 and (keepers := self._keepers(chosen)):
            named = ", ".join(keepers)
            journal.why_kept += (
                f": unsent records of {named} are in every segment, and may not be lost"
            )

    def _keepers(self, chosen: set[int]) -> list[str]:
        """Streams that say refuse and have unsent records in what must stay: whom to ask when the log is full."""
        keepers = {
            partition.topic
            for index, sequence in enumerate(self._shelf.sequences)
            if sequence not in chosen
            for partition, summary in self._footer(index).present()
            if self._rule(partition).when_full is WhenFull.REFUSE
            and partition.topic != GAPS_STREAM
            and not self._expendable(partition, summary.end, level=LEVEL_MAX)
        }
        return sorted(keepers)[:KEEPERS_TOLD_MAX]

    def _carry(self) -> None:
        """All unsent gap records at once, because few are left when all are united."""
        first, end = self._start(GAPS_PARTITION), self._ends.get(GAPS_PARTITION, 0)
        if self._sent is not None:
            first = max(first, self._sent.get(GAPS_PARTITION, 0))
        if first < end:
            self._plan.carry = (first, end)
            self._give_up(GAPS_PARTITION, end, "written again", declared=True)

    def _rule(self, partition: TopicPartition) -> StreamRetention:
        return self._rules.get(partition.topic, _DEFAULT)

    def _droppable(self, footer: Footer, level: int, *, carrying: bool) -> bool:
        needed = self._journal.notes_needed_from
        if footer.totals.notes and needed is not None and footer.totals.last_commit >= needed:
            return False
        return all(
            self._expendable(p, summary.end, level) or (carrying and p == GAPS_PARTITION)
            for p, summary in footer.present()
        )

    def _expendable(self, partition: TopicPartition, end: int, level: int) -> bool:
        if self._start(partition) >= end:
            return True
        if self._sent is not None and self._sent.get(partition, 0) >= end:
            return True
        if partition.topic == GAPS_STREAM:
            return False  # the account of losses is never lost, only written again
        rule = self._rule(partition)
        return rule.when_full is not WhenFull.REFUSE and rule.priority <= level

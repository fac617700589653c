"""What may be forgotten, in two phases, so that a loss is durable on paper before it happens.

  plan       which partitions start later, and which of the offsets given up were never sent (`losses`)
             … the caller appends a gap record for each loss and waits until they are durable …
  carry_out  the new starts become durable, then files go back to the pool. A crash before: nothing happened. After: done.
             (the committer's thread does its parts, `give_up`, `compact` and `settle`, with commits between)
Rules, in this order, each per stream (`StreamRetention`):
  age     segments whose newest commit is older than `age_max`, by the edge's clock
  bytes   the oldest segments of the stream beyond `bytes_max`
  total   while the journal is above its limit, or the disk is nearly full: first what was sent, then what streams of the
          lowest priority hold unsent, then those of the next. At each, the oldest segments that nothing else keeps; where
          there is none, what must stay of old segments is written as one (compaction.py), and the rest is given up
With an uplink (`sent` given) what was sent may always go. What was not goes only where the stream says `drop_oldest` or
`thin_oldest` (thinning.py); otherwise it stays, and when the journal is full new records are refused. Without an uplink
(`sent` None) age and bytes apply as they stand, as in any log, and only the total limit asks the stream's policy.
A segment's file is free when no partition in it starts before its end; age and bytes are counted in whole segments.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import inf

from ...gap import GAPS_PARTITION
from ...record import GAPS_STREAM, TopicPartition
from ...units import MIB
from .compaction import compact
from .frames import padded
from .holes import united
from .index import Footer, footer_bytes_max
from .journal import FileJournal
from .reservations import encode_reservations
from .runs import (
    WRITTEN_PER_GAINED_MAX,
    WRITTEN_PER_GAINED_MAX_LOSSLESS,
    Candidate,
    Costs,
    Run,
    choose,
    entries_max,
)
from .settings import BLOCK_BYTES, HEADROOM_SEGMENTS, StreamRetention, WhenFull
from .shelf import Loss, SegmentLost
from .state import Accounted, PartitionBounds, State

_DEFAULT = StreamRetention()
LEVEL_MAX = 9
# Below all priorities: only what was sent, or may go by a start that has moved already.
NOTHING_UNSENT = -1
# A round looks at each footer several times: those of a backlog of 4 GiB, with a hundred partitions or so.
FOOTERS_BYTES_MAX = 4 * MIB
# A line for a person: which stream to look at first.
KEEPERS_TOLD_MAX = 4


@dataclass(slots=True)
class RetentionPlan:
    """`starts`: only partitions that move. `segments`: files that no one needs once they have moved."""

    starts: dict[TopicPartition, int] = field(default_factory=dict)
    losses: list[Loss] = field(default_factory=list)
    segments: list[int] = field(default_factory=list)
    runs: list[Run] = field(default_factory=list)
    """Segments of which something must stay: to be written as one each (compaction.py)."""
    carry: tuple[int, int] | None = None
    """Unsent gap records, from and before, that go with their segments: first to be written again (carrying.py)."""

    def __bool__(self) -> bool:
        return bool(self.starts or self.segments or self.runs)


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
    give_up(journal, agreed)
    try:
        for run in agreed.runs:
            compact(journal, run)
    finally:
        settle(journal)


def settle(journal: FileJournal) -> None:
    """What compacted segments stand for is given back, if there is any. Raises Unavailable; then with what goes next."""
    if journal.appender.covered or journal.appender.emptied:
        give_up(journal, RetentionPlan())


def give_up(journal: FileJournal, agreed: RetentionPlan) -> None:
    """The starts, and the segments that go whole; of those that are to be compacted a crash will find the runs named."""
    appender = journal.appender
    retired = [*agreed.segments, *appender.make_covered_durable()]
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
    absent = united([*appender.absent, *((sequence, sequence) for sequence in retired)])
    smaller = {s: size for s, size in journal.shelf.compacted.items() if s not in gone}
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
            compacting=[(run.first, run.last) for run in agreed.runs],
            compacted=sorted(smaller.items()),
        )
    )
    appender.absent = absent
    with journal.shelf.lock:
        for partition, start in agreed.starts.items():
            writer = journal.writer(partition)
            writer.start = max(writer.start, start)
        journal.shelf.ends_before = dict(starts)
        journal.shelf.bytes_before = stream_bytes
    appender.retire(retired)


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
        self._wanted = 0  # bytes
        self._free: int | None = None
        self._why = ""
        self._footers: dict[int, Footer] = {}
        self._footers_bytes = 0

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
        sequence = self._shelf.sequences[index]
        found = self._footers.get(sequence)
        if found is None:
            found = self._shelf.footer(sequence)
            if self._footers_bytes + found.size <= FOOTERS_BYTES_MAX:
                self._footers_bytes += found.size
                self._footers[sequence] = found
        return found

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

    def _notes_needed(self, footer: Footer) -> bool:
        needed = self._journal.notes_needed_from
        return (
            bool(footer.totals.notes) and needed is not None and footer.totals.last_commit >= needed
        )

    def _dead(self, footer: Footer) -> bool:
        if self._notes_needed(footer):
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
        limit, self._free = int(settings.bytes_max), free_bytes
        if free_bytes is not None:
            # a disk that others fill lowers the limit, before a roll would fail for want of space
            limit = min(limit, journal.used_bytes + free_bytes)
        journal.bytes_limit = limit
        above = journal.used_bytes + settings.reserve_bytes - limit
        # more than needed, so that the next rolls find room while this is carried out
        self._wanted = above + HEADROOM_SEGMENTS * segment
        self._wanted -= sum(map(self._shelf.file_bytes, self._plan.segments))
        self._why = f"journal above {limit} bytes"
        chosen = set(self._plan.segments)
        # first what was sent, then the lowest priority; gap records are moved out of the way only when nothing else of it
        # gives room, and segments are rewritten only when none can go whole
        for level in (NOTHING_UNSENT, *sorted({self._rule(p).priority for p in self._old})):
            for work, carrying in product((self._whole, self._rewritten), (False, True)):
                if self._wanted > 0:
                    work(level, chosen, carrying=carrying)
        self._plan.segments.sort()
        journal.why_kept = "and nothing may be dropped"
        if self._wanted > 0 and (keepers := self._keepers(chosen)):
            named = ", ".join(keepers)
            journal.why_kept += (
                f": unsent records of {named} are in every segment, and may not be lost"
            )

    def _whole(self, level: int, chosen: set[int], *, carrying: bool) -> None:
        """The oldest segments that nothing keeps at this level."""
        for index, sequence in enumerate(list(self._shelf.sequences)):
            if self._wanted <= 0:
                break
            if sequence in chosen:
                continue
            footer = self._footer(index)
            before = self._shelf.sequences[index - 1] if index else None
            # one that is to be rewritten needs it until then
            if (
                before is not None
                and before not in self._plan.segments
                and self._shelf.ends_by_next(before)
            ):
                continue
            if self._droppable(footer, level, carrying=carrying):
                self._empty(footer, level, carrying=carrying)
                chosen.add(sequence)
                self._plan.segments.append(sequence)
                self._wanted -= self._shelf.file_bytes(sequence)

    def _rewritten(self, level: int, chosen: set[int], *, carrying: bool) -> None:
        """The oldest runs of which at this level enough may go."""
        costs, gone = self._costs(level), set(self._plan.segments)
        candidates = (
            # what is in a run of a cheaper level stands between its neighbours, what goes whole does not
            None if sequence in chosen else self._candidate(index, level, carrying=carrying)
            for index, sequence in enumerate(self._shelf.sequences[:-1])
            if sequence not in gone
        )
        for members in choose(candidates, wanted=self._wanted, costs=costs):
            if self._free is not None and costs.written(members) > self._free:
                return  # others have filled the disk: nothing is given up for what cannot be done
            self._wanted -= costs.gain(members)
            run = Run([each.sequence for each in members], costs.written(members))
            self._plan.runs.append(run)
            chosen.update(each.sequence for each in members)
            for each in members:
                self._empty(each.footer, level, carrying=carrying)

    def _empty(self, footer: Footer, level: int, *, carrying: bool) -> None:
        """Everything that may go of this segment goes."""
        present = list(footer.present())
        if carrying and any(
            p == GAPS_PARTITION and not self._expendable(p, s.end, level) for p, s in present
        ):
            self._carry()
        for partition, summary in present:
            if self._expendable(partition, summary.end, level):
                self._give_up(partition, summary.end, self._why, declared=True)

    def _candidate(self, index: int, level: int, *, carrying: bool) -> Candidate | None:
        """None where the segment has to stay as it is."""
        sequence, footer = self._shelf.sequences[index], self._footer(index)
        if self._must_stay(footer) or sequence in self._shelf.damaged:
            return None
        if sequence >= self._journal.end_position.segment:
            return None  # it tells with a place in the old file how far may be read: behind it the disk refused all since
        header = self._shelf.segment(sequence).header
        if header is None:
            return None
        kept = {
            partition: summary
            for partition, summary in footer.present()
            if not (self._expendable(partition, summary.end, level))
            and not (carrying and partition == GAPS_PARTITION)
        }
        return Candidate(
            sequence,
            self._shelf.file_bytes(sequence),
            sum(entries_max(p, summary, footer.totals.batches) for p, summary in kept.items()),
            {partition: summary.end for partition, summary in kept.items()},
            footer,
            header.created_ms,
            min(
                (1000 * age for p in kept if (age := self._rule(p).age_max) is not None),
                default=inf,
            ),
        )

    def _costs(self, level: int) -> Costs:
        names = sum(len(stream.encode()) for stream in {p.topic for p in self._ends})
        streams = len({partition.topic for partition in self._ends})
        reserved = self._journal.appender.reserved
        fixed = BLOCK_BYTES + footer_bytes_max(len(self._ends), streams, names)
        if reserved:
            fixed += padded(len(encode_reservations(reserved))) + BLOCK_BYTES
        share = WRITTEN_PER_GAINED_MAX
        if level == NOTHING_UNSENT:
            share = WRITTEN_PER_GAINED_MAX_LOSSLESS
        return Costs(int(self._journal.settings.segment_bytes), fixed, share)

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

    def _must_stay(self, footer: Footer) -> bool:
        """Notes of it are wanted, or a commit that a failing disk spread over segments is not durable as a whole: how far
        its records go is not told yet, so none of them can be declared."""
        unfinished = footer.totals.last_commit > self._journal.durable_commit
        return unfinished or self._notes_needed(footer)

    def _droppable(self, footer: Footer, level: int, *, carrying: bool) -> bool:
        if self._must_stay(footer):
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

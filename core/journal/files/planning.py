"""What may be forgotten, in two phases, so that a loss is durable on paper before it happens.

  plan       which partitions start later, and which of the offsets given up were never sent (`losses`)
             … the caller appends a gap record for each loss and waits until they are durable …
  carry_out  (retention.py)
Rules, in this order, each per stream (`StreamRetention`):
  age     segments whose newest commit is older than `age_max`, by the edge's clock; of those sealed since the start, by the
          clock that nobody sets as well: what came in minutes ago is young, wherever the time has jumped to since
  bytes   the oldest segments of the stream beyond `bytes_max`
  total   while the journal is above its limit, or the disk is nearly full: first what was sent, then what streams of the
          lowest priority hold unsent, then those of the next. At each, the oldest segments that nothing else keeps; where
          there is none, what must stay of old segments is written as one (compaction.py), and the rest is given up
With an uplink (`sent` given) what was sent may always go. What was not goes only where the stream says `drop_oldest` or
`thin_oldest` (thinning.py); otherwise it stays, and when the journal is full new records are refused. Without an uplink
(`sent` None) age and bytes apply as they stand, as in any log, and only the total limit asks the stream's policy.
A segment's file is free when no partition in it starts before its end; age and bytes are counted in whole segments.

Planning is done in the disk thread and under the readers' lock, once a second while the log is full and nothing can go: what
it asks of each segment it asks of digests in memory (digests.py), and of each partition once.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from itertools import product
from math import inf

from ...gap import GAPS_PARTITION
from ...record import GAPS_STREAM, TopicPartition
from .digests import Digest
from .frames import padded
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
)
from .settings import BLOCK_BYTES, HEADROOM_SEGMENTS, StreamRetention, WhenFull
from .shelf import Loss, SegmentLost

_DEFAULT = StreamRetention()
LEVEL_MAX = 9
# Below all priorities: only what was sent, or may go by a start that has moved already.
NOTHING_UNSENT = -1
# When a segment of an earlier life was sealed.
_EARLIER = -(2**63)
# Above all: what says refuse, and was not sent.
NEVER = LEVEL_MAX + 1
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
        self._standings: dict[int, tuple[int, int]] = {}
        self._needs: dict[int, int] = {}

    def run(self, now_ms: int, free_bytes: int | None) -> RetentionPlan:
        for stream in sorted({partition.topic for partition in self._old}):
            rule = self._rules.get(stream, _DEFAULT)
            if rule.age_max is not None:
                self._by_age(stream, rule, now_ms, int(rule.age_max * 1000))
            if rule.bytes_max is not None:
                self._by_bytes(stream, rule, int(rule.bytes_max))
        self._dead_from_oldest()
        self._by_total(free_bytes)
        self._plan.starts = self._starts
        self._plan.losses = _united(self._plan.losses)
        return self._plan

    def _footer(self, index: int) -> Footer:
        return self._shelf.footer(self._shelf.sequences[index])

    def _last_where(
        self, expired: Callable[[Footer], bool], high: int | None = None
    ) -> Footer | None:
        """The newest of the first `high` sealed segments of the leading run for which `expired` holds, by binary search."""
        low, high = 0, len(self._shelf.sequences) if high is None else high
        while low < high:
            middle = (low + high) // 2
            if expired(self._footer(middle)):
                low = middle + 1
            else:
                high = middle
        return self._footer(low - 1) if low else None

    def _by_age(self, stream: str, rule: StreamRetention, now_ms: int, age_ms: int) -> None:
        shelf = self._shelf
        # those of an earlier life, of which it tells nothing, come first
        old = bisect_left(
            shelf.sequences,
            shelf.boot_ms() - age_ms,
            key=lambda sequence: shelf.sealed_at.get(sequence, _EARLIER),
        )
        footer = self._last_where(lambda footer: footer.totals.wall_ms < now_ms - age_ms, old)
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

    def _notes_needed(self, digest: Digest) -> bool:
        needed = self._journal.notes_needed_from
        return digest.has_notes and needed is not None and digest.last_commit >= needed

    def _dead(self, digest: Digest) -> bool:
        if self._notes_needed(digest):
            return False
        return all(self._start(p) >= end for p, end in self._shelf.digests.present(digest))

    def _dead_from_oldest(self) -> None:
        for sequence in self._shelf.sequences:
            if not self._dead(self._shelf.digest(sequence)):
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
        rules = map(self._rule, self._old)
        levels = {rule.priority for rule in rules if rule.when_full is not WhenFull.REFUSE}
        for level in (NOTHING_UNSENT, *sorted(levels)):
            ways = (False,) if self._gaps_gone() else (False, True)
            for work, carrying in product((self._whole, self._rewritten), ways):
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
        gone = set(self._plan.segments)
        before: int | None = None
        for sequence in list(self._shelf.sequences):
            if self._wanted <= 0:
                break
            # one that is to be rewritten needs the next until then
            if (
                sequence not in chosen
                and self._droppable(sequence, level, carrying=carrying)
                and (before is None or before in gone or not self._shelf.ends_by_next(before))
            ):
                self._empty(sequence, level, carrying=carrying)
                chosen.add(sequence)
                gone.add(sequence)
                self._plan.segments.append(sequence)
                self._wanted -= self._shelf.file_bytes(sequence)
            before = sequence

    def _rewritten(self, level: int, chosen: set[int], *, carrying: bool) -> None:
        """The oldest runs of which at this level enough may go."""
        costs, gone = self._costs(level), set(self._plan.segments)
        candidates = (
            # what is in a run of a cheaper level stands between its neighbours, what goes whole does not
            None
            if sequence in chosen
            else self._candidate(sequence, level, costs=costs, carrying=carrying)
            for sequence in self._shelf.sequences[:-1]
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
                self._empty(each.sequence, level, carrying=carrying)

    def _empty(self, sequence: int, level: int, *, carrying: bool) -> None:
        """Everything that may go of this segment goes."""
        digest = self._shelf.digest(sequence)
        if carrying and digest.gaps is not None and not self._gaps_gone(digest.gaps.end):
            self._carry()
        for partition, end in self._shelf.digests.present(digest):
            if self._expendable(partition, end, level):
                self._give_up(partition, end, self._why, declared=True)

    def _candidate(
        self, sequence: int, level: int, *, costs: Costs, carrying: bool
    ) -> Candidate | None:
        """None where the segment has to stay as it is, or it is not worth to be another."""
        digest = self._shelf.digest(sequence)
        if self._must_stay(digest) or sequence in self._shelf.damaged:
            return None
        if sequence >= self._journal.end_position.segment:
            return None  # it tells with a place in the old file how far may be read: behind it the disk refused all since
        if digest.created_ms is None:
            return None
        ends: dict[TopicPartition, int] = {}
        kept = 0
        for row, end, entries in zip(digest.rows, digest.ends, digest.entries, strict=True):
            front, needed = self._standing(row)
            if end > front and needed > level:
                kept += entries
                ends[self._shelf.digests.partition(row)] = end
        gaps = digest.gaps
        if gaps is not None and not carrying and not self._gaps_gone(gaps.end):
            kept += gaps.entries
            ends[GAPS_PARTITION] = gaps.end
        file_bytes = self._shelf.file_bytes(sequence)
        if not costs.worthy(file_bytes, kept):
            return None
        ages = (age for p in ends if (age := self._rule(p).age_max) is not None)
        return Candidate(
            sequence,
            file_bytes,
            kept,
            ends,
            lambda partition: self._shelf.footer(sequence).end(partition),
            digest.created_ms,
            digest.wall_ms,
            min((1000 * age for age in ages), default=inf),
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
        keepers: set[str] = set()
        for sequence in self._shelf.sequences:
            if sequence in chosen or self._needed(sequence) < NEVER:
                continue
            digest = self._shelf.digest(sequence)
            for row, end in zip(digest.rows, digest.ends, strict=True):
                front, needed = self._standing(row)
                if end > front and needed == NEVER:
                    keepers.add(self._shelf.digests.partition(row).topic)
        keepers.discard(GAPS_STREAM)
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

    def _must_stay(self, digest: Digest) -> bool:
        """Notes of it are wanted, or a commit that a failing disk spread over segments is not durable as a whole: how far
        its records go is not told yet, so none of them can be declared."""
        unfinished = digest.last_commit > self._journal.durable_commit
        return unfinished or self._notes_needed(digest)

    def _droppable(self, sequence: int, level: int, *, carrying: bool) -> bool:
        if self._needed(sequence) > level:
            return False
        digest = self._shelf.digest(sequence)
        if self._must_stay(digest):
            return False
        return carrying or digest.gaps is None or self._gaps_gone(digest.gaps.end)

    # Levels are asked for once the rules of age and bytes have moved starts. What moves afterwards does so at a level, and
    # what ends before it was expendable at that level anyway; but for gap records, which are asked for anew.

    def _needed(self, sequence: int) -> int:
        """The level at which the whole segment may go, its gap records aside; NEVER."""
        needed = self._needs.get(sequence)
        if needed is None:
            digest = self._shelf.digest(sequence)
            needed = NOTHING_UNSENT
            for row, end in zip(digest.rows, digest.ends, strict=True):
                front, its = self._standing(row)
                if end > front and its > needed:
                    needed = its
            self._needs[sequence] = needed
        return needed

    def _standing(self, row: int) -> tuple[int, int]:
        """Of a partition: up to where it may go at any level, and the level at which the rest may."""
        found = self._standings.get(row)
        if found is None:
            partition = self._shelf.digests.partition(row)
            front = self._start(partition)
            if self._sent is not None:
                front = max(front, self._sent.get(partition, 0))
            rule = self._rule(partition)
            stays = partition.topic == GAPS_STREAM or rule.when_full is WhenFull.REFUSE
            found = self._standings[row] = front, NEVER if stays else rule.priority
        return found

    def _gaps_gone(self, end: int | None = None) -> bool:
        """Gap records before `end`, or all of them, may go at any level."""
        end = self._ends.get(GAPS_PARTITION, 0) if end is None else end
        return self._expendable(GAPS_PARTITION, end, NOTHING_UNSENT)

    def _expendable(self, partition: TopicPartition, end: int, level: int) -> bool:
        if self._start(partition) >= end:
            return True
        if self._sent is not None and self._sent.get(partition, 0) >= end:
            return True
        if partition.topic == GAPS_STREAM:
            return False  # the account of losses is never lost, only written again
        rule = self._rule(partition)
        return rule.when_full is not WhenFull.REFUSE and rule.priority <= level

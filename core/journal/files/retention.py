"""What was planned to be forgotten (planning.py) is: the new starts become durable, then files go back to the pool.

A crash before: nothing happened. After: done. The committer's thread does the parts, `give_up`, `compact` and `settle`, with
commits between.
"""

from __future__ import annotations

from collections.abc import Mapping

from ...record import TopicPartition
from .compaction import compact
from .holes import united
from .journal import FileJournal
from .planning import RetentionPlan
from .shelf import SegmentLost
from .state import Accounted, PartitionBounds, State


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
    retired += _passed(journal, retired)
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
        ),
        gives_room=bool(retired),
    )
    appender.absent = absent
    with journal.shelf.lock:
        for partition, start in agreed.starts.items():
            writer = journal.writer(partition)
            writer.start = max(writer.start, start)
        journal.shelf.ends_before = dict(starts)
        journal.shelf.bytes_before = stream_bytes
    appender.retire(retired)
    journal.shelf.unread.difference_update(retired)


def _passed(journal: FileJournal, retired: list[int]) -> list[int]:
    """Files that could not be read and were left in their places, older than all that stays: their time has come, too."""
    shelf = journal.shelf
    with shelf.lock:
        staying = [s for s in shelf.sequences if s not in retired]
        active = [shelf.active.sequence] if shelf.active is not None else []
        oldest = min([*staying, *active], default=0)
        return sorted(s for s in shelf.unread if s < oldest)


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

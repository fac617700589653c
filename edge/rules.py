"""What the streams' settings mean to the journal: durability classes, retention, and the reason of a loss."""

from __future__ import annotations

from collections.abc import Mapping

from ..core.gap import GapReason
from ..core.journal.files.early import EarlyRule
from ..core.journal.files.settings import StreamRetention
from ..core.journal.files.settings import WhenFull as JournalWhenFull
from ..core.journal.files.shelf import Loss
from ..core.record import THINNED_SUFFIX, TIME_STREAM
from .streams import Durability, Stream, StreamTable, WhenFull
from .visits import CONNECTIONS_STREAM

_WHEN_FULL = {
    WhenFull.REFUSE: JournalWhenFull.REFUSE,
    WhenFull.DROP_OLDEST: JournalWhenFull.DROP_OLDEST,
    WhenFull.THIN_OLDEST: JournalWhenFull.THIN_OLDEST,
}


def early_rules(table: StreamTable) -> dict[str, EarlyRule]:
    """The streams that do not wait for the disk."""
    return {
        stream.name: EarlyRule(
            float(stream.settings.interval),
            int(stream.settings.memory_bytes) // stream.partitions
            if stream.settings.durability is Durability.MEMORY
            else None,
        )
        for stream in table.streams.values()
        if stream.settings.durability is not Durability.SYNC
    }


def retention_rules(table: StreamTable) -> dict[str, StreamRetention]:
    """By stream. Our own records give way, before those of all others: they must not keep a log full."""
    own = StreamRetention(when_full=JournalWhenFull.DROP_OLDEST, priority=0)
    rules = {TIME_STREAM: own, CONNECTIONS_STREAM: own}
    for stream in table.streams.values():
        rules[stream.name] = _rule(stream)
        if stream.settings.when_full is WhenFull.THIN_OLDEST:
            # summaries that must go are thinned again
            rules[stream.name + THINNED_SUFFIX] = StreamRetention(
                when_full=JournalWhenFull.THIN_OLDEST,
                thin_interval=stream.settings.thin_interval,
                priority=stream.settings.priority,
            )
    return rules


def _rule(stream: Stream) -> StreamRetention:
    settings = stream.settings
    return StreamRetention(
        bytes_max=settings.retention.bytes,
        age_max=settings.retention.age,
        when_full=_WHEN_FULL[settings.when_full],
        thin_interval=settings.thin_interval,
        priority=settings.priority,
    )


def gap_reason(rules: Mapping[str, StreamRetention], loss: Loss) -> GapReason:
    """Of a loss that retention decided."""
    rule = rules.get(loss.partition.topic)
    thin = rule is not None and rule.when_full is JournalWhenFull.THIN_OLDEST
    return GapReason.THINNED if thin else GapReason.RETENTION

"""What the streams' settings mean to the journal, in its own words."""

from __future__ import annotations

from ..core.journal.files.early import EarlyRule
from ..core.journal.files.settings import StreamRetention
from ..core.journal.files.settings import WhenFull as JournalWhenFull
from ..core.record import TIME_STREAM
from .streams import Durability, StreamTable, WhenFull
from .visits import CONNECTIONS_STREAM


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
    """The streams' settings in the journal's words. Our own records give way: they must not keep a log full."""
    giving_way = StreamRetention(when_full=JournalWhenFull.DROP_OLDEST)
    return {TIME_STREAM: giving_way, CONNECTIONS_STREAM: giving_way} | {
        stream.name: StreamRetention(
            bytes_max=stream.settings.retention.bytes,
            age_max=stream.settings.retention.age,
            when_full=(
                JournalWhenFull.DROP_OLDEST
                if stream.settings.when_full is WhenFull.DROP_OLDEST
                else JournalWhenFull.REFUSE
            ),
        )
        for stream in table.streams.values()
    }

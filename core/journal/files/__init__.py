"""The edge's journal in files: see FORMAT.md for the bytes, journal.py for the watermarks.

journal = FileJournal.open(directory, disk=SystemDisk(), clock=clock, settings=FileJournalSettings(), rng=rng)
committer = Committer(journal, clock=clock, rng=rng); committer.start()
writer = journal.writer(TopicPartition("readings", 0))
offset = writer.append(timestamp, key, value); commit = journal.open_commit; committer.request()
committer.add_listener(acknowledge_up_to)            # called with durable commit numbers
await journal.read(partition, offset, bytes_max=…); await journal.read_arrivals(position, bytes_max=…)
await committer.enforce_retention(now_ms, rules=…, sent=uplink.progress, declare=append_gap_records)
journal.recovery.losses, journal.take_losses()       # damage: to be declared as gap records
await committer.close(); journal.close()
"""

from ..reading import Arrival, Bounds, Position
from .committer import Committer
from .frames import Note
from .journal import FileJournal
from .planning import RetentionPlan
from .recovery import RecoveryReport
from .settings import FileJournalSettings, StreamRetention, WhenFull
from .shelf import Loss
from .writing import Commit, PartitionWriter

__all__ = [
    "Arrival",
    "Bounds",
    "Commit",
    "Committer",
    "FileJournal",
    "FileJournalSettings",
    "Loss",
    "Note",
    "PartitionWriter",
    "Position",
    "RecoveryReport",
    "RetentionPlan",
    "StreamRetention",
    "WhenFull",
]

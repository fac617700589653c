"""What may be set about the file journal, with the reason for each default."""

from __future__ import annotations

import enum

import msgspec

from ...errors import Misconfigured
from ...units import KIB, MIB, ByteSize, Duration

BLOCK_BYTES = 4096
# Segments that retention keeps free beyond the reserve, where it may: a fast publisher fills one while room is made.
HEADROOM_SEGMENTS = 2
# Clients give up on an acknowledgement within some tens of seconds.
COMMIT_INTERVAL_MAX_S = 60.0


class WhenFull(enum.StrEnum):
    REFUSE = "refuse"
    DROP_OLDEST = "drop_oldest"
    THIN_OLDEST = "thin_oldest"


class StreamRetention(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How long one stream's records are kept at the edge."""

    bytes_max: ByteSize | None = None
    """Keep at most about this much (counted in whole segments). None: only the journal's own limit."""
    age_max: Duration | None = None
    """Drop what arrived longer ago than this, by the edge's clock. None: no limit by age."""
    when_full: WhenFull = WhenFull.REFUSE
    """At a limit, with records that were not sent yet: refuse new ones (the default, because losing data is the
    user's choice to make) or drop the oldest, leaving a gap record that reaches the lake; thinned, they leave summaries
    too (thinning.py)."""
    thin_interval: Duration = Duration(60)
    """What one summary stands for, at least: a minute is what dashboards of months show."""
    priority: int = 4
    """Where the journal's own limit asks for room, streams of lower priority give way first."""


class FileJournalSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """[edge.journal]"""

    bytes_max: ByteSize = ByteSize(4096 * MIB)
    """All segments and spares together. 4 GiB holds a week of a hundred 100-byte readings a second, and fits
    beside the system on the smallest card still sold (16 GB)."""
    segment_bytes: ByteSize = ByteSize(4 * MIB)
    """About an erase block of an SD card; small enough to scan at start, large enough that rolling costs nothing."""
    spares: int = 3
    """Segments kept ready, so that a roll neither waits for 4 MiB of writing nor needs free space. Three: one for the next
    roll, one for the gap records that must be written on a full disk, and a place for what retention gives back; that one
    is never made of zeros, so that a log that has been filled once writes each byte to the card once."""
    recycle: str = "auto"
    """auto | always | never. auto overwrites recycled segments except on copy-on-write file systems (btrfs, zfs,
    bcachefs), where overwriting in place saves nothing and plain append is used."""
    record_bytes_max: ByteSize = ByteSize(MIB)
    """Largest key + value + headers of one record: Kafka's default message.max.bytes, so that every record accepted
    here can be sent up."""
    commit_bytes_max: ByteSize = ByteSize(MIB)
    """Largest frame written and synced in one piece; a commit above it is several frames. Memory is held twice
    while a frame is written."""
    pending_bytes_max: ByteSize = ByteSize(16 * MIB)
    """Appended but not durable yet. Above it `overfull` is true and the broker stops reading its sockets: four
    segments, a second of the fastest card, which bridges an ordinary SD pause (up to 2 s) at sensor rates."""
    commit_interval: Duration = Duration(0)
    """Floor between two syncs. Zero acknowledges as fast as the disk syncs; 1s at ten readings a second writes a
    fifth of the bytes to flash, and makes each acknowledgement wait up to 1 s."""
    stall_pause: Duration = Duration(0.5)
    """First pause before a refused write is tried again; grows to 2 s with jitter."""
    index_cache: int = 32
    """Segment footers held in memory for reading the backlog; each is about 12 bytes per partition."""
    map_cache: int = 3
    """Segments whose batches are mapped in memory for reading; each is about 20 bytes per batch."""
    quarantine_max: int = 8
    """Damaged files kept aside for a person to look at; the oldest is deleted beyond this, so damage cannot fill
    the disk."""

    @property
    def spares_prepared(self) -> int:
        """So many are made while the disk is idle. Were all, each roll would fill another file with zeros just before
        retention gives one back that then has no place."""
        return max(1, self.spares - 1)

    def __post_init__(self) -> None:
        segment = int(self.segment_bytes)
        if segment % BLOCK_BYTES or not 16 * BLOCK_BYTES <= segment <= 1024 * MIB:
            raise Misconfigured(
                f"journal.segment_bytes {self.segment_bytes} must be a multiple of 4KiB from 64KiB to 1GiB"
            )
        if max(self.record_bytes_max, self.commit_bytes_max) > segment // 2:
            raise Misconfigured(
                f"journal.record_bytes_max {self.record_bytes_max} and commit_bytes_max {self.commit_bytes_max} "
                f"must not exceed half of segment_bytes {self.segment_bytes}"
            )
        if self.bytes_max < segment * (self.spares + 6):
            raise Misconfigured(
                f"journal.bytes_max {self.bytes_max} must hold at least {self.spares + 6} segments "
                f"of {self.segment_bytes}: the open one, {self.spares} spares and room to retire"
            )
        if self.recycle not in {"auto", "always", "never"}:
            raise Misconfigured(f"journal.recycle {self.recycle!r} must be auto, always or never")
        if self.spares < 1 or self.index_cache < 2 or self.map_cache < 1 or self.quarantine_max < 1:
            raise Misconfigured(
                "journal.spares, map_cache and quarantine_max must be 1 or more, index_cache 2"
            )
        if not 0 <= self.commit_interval <= COMMIT_INTERVAL_MAX_S or self.stall_pause <= 0:
            raise Misconfigured(
                "journal.commit_interval must be 0s to 1m, as long as clients wait; stall_pause above 0s"
            )
        if min(self.pending_bytes_max, self.record_bytes_max, self.commit_bytes_max) < KIB:
            raise Misconfigured(
                "journal.pending_bytes_max, record_bytes_max, commit_bytes_max: 1KiB or more"
            )

    @property
    def reserve_bytes(self) -> int:
        """Kept free of ordinary records, so that gap records and what is already pending always find room."""
        return int(self.segment_bytes) * 4

"""What the disk thread counts."""

from __future__ import annotations


class Counters:
    """Plain numbers for the metrics; written by the disk thread, read by anyone."""

    def __init__(self) -> None:
        self.commits = 0
        self.frames = 0
        self.syncs = 0
        self.records = 0
        self.bytes_written = 0
        self.padding_bytes = 0
        self.payload_bytes = 0
        self.sync_seconds = 0.0
        self.last_sync_s = 0.0
        self.segments_sealed = 0
        self.segments_recycled = 0
        self.segments_abandoned = 0
        self.segments_compacted = 0
        self.compacted_bytes = 0
        self.write_failures = 0

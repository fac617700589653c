"""What may be tuned about a shard's journal, and why each default is what it is."""

from __future__ import annotations

import msgspec

from ...units import KIB, MIB, ByteSize, Duration


class ObjectJournalSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    flush_interval: Duration | None = None
    """How long the first entry waits for company. None: 250ms on S3 ($52 a month if always busy), 5ms on a directory."""
    flush_bytes: ByteSize = ByteSize(8 * MIB)
    """An object this large is written at once: beyond it S3's PUT latency grows with size."""
    pending_bytes_max: ByteSize = ByteSize(64 * MIB)
    """Submissions held in memory, several objects' worth; above it `submit` raises Unavailable."""
    attempt_timeout: Duration = Duration(30.0)
    """One PUT or GET may take this long before it counts as unanswered and is repeated."""
    retry_first: Duration = Duration(0.05)
    """First pause of the full-jitter back-off between attempts at one slot."""
    retry_cap: Duration = Duration(5.0)
    """Longest pause: an acknowledgement should not wait much longer than the outage."""
    checkpoint_objects: int = 1000
    """A checkpoint after so many objects: replay then takes a few seconds on S3 with 16 GETs at a time."""
    checkpoint_interval: Duration = Duration(300.0)
    """… or after so long, when something was written since: bounds what a slow shard replays."""
    replay_parallel: int = 16
    """GETs in flight during replay."""
    boundary_check_interval: Duration = Duration(30.0)
    """A commit that finds its last look at the boundary older than this looks again before it acknowledges."""
    cache_bytes: ByteSize = ByteSize(64 * MIB)
    """Objects and ranges held for readers: at 8 MiB/s the last eight seconds, which is where tailing consumers read."""
    read_whole_bytes: ByteSize = ByteSize(512 * KIB)
    """An object no larger than this is fetched whole, so that readers of its other partitions share the GET."""
    read_parallel: int = 8
    """GETs in flight for all readers of a shard together."""
    read_runs_max: int = 512
    """Runs gathered by one `read`, however small they are."""

    def __post_init__(self) -> None:
        if self.pending_bytes_max < self.flush_bytes:
            raise ValueError("pending_bytes_max must hold at least one object of flush_bytes")
        if self.retry_cap < self.retry_first:
            raise ValueError("retry_cap must not be below retry_first")
        if min(self.checkpoint_objects, self.replay_parallel, self.read_parallel) < 1:
            raise ValueError("checkpoint_objects, replay_parallel and read_parallel begin at 1")

"""What the broker keeps across restarts, at the rim: restored before anybody may connect, written while it serves.

Order of an end: the committer has made everything durable, then the last checkpoint is written, then the log is closed.
"""

from __future__ import annotations

import asyncio
import contextlib

import structlog

from ..core.disk import Disk
from ..core.journal.files.committer import Committer
from ..core.journal.files.journal import FileJournal
from ..core.journal.files.noted import commit_before_segments, segments_since
from .broker.broker import Broker
from .broker.checkpoints import CHECKPOINTS_A_LOG, PINNED_MAX, Checkpoints
from .broker.restoring import Restored, restore
from .state import SqliteState

_log = structlog.get_logger("edge.state")

# Without commits it is looked so often whether a checkpoint is due; and so long after one failed.
LOOK_S = 1.0
# Where the checkpoint is lost, notes are looked for at least this far back, and no less than could have been pinned for it.
SEGMENTS_WITHOUT_CHECKPOINT = 16


class Keeping:
    """Made before the broker, so that it closes after it; `restore` brings the two together."""

    def __init__(
        self, journal: FileJournal, committer: Committer, disk: Disk, data_dir: str
    ) -> None:
        self._journal = journal
        self._committer = committer
        self._due = asyncio.Event()
        committer.add_listener(self._look)
        self._store = SqliteState(disk, f"{data_dir}/state")
        self.checkpoints: Checkpoints | None = None
        self.restored = Restored()
        self.restore_s = 0.0

    def restore(self, broker: Broker) -> None:
        """Reads everything. Raises nothing that a damaged file could cause; what is lost is logged."""
        started = broker.clock.monotonic()
        journal, store = self._journal, self._store
        # before the first checkpoint every note there ever was is pinned
        far_enough = (
            0 if store.is_blank else commit_before_segments(journal.shelf, self._pinned(broker))
        )
        found = self.restored = restore(broker, journal, store, far_enough=far_enough)
        pinned = segments_since(journal.shelf, found.covers) * int(journal.settings.segment_bytes)
        self.checkpoints = Checkpoints(
            *(broker, journal, self._committer, store), covers=found.covers, pinned_bytes=pinned
        )
        self.restore_s = broker.clock.monotonic() - started
        for loss in found.losses:
            _log.error("state lost", what=loss)
        if found.sessions or found.retained or found.notes:
            _log.info(
                "state restored",
                sessions=found.sessions,
                retained=found.retained,
                notes=found.notes,
                seconds=round(self.restore_s, 3),
            )

    def _pinned(self, broker: Broker) -> int:
        """In segments, the most that may be kept for a checkpoint."""
        journal = self._journal
        worth = min(int(broker.settings.checkpoint_bytes), journal.bytes_limit // CHECKPOINTS_A_LOG)
        most = PINNED_MAX * worth // int(journal.settings.segment_bytes)
        return max(SEGMENTS_WITHOUT_CHECKPOINT, most + 1)

    def _look(self, _commit: int) -> None:
        """At each commit: a small log is full of what a checkpoint would let go long before a second has passed."""
        if self.checkpoints is not None and self.checkpoints.due:
            self._due.set()

    async def run(self) -> None:
        while self.checkpoints is not None:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(LOOK_S):
                    await self._due.wait()
            if self.checkpoints.due and not await self.checkpoints.round():
                await asyncio.sleep(LOOK_S)
            self._due.clear()

    async def close(self) -> None:
        if self.checkpoints is not None:
            await self.checkpoints.close()

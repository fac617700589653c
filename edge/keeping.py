"""What the broker keeps across restarts, at the rim: restored before anybody may connect, written while it serves.

Order of an end: the committer has made everything durable, then the last checkpoint is written, then the log is closed.
"""

from __future__ import annotations

import asyncio

import structlog

from ..core.disk import Disk
from ..core.journal.files.committer import Committer
from ..core.journal.files.journal import FileJournal
from ..core.journal.files.noted import commit_before_segments
from .broker.broker import Broker
from .broker.checkpoints import Checkpoints
from .broker.restoring import Restored, restore
from .state import SqliteState

_log = structlog.get_logger("edge.state")

# How often it is looked whether a checkpoint is due: a fast card writes 16 MiB of log in a second.
LOOK_S = 1.0
# Without a checkpoint notes are looked for this far back: no less than could have been pinned for one.
SEGMENTS_WITHOUT_CHECKPOINT = 16


class Keeping:
    """Made before the broker, so that it closes after it; `restore` brings the two together."""

    def __init__(
        self, journal: FileJournal, committer: Committer, disk: Disk, data_dir: str
    ) -> None:
        self._journal = journal
        self._committer = committer
        self._store = SqliteState(disk, f"{data_dir}/state")
        self.checkpoints: Checkpoints | None = None
        self.restored = Restored()
        self.restore_s = 0.0

    def restore(self, broker: Broker) -> None:
        """Reads everything. Raises nothing that a damaged file could cause; what is lost is logged."""
        started = broker.clock.monotonic()
        journal, store = self._journal, self._store
        far_enough = commit_before_segments(journal.shelf, SEGMENTS_WITHOUT_CHECKPOINT)
        found = self.restored = restore(broker, journal, store, far_enough=far_enough)
        self.checkpoints = Checkpoints(broker, journal, self._committer, store, covers=found.covers)
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

    async def run(self) -> None:
        while self.checkpoints is not None:
            await asyncio.sleep(LOOK_S)
            if self.checkpoints.due:
                await self.checkpoints.round()

    async def close(self) -> None:
        if self.checkpoints is not None:
            await self.checkpoints.close()

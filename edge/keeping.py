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
    def __init__(
        self,
        broker: Broker,
        journal: FileJournal,
        committer: Committer,
        disk: Disk,
        data_dir: str,
    ) -> None:
        """Reads everything. Raises nothing that a damaged file could cause; what is lost is logged."""
        started = broker.clock.monotonic()
        store = SqliteState(disk, f"{data_dir}/state")
        self.restored: Restored = restore(
            broker,
            journal,
            store,
            far_enough=commit_before_segments(journal.shelf, SEGMENTS_WITHOUT_CHECKPOINT),
        )
        self.checkpoints = Checkpoints(
            broker, journal, committer, store, covers=self.restored.covers
        )
        self.restore_s = broker.clock.monotonic() - started
        for loss in self.restored.losses:
            _log.error("state lost", what=loss)
        if self.restored.sessions or self.restored.retained or self.restored.notes:
            _log.info(
                "state restored",
                sessions=self.restored.sessions,
                retained=self.restored.retained,
                notes=self.restored.notes,
                seconds=round(self.restore_s, 3),
            )

    async def run(self) -> None:
        while True:
            await asyncio.sleep(LOOK_S)
            if self.checkpoints.due:
                await self.checkpoints.round()

    async def close(self) -> None:
        await self.checkpoints.close()

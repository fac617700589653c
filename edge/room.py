"""Room in the log, looked after ahead of the writer: wakes retention when the next segments would use the last of it.

A round every second would be too late: a fast publisher fills several segments in one, and then is refused although
its stream may drop, or was sent long ago. So each commit that opened a segment while the log is crowded asks for a
round at once; one that opened none does not, since it took nothing of the room.
"""

from __future__ import annotations

import asyncio
import contextlib

from ..core.journal.files.committer import Committer
from ..core.journal.files.journal import FileJournal


class Room:
    def __init__(self, journal: FileJournal, committer: Committer) -> None:
        self._journal = journal
        self._short = asyncio.Event()
        self._used = journal.used_bytes
        committer.add_listener(self._look)

    def _look(self, _commit: int) -> None:
        used = self._journal.used_bytes
        if used != self._used:
            self._used = used
            if self._journal.crowded:
                self._short.set()

    async def short(self, timeout_s: float) -> bool:
        """Wait until room is short; False where it was not for so long."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout_s):
                await self._short.wait()
        was_short = self._short.is_set()
        self._short.clear()
        return was_short

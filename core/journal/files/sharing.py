"""A disk that others fill: how much of it is told to retention as free.

As long as what we give back stays free, that is what the disk has: a log gives up its oldest for everybody's sake, that of
its own state and of SQLite's among them. But whoever filled the disk is often still writing (a log without limit), and
takes each block as it comes free: then a backlog would be given up for nothing, to the last segment. So what was given is
looked for again. Where others took it, no more goes than there is a place for as a spare: rolls live of those, and need
nothing of the disk. Every `AGAIN_S` it is tried once more.
"""

from __future__ import annotations

from .journal import FileJournal
from .settings import HEADROOM_SEGMENTS

AGAIN_S = 600.0


class DiskShare:
    def __init__(self, journal: FileJournal) -> None:
        self._journal = journal
        self._before: tuple[int, int] | None = (
            None  # what we held and what was free, at the last look
        )
        self._is_taken_until: float | None = None

    def room(self, free_bytes: int, now: float) -> int:
        """`free_bytes` as retention is to believe it; `now` is monotonic, in seconds. Once before each round."""
        journal = self._journal
        segment = int(journal.settings.segment_bytes)
        spares = len(journal.appender.spares)
        held = (len(journal.shelf.sequences) + 1 + spares) * segment - journal.shelf.spared_bytes
        before, self._before = self._before, (held, free_bytes)
        enough = journal.settings.reserve_bytes + HEADROOM_SEGMENTS * segment
        if free_bytes >= enough or not journal.appender.recycling:
            self._is_taken_until = None
            return free_bytes
        given = 0 if before is None else before[0] - held
        if before is not None and given > 0 and free_bytes < before[1] + given // 2:
            self._is_taken_until = now + AGAIN_S
        if self._is_taken_until is None or now >= self._is_taken_until:
            return free_bytes
        places = journal.settings.spares + HEADROOM_SEGMENTS - spares
        return max(free_bytes + spares * segment, enough - places * segment)

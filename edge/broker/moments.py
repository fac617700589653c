"""Moments that survive a restart: how long ago something was, told by whichever clock both ends may believe.

Within one boot the boot clock is exact, whatever happened to the process and to the wall clock. Across boots only
wall clocks that something has *set* are believed, at both ends; otherwise no time has passed as far as we know. So a
board without a clock expires nothing at boot, however wrong its date; the time it was off does not count, and what
must end ends later than it might. Ending late costs bounded memory, ending early costs somebody their messages.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from ...core.belief import Stamp, Trust
from ...core.clock import Clock
from ...core.record import StoredRecord


class Moment(msgspec.Struct, frozen=True, array_like=True):
    """`boot`: which boot of this machine; times in milliseconds. `trusted`: something had set the wall clock."""

    boot: str
    boot_ms: int
    wall_ms: int
    trusted: bool


class Moments:
    """Makes them, and tells what lies between then and now."""

    __slots__ = ("_boot", "_clock", "_trusted")

    def __init__(self, clock: Clock, *, boot: str, trusted: Callable[[], bool]) -> None:
        self._clock = clock
        self._boot = boot
        self._trusted = trusted

    @property
    def trusted(self) -> bool:
        """Something has set the wall clock."""
        return self._trusted()

    def now(self) -> Moment:
        clock = self._clock
        return Moment(self._boot, clock.boot_ms(), clock.wall_ms(), self._trusted())

    def elapsed_s(self, since: Moment) -> float:
        """Seconds since then that are certain; never negative."""
        now = self.now()
        if since.boot == now.boot and since.boot:
            return max(0, now.boot_ms - since.boot_ms) / 1000
        if since.trusted and now.trusted:
            return max(0, now.wall_ms - since.wall_ms) / 1000
        return 0.0

    def age_ms(self, timestamp: int, stamp: Stamp) -> int:
        """The same for a record, whose batch says which clock stamped it: a clock that is set while messages wait makes
        none of them older. A record of an earlier boot is at least as old as this one."""
        clock, mark = self._clock, stamp.mark()
        if mark is not None and mark.boot == self._boot:
            return max(0, clock.boot_ms() - (timestamp - mark.offset_ms))
        if self._trusted() and (mark is None or mark.trust is Trust.SYNCHRONISED):
            return max(0, clock.wall_ms() - timestamp)
        return 0 if mark is None else max(0, clock.boot_ms())

    def redated(self, record: StoredRecord, stamp: Stamp) -> StoredRecord:
        """With the timestamp that the present clock would have given it."""
        return record._replace(
            timestamp=self._clock.wall_ms() - self.age_ms(record.timestamp, stamp)
        )

"""The daybook: bytes that went over the wire today, by link class, and what of that must survive a restart.

Sans-I/O. What is written down is not what was spent but what *may have been* by the time of the next entry (a slice ahead),
so after a power cut the day goes on with at most a slice too many, never with too few. An entry is made only when the
slice is used up: two hundred small writes a day at most, however busy the link; none for a link without a budget. An
orderly stop writes the exact sums.

Which day it is. With a trusted clock the calendar says it. Without one a day is 24 hours of running, and a restart does not
begin another. A day that becomes known is taken to be the one under way: unknown time never makes money.
"""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from ...core.errors import Refused
from .limits import LinkClass
from .windows import DAY_S

# Of a budget, between two entries.
_SLICE = 0.01
_SLICE_BYTES_MIN = 16_384
UNKNOWN_DAY = -1


class Entry(msgspec.Struct, frozen=True):
    """As it stands in the file. `day`: since the epoch in the settings' zone, -1 unknown; `ran_s`: seconds of it lived."""

    day: int = UNKNOWN_DAY
    ran_s: float = 0.0
    spent: dict[str, int] = {}


class Daybook:
    def __init__(self, limits: Mapping[LinkClass, int], entry: Entry | None = None) -> None:
        entry = entry or Entry()
        self.day = entry.day
        self._limits = dict(limits)
        self._slices = {
            link: max(_SLICE_BYTES_MIN, int(limit * _SLICE)) if limit else 0
            for link, limit in limits.items()
        }
        self._spent = {link: entry.spent.get(link.value, 0) for link in limits}
        self._written = dict(self._spent)
        self._ran_s = entry.ran_s
        self._at: float | None = None

    @classmethod
    def read(cls, limits: Mapping[LinkClass, int], data: bytes) -> Daybook:
        """Raises Refused for bytes that are no entry."""
        try:
            return cls(limits, msgspec.json.decode(data, type=Entry))
        except msgspec.MsgspecError as error:
            raise Refused(f"the daybook cannot be read: {error}") from error

    def spent(self, link: LinkClass) -> int:
        return self._spent[link]

    def spend(self, link: LinkClass, size: int) -> None:
        self._spent[link] = max(0, self._spent[link] + size)

    def turn(self, day: int | None, now: float) -> bool:
        """`day`: None while nobody knows it; `now`: monotonic seconds. True where a new day began."""
        self._ran_s += 0.0 if self._at is None else max(0.0, now - self._at)
        self._at = now
        is_known = self.day != UNKNOWN_DAY
        is_new = self._ran_s >= DAY_S if day is None else is_known and day > self.day
        if day is not None:
            self.day = day
        elif is_new:
            self.day = UNKNOWN_DAY
        if is_new:
            self._ran_s = 0.0
            self._spent = dict.fromkeys(self._spent, 0)
            self._written = dict.fromkeys(self._spent, -1)  # the file still says yesterday
        return is_new

    @property
    def is_due(self) -> bool:
        """The next entry should be made: half of the slice is used up."""
        return any(
            spent + self._slices[link] // 2 > self._written[link]
            for link, spent in self._spent.items()
            if spent and self._limits[link]
        )

    @property
    def left_of_unknown_day_s(self) -> float:
        return max(0.0, DAY_S - self._ran_s)

    def encode(self, *, exact: bool = False) -> bytes:
        """The next entry. The caller writes it at once."""
        ahead = dict.fromkeys(self._slices, 0) if exact else self._slices
        self._written = {
            link: spent + ahead[link] if spent else 0 for link, spent in self._spent.items()
        }
        entry = Entry(
            self.day, self._ran_s, {link.value: size for link, size in self._written.items()}
        )
        return msgspec.json.encode(entry)

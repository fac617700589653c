"""The bookkeeper: kernel counters into the shaper, the daybook to disk, the interface that carries the link.

Rim. Once a second the meter is read; the daybook is written when its slice is used up, in a thread, and exactly at the end.
A disk that refuses costs nothing but the day's count after a restart, and is said once.
"""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable

import structlog

from ...core.clock import Clock
from ...core.disk import Disk, read_whole, replace_whole
from ...core.errors import HeadwaterError, Missing
from .cluster import Connection
from .daybook import Daybook
from .limits import LinkClass, ShapingSettings
from .metering import Meter
from .shaping import Shaper

_log = structlog.get_logger()
_LOOK_S = 1.0
_LOOKS = 3
_FILE = "daybook"

# From the peer's address to what carries the packets there: the interface's name and class.
Carrier = Callable[[str], tuple[str, LinkClass]]


class Books:
    """Without a disk the day begins again with the process."""

    def __init__(
        self,
        shaper: Shaper,
        *,
        clock: Clock,
        disk: Disk | None = None,
        directory: str = "",
        carrier: Carrier | None = None,
    ) -> None:
        self.shaper = shaper
        self._clock = clock
        self._disk = disk
        self._path = f"{directory}/{_FILE}"
        self._carrier = carrier
        self._failing = False
        self.meter = Meter()
        self.on_look: Callable[[], None] = lambda: None
        """Called every few seconds, for whoever keeps paces."""

    def dialled(self, connection: Connection) -> None:
        """A new connection: what was counted so far belongs to the interface before."""
        self._observe()
        if self._carrier is not None:
            interface, link = self._carrier(connection.peer_host)
            if (interface, link) != (self.shaper.interface, self.shaper.link):
                _log.info("uplink goes over", interface=interface, link=link.value)
            self.shaper.carried_by(link, interface)
        self.meter.add(connection)

    async def run(self) -> None:
        """Until cancelled; then the exact sum is written."""
        try:
            for turn in itertools.count():
                await asyncio.sleep(_LOOK_S)
                self._observe()
                if turn % _LOOKS == 0:
                    self.on_look()
                if self.shaper.daybook.is_due:
                    data = self.shaper.daybook.encode()
                    await asyncio.to_thread(self._write, data)
        finally:
            self._observe()
            data = self.shaper.daybook.encode(exact=True)
            await asyncio.to_thread(self._write, data)

    def _observe(self) -> None:
        self.shaper.observe(self.meter.reading(), self._clock.monotonic())

    def _write(self, data: bytes) -> None:
        if self._disk is None:
            return
        try:
            replace_whole(self._disk, self._path, data)
        except HeadwaterError as error:
            if not self._failing:
                _log.warning("uplink daybook cannot be written", reason=str(error))
            self._failing = True
        else:
            self._failing = False


def open_daybook(disk: Disk, directory: str, settings: ShapingSettings) -> Daybook:
    """Today's book, or a new one: a damaged one is said, and the day begins again."""
    limits = {link: settings.budget(link) for link in LinkClass}
    try:
        return Daybook.read(limits, read_whole(disk, f"{directory}/{_FILE}"))
    except Missing:
        return Daybook(limits)
    except HeadwaterError as error:
        _log.error("uplink daybook is lost: the day's budget begins again", reason=str(error))
        return Daybook(limits)

"""The rim: reads the kernel's counters every minute, keeps the account, moves the committer's interval.

`status()` is for whoever shows it: metrics, and `headwater edge status`. What the kernel does not tell (a file system in
memory, a container without /sys) is counted from the log's own writes, and `reason` says so.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

import msgspec
import structlog

from ...core.clock import Clock
from ...core.disk import Disk
from ...core.errors import HeadwaterError
from ...core.journal.files.committer import Committer
from ...core.journal.files.journal import FileJournal
from ...hardware.flash import FlashReading
from .account import SAVE_S, Account, load, store
from .control import DAY_S, STEP_S, PaceControl
from .settings import WearSettings

_log = structlog.get_logger("edge.wear")
# Before so much time has passed a projected date would be a guess from one boot's writes.
PROJECT_AFTER_S = 6 * 3600.0
# Less is a clock being slewed, and no matter to an average.
JUMP_MS = 1000


class Flash(Protocol):
    def read(self) -> FlashReading: ...


class WearStatus(msgspec.Struct, frozen=True, kw_only=True):
    """`ends_ms`: when the device's endurance is used up if it goes on like this; None where that cannot be told yet."""

    device: str
    reason: str
    written_bytes: int
    """To the whole device, since `since_ms`."""
    since_ms: int
    bytes_per_day: float
    budget_per_day: float | None
    journal_bytes: int
    """Of the log's own, since the edge started; `payload_bytes` are the batches in them."""
    payload_bytes: int
    amplification: float | None
    """Bytes that reached the device per payload byte, whoever wrote them; None before anything was stored."""
    endurance_bytes: int | None
    life_used: float | None
    spare_blocks: str
    """As an eMMC tells it: normal, warning (most of its spare blocks are used), urgent; empty where it does not."""
    ends_ms: int | None
    commit_interval_s: float
    strained: bool
    """The budget is overrun although acknowledgements wait as long as they may."""


class Wear:
    def __init__(
        self,
        settings: WearSettings,
        *,
        journal: FileJournal,
        committer: Committer,
        flash: Flash,
        disk: Disk,
        clock: Clock,
        path: str,
    ) -> None:
        self._settings = settings
        self._journal = journal
        self._committer = committer
        self._flash = flash
        self._disk = disk
        self._clock = clock
        self._path = path
        self._reading = flash.read()
        size = self._reading.size_bytes or 0
        now_ms = clock.wall_ms()
        self._account: Account = load(
            disk, path, device=self._reading.device, size=size, now_ms=now_ms
        )
        self._control = PaceControl(
            floor_s=float(journal.settings.commit_interval),
            ceiling_s=float(settings.interval_max),
            credit=self._account.credit,
        )
        self._stepped_at = clock.monotonic()
        self._wall_less_boot_ms = now_ms - clock.boot_ms()
        self._own_seen = self._own_start = journal.counters.bytes_written
        self._device_start = self._account.total
        self._account.observe(self._reading.boot, self._counter(self._reading))
        self._saved_at = clock.monotonic()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            await asyncio.sleep(STEP_S)
            self.step()
            if self._clock.monotonic() - self._saved_at >= SAVE_S:
                await self._committer.run(self.save)

    def change(self, settings: WearSettings) -> None:
        """Another budget, from the next step on."""
        self._settings = settings
        self._control.limit(float(settings.interval_max))

    def step(self) -> None:
        """One look at the counters."""
        now = self._clock.monotonic()
        seconds, self._stepped_at = now - self._stepped_at, now
        self._follow_clock()
        self._reading = self._flash.read()
        own = self._journal.counters.bytes_written
        ours, self._own_seen = own - self._own_seen, own
        total = self._account.observe(self._reading.boot, self._counter(self._reading))
        was_strained = self._control.strained
        self._committer.interval_s = self._control.step(
            seconds, ours=ours, total=total, budget_per_day=self.budget_per_day()
        )
        self._account.credit = self._control.credit
        if self._control.strained != was_strained:
            told = "wear budget overrun" if self._control.strained else "wear budget kept again"
            _log.warning(told, interval_s=self._control.interval_s)

    def _follow_clock(self) -> None:
        """A clock that was set is not time that passed: a board's first day may begin a year before its first NTP answer."""
        wall_less_boot_ms = self._clock.wall_ms() - self._clock.boot_ms()
        jump_ms = wall_less_boot_ms - self._wall_less_boot_ms
        self._wall_less_boot_ms = wall_less_boot_ms
        if abs(jump_ms) >= JUMP_MS:
            self._account.since_ms += jump_ms

    def save(self) -> None:
        """In the disk thread, or at the end. A disk that refuses costs an hour of counting."""
        self._saved_at = self._clock.monotonic()
        try:
            store(self._disk, self._path, self._account)
        except HeadwaterError as error:
            _log.warning("wear account cannot be written", reason=str(error))

    def _counter(self, reading: FlashReading) -> int:
        """The device's; where it has none, what the log itself wrote since it was opened."""
        if reading.written_bytes is not None:
            return reading.written_bytes
        return self._journal.counters.bytes_written

    # what is left

    def endurance_bytes(self) -> int | None:
        settings = self._settings
        if settings.endurance is not None:
            return int(settings.endurance)
        capacity = settings.capacity or self._reading.size_bytes
        if capacity is None:
            return None
        return int(capacity * settings.cycles / settings.card_factor)

    def used_bytes(self) -> int:
        """Of the endurance: the largest of what was counted here, by the file system, and by the device itself."""
        reading, endurance = self._reading, self.endurance_bytes()
        used = max(self._account.total, reading.lifetime_bytes or 0)
        if reading.life_used is not None and endurance is not None:
            # the device tells tenths, and says the upper end: what is sure is the lower
            used = max(used, int((reading.life_used - 0.1) * endurance))
        return used

    def budget_per_day(self) -> float | None:
        settings = self._settings
        if settings.bytes_per_day is not None:
            return float(settings.bytes_per_day)
        endurance = self.endurance_bytes()
        if settings.card_lasts is None or endurance is None:
            return None
        passed = (self._clock.wall_ms() - self._account.since_ms) / 1000
        # never less than a month to go: a card that has outlived its time is not strangled on its last day
        days = max(float(settings.card_lasts) - max(passed, 0.0), 30 * DAY_S) / DAY_S
        # never nothing, however small the device is said to be: the pace is a share of it
        return max(endurance - self.used_bytes(), endurance / 1000, 1.0) / days

    def status(self) -> WearStatus:
        account, endurance = self._account, self.endurance_bytes()
        seconds = max((self._clock.wall_ms() - account.since_ms) / 1000, 1.0)
        per_day = account.total * DAY_S / seconds
        ends_ms = None
        if endurance is not None and seconds >= PROJECT_AFTER_S and per_day > 0:
            left_days = max(endurance - self.used_bytes(), 0) / per_day
            ends_ms = self._clock.wall_ms() + int(left_days * DAY_S * 1000)
        counters = self._journal.counters
        device = account.total - self._device_start
        payload = counters.payload_bytes
        return WearStatus(
            device=self._reading.device,
            reason=self._reading.reason,
            written_bytes=account.total,
            since_ms=account.since_ms,
            bytes_per_day=per_day,
            budget_per_day=self.budget_per_day(),
            journal_bytes=counters.bytes_written - self._own_start,
            payload_bytes=payload,
            amplification=device / payload if payload else None,
            endurance_bytes=endurance,
            life_used=self.used_bytes() / endurance if endurance else self._reading.life_used,
            spare_blocks=self._reading.spare_blocks,
            ends_ms=ends_ms,
            commit_interval_s=self._committer.interval_s,
            strained=self._control.strained,
        )

"""How old a record is, whatever happened to the clocks since: message expiry by it must neither lose nor keep for ever."""

from __future__ import annotations

import asyncio
import random

import pytest

from headwater.core.belief import NO_STAMP, Mark, Trust
from headwater.core.clock import ManualClock
from headwater.core.journal.files import FileJournal
from headwater.core.record import Record, StoredRecord, TopicPartition
from headwater.edge.broker.departures import Reading
from headwater.edge.broker.moments import Moments
from headwater.edge.broker.replaying import JournalSource
from headwater.edge.broker.stored import MESSAGE_EXPIRY_HEADER, message_of
from tests.sim.disk import SimDisk

from .machine import SMALL

HERE, BEFORE = "000000aa", "000000bb"
WEEKS_MS = 90 * 86_400_000
TP = TopicPartition("default", 0)


def mark(clock: ManualClock, boot: str = HERE, trust: Trust = Trust.NONE) -> Mark:
    return Mark(boot, trust, clock.wall_ms() - clock.boot_ms())


@pytest.mark.parametrize("step_ms", [WEEKS_MS, -WEEKS_MS])
@pytest.mark.parametrize("trusted", [True, False])
def test_a_clock_that_is_set_makes_a_record_of_this_boot_no_older(
    step_ms: int, trusted: bool
) -> None:
    clock = ManualClock(boot_ms=5_000)
    stamp, timestamp = mark(clock).producer(), clock.wall_ms()
    clock.advance(7)
    clock.step_wall(step_ms)
    moments = Moments(clock, boot=HERE, trusted=lambda: trusted)
    assert moments.age_ms(timestamp, stamp) == 7_000


def test_a_record_of_an_earlier_boot_without_a_clock_is_as_old_as_this_boot_at_least() -> None:
    clock = ManualClock(boot_ms=60_000)
    stamp = mark(clock, BEFORE).producer()
    moments = Moments(clock, boot=HERE, trusted=lambda: True)
    assert moments.age_ms(clock.wall_ms() - WEEKS_MS, stamp) == 60_000


def test_where_both_knew_the_time_the_wall_clock_tells() -> None:
    clock = ManualClock(boot_ms=60_000)
    stamp = mark(clock, BEFORE, Trust.SYNCHRONISED).producer()
    moments = Moments(clock, boot=HERE, trusted=lambda: True)
    assert moments.age_ms(clock.wall_ms() - WEEKS_MS, stamp) == WEEKS_MS
    assert moments.age_ms(clock.wall_ms() - WEEKS_MS, NO_STAMP) == WEEKS_MS


def test_messages_that_wait_in_the_log_do_not_expire_when_the_clock_becomes_known() -> None:
    clock = ManualClock()
    log = FileJournal.open(
        "/log", disk=SimDisk(random.Random(1)), clock=clock, settings=SMALL, rng=random.Random(1)
    )
    log.stamp = mark(clock).producer()
    log.append(TP, Record(clock.wall_ms(), b"t", b"x", ((MESSAGE_EXPIRY_HEADER, b"60"),)))
    commit = log.seal()
    assert commit is not None
    commit.write()
    log.complete(commit)
    clock.advance(10)
    clock.step_wall(WEEKS_MS)
    (record,) = read(log, Moments(clock, boot=HERE, trusted=lambda: True))
    message = message_of(record, TP, now=clock.monotonic(), wall_ms=clock.wall_ms())
    assert message.expires_at == clock.monotonic() + 50


def read(log: FileJournal, moments: Moments) -> list[StoredRecord]:
    async def main() -> Reading:
        found: asyncio.Future[Reading] = asyncio.get_running_loop().create_future()
        JournalSource(log, moments).read(TP, 0, bytes_max=1000, done=found.set_result)
        return await found

    return asyncio.run(main()).records

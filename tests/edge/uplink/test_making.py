"""What the daemon makes of the cursor's files at a start."""

from __future__ import annotations

import random
from pathlib import Path

from headwater.core.clock import ManualClock
from headwater.core.disk import SystemDisk
from headwater.core.record import TopicPartition
from headwater.edge.uplink.making import Surroundings, make_uplink
from headwater.hardware.sysroot import SysRoot

from .river import EDGE, MemoryJournal, settings
from .test_shaping import Known


async def _refuse(partition: TopicPartition, first: int, last: int, detail: str) -> None:
    raise AssertionError(detail)


def _start(directory: Path, journal: MemoryJournal) -> str:
    """What it has to say of them."""
    clock = ManualClock(0)
    uplink = make_uplink(
        journal,
        settings(),
        Surroundings(SystemDisk(), clock, Known(clock), random.Random(1), SysRoot()),
        edge=EDGE,
        bootstrap=[("127.0.0.1", 1)],
        is_tls=False,
        directory=str(directory),
        on_refused=_refuse,
        priorities={},
    )
    return uplink.status().last_error


def test_a_log_with_records_and_no_cursor_is_one_that_lost_it(tmp_path: Path) -> None:
    journal = MemoryJournal()
    assert not _start(tmp_path, journal)
    journal.append(TopicPartition("readings", 0), [b"value"])
    assert not _start(tmp_path, journal), "offline ever since: nothing was lost"
    for file in tmp_path.glob("cursor-*"):
        file.unlink()
    assert "is gone" in _start(tmp_path, journal)

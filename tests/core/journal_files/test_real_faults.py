"""A real file system that fills up, or goes read-only after an error: what was acknowledged stays, readers go on, and the
journal recovers when the disk does, or at the next start. Needs root and a loop device; where they are missing the tests
say so.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from headwater.core.clock import SystemClock
from headwater.core.errors import Unavailable
from headwater.core.journal.files import Committer, FileJournal
from headwater.core.record import TopicPartition
from headwater.core.units import KIB, ByteSize
from tests.core.journal_files.oracle import SMALL, contents
from tests.core.journal_files.test_real_disk import open_real

A = TopicPartition("a", 0)
ROOMY = msgspec.structs.replace(SMALL, segment_bytes=ByteSize(256 * KIB))


def _run(*words: str) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=False)
    if done.returncode:
        raise OSError(f"{' '.join(words)}: {done.stderr.strip()}")
    return done.stdout.strip()


class Card:
    """An ext4 of 16 MiB on a loop device, mounted."""

    def __init__(self, path: Path) -> None:
        self.image, self.mount = path / "image", path / "card"
        self.mount.mkdir()
        with self.image.open("wb") as file:
            file.truncate(16 * 1024 * KIB)
        _run("mkfs.ext4", "-q", "-F", "-m", "0", str(self.image))
        self.device = _run("losetup", "--find", "--show", str(self.image))
        self.put_in()

    def put_in(self) -> None:
        _run("mount", "-o", "errors=remount-ro", self.device, str(self.mount))

    def take_out(self) -> None:
        _run("umount", "-l", str(self.mount))

    def break_down(self) -> None:
        """What ext4 does to itself when it meets damage in its own tables."""
        knob = Path("/sys/fs/ext4") / Path(self.device).name / "trigger_fs_error"
        knob.write_text("test")

    def repair(self) -> None:
        self.take_out()
        subprocess.run(["e2fsck", "-fy", self.device], capture_output=True, timeout=60, check=False)
        self.put_in()

    def close(self) -> None:
        subprocess.run(["umount", "-l", str(self.mount)], capture_output=True, check=False)
        subprocess.run(["losetup", "-d", self.device], capture_output=True, check=False)


@pytest.fixture
def card(tmp_path: Path) -> Iterator[Card]:
    if os.geteuid() != 0 or shutil.which("mkfs.ext4") is None:
        pytest.skip("needs root and mkfs.ext4 to mount a file system of its own")
    try:
        made = Card(tmp_path)
    except OSError as error:
        pytest.skip(f"no loop device to be had here: {error}")
    yield made
    made.close()


class Writer:
    """Keeps appending; `acknowledged` is what the committer called durable."""

    def __init__(self, card: Card) -> None:
        self.journal: FileJournal = open_real(card.mount, ROOMY)
        self.committer = Committer(self.journal, clock=SystemClock(), rng=random.Random(1))
        self.acknowledged: dict[int, bytes] = {}
        self.count = 0

    def append(self) -> tuple[int, int, bytes]:
        value = b"%d " % self.count * 700
        self.count += 1
        return self.journal.writer(A).append(1, None, value), self.journal.open_commit, value

    async def keep(self, turns: int) -> None:
        for _ in range(turns):
            offset, commit, value = self.append()
            await self.committer.wait_durable(commit)
            self.acknowledged[offset] = value

    async def until_stalled(self) -> list[tuple[int, int, bytes]]:
        """Records that wait for a disk that refuses."""
        waiting = []
        async with asyncio.timeout(60):
            while self.committer.stalled is None:
                waiting.append(self.append())
                self.committer.request()
                await asyncio.sleep(0.002)
        return waiting

    def check_readable(self) -> None:
        found = contents(self.journal)[A]
        assert {offset: found.get(offset) for offset in self.acknowledged} == self.acknowledged

    async def settle(self, waiting: list[tuple[int, int, bytes]]) -> None:
        async with asyncio.timeout(30):
            await self.committer.wait_durable(waiting[-1][1])
        self.acknowledged |= {offset: value for offset, _, value in waiting}
        assert self.committer.stalled is None


def fill_up(hog: Path) -> None:
    with hog.open("wb", buffering=0) as file, contextlib.suppress(OSError):  # no space left
        while file.write(bytes(64 * KIB)) == 64 * KIB:
            pass


def test_a_full_disk_stalls_and_freed_space_is_noticed_within_seconds(card: Card) -> None:
    async def run() -> None:
        writer = Writer(card)
        writer.committer.start()
        await writer.keep(20)
        hog = card.mount / "hog"
        fill_up(hog)
        waiting = await writer.until_stalled()
        assert "no space" in (writer.committer.stalled or "")
        writer.check_readable()
        hog.unlink()
        freed = asyncio.get_running_loop().time()
        await writer.settle(waiting)
        assert asyncio.get_running_loop().time() - freed < 20, "tried every two seconds at most"
        await writer.keep(20)
        writer.check_readable()
        await writer.committer.close()
        writer.journal.close()
        again = open_real(card.mount, ROOMY)
        assert contents(again)[A].keys() >= writer.acknowledged.keys()
        again.close()

    asyncio.run(run())


def test_a_file_system_that_went_read_only_keeps_what_was_acknowledged(card: Card) -> None:
    async def run() -> None:
        writer = Writer(card)
        writer.committer.start()
        await writer.keep(20)
        try:
            card.break_down()
        except OSError as error:
            pytest.skip(f"this kernel cannot be told to fail: {error}")
        await writer.until_stalled()
        writer.check_readable()
        # Linux keeps such a file system as it is while a file on it is open: the edge has to be started again
        with pytest.raises(Unavailable, match="were not committed"):
            await writer.committer.close()
        writer.journal.close()
        card.repair()
        again = open_real(card.mount, ROOMY)
        found = contents(again)[A]
        assert {o: found.get(o) for o in writer.acknowledged} == writer.acknowledged
        assert not again.recovery.losses
        again.close()

    asyncio.run(run())

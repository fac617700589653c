"""Record a broker at work: what its device was told, and what it promised meanwhile.

A recording is a folder: base.img (ext4 as it was before), device.log, messages.json, and the logs of what ran. It can be
replayed as often as wanted (`--replay FOLDER`); it cannot be made twice alike, the scheduler has a part in it.
"""

from __future__ import annotations

import asyncio
import contextlib
import enum
import random
import shutil
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from headwater.demo.daemon import Daemon

from . import kernel, publishers, story
from .crashes import Record
from .device import COUNTER_BYTES, DISK, Counter, read_log
from .lasting import Arrivals, Client
from .publishers import Ledger, Message, Pace, Publisher
from .story import Story

IMAGE_BYTES = 32 << 20
GROUP_BLOCKS = 4096
READY_SECONDS = 60.0
# mkfs, debugfs and e2fsck, of 32 MiB in memory
TOOL_SECONDS = 60.0
# nothing here outlives the test run, even one that is killed
WITH_US = ("setpriv", "--pdeathsig", "KILL")


class Recording(NamedTuple):
    name: str
    base: bytes
    record: Record
    messages: dict[str, Message]
    served: int  # how many operations there were before the last, orderly stop
    story: Story = Story()


class Subject(NamedTuple):
    """A broker that can be started over a data directory on the device."""

    daemon: Daemon
    port: int
    ready: Callable[[], None]
    upstream: int = 0  # where it looks for another broker


def load(name: str, folder: Path, whole_blocks: frozenset[int] | None = None) -> Recording:
    """`whole_blocks`: as the first life had them, because a crash state cannot always tell."""
    base = folder / "base.img"
    if whole_blocks is None:
        whole_blocks = _whole_blocks(base)
    record = Record(read_log(folder / "device.log"), whole_blocks)
    messages = {each.name: each for each in publishers.load(folder / "messages.json")}
    served = int((folder / "served").read_text(encoding="ascii"))
    told = story.load(folder / "story.json")
    return Recording(name, base.read_bytes(), record, messages, served, told)


Crowd = Callable[[Ledger, Story, random.Random, str], Sequence[Client]]


class Blow(enum.Enum):
    """What happens to the daemon on the way; it is started again at once."""

    KILL = "SIGKILL"
    STOP = "SIGTERM"


def make(
    folder: Path,
    subject: Callable[[Path, Path], Subject],
    *,
    crowd: Crowd,
    messages: int,
    blows: Sequence[Blow] = (),
    rng: random.Random,
    prepare: Callable[[int], None] | None = None,
    prefix: str = "c",
    base: bytes | None = None,
) -> None:
    """Publish until `messages` are acknowledged, with the blows spread on the way.

    `prepare` runs once against the first start's port; `base`: the medium as it is found, instead of a new ext4.
    """
    if base is None:
        make_image(folder / "base.img")
    else:
        (folder / "base.img").write_bytes(base)
    shutil.copyfile(folder / "base.img", folder / "disk.img")
    arrivals = Arrivals()

    async def life(counter: Counter, broker: Subject) -> tuple[Ledger, Story]:
        arrivals.count = counter.value
        ledger, told = Ledger(counter.value, lambda: arrivals.before), Story()
        daemon, port, ready, upstream = broker
        daemon.start()
        await asyncio.to_thread(ready)
        if prepare is not None:
            await asyncio.to_thread(prepare, port)
        async with publishing(crowd(ledger, told, rng, prefix), port, upstream):
            for blow in (None, *blows):
                if blow is not None:
                    await asyncio.to_thread(daemon.kill if blow is Blow.KILL else daemon.stop)
                    told.starts.append(counter.value())
                    daemon.start()
                    await asyncio.to_thread(ready)
                async with asyncio.timeout(120):
                    await ledger.more(messages // (len(blows) + 1))
        (folder / "served").write_text(str(counter.value()), encoding="ascii")
        await asyncio.to_thread(daemon.stop)
        return ledger, told

    with (
        _device(folder) as counter,
        kernel.mounted(folder / "fuse" / DISK, _place(folder)),
        asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(arrivals)) as runner,
    ):
        broker = subject(folder, _place(folder))
        try:
            ledger, told = runner.run(life(counter, broker))
        finally:
            broker.daemon.close()
    publishers.save(list(ledger.messages.values()), folder / "messages.json")
    story.save(told, folder / "story.json")


def make_image(path: Path) -> None:
    with path.open("wb") as file:
        file.truncate(IMAGE_BYTES)
    subprocess.run(
        [
            *(_sbin("mkfs.ext4"), "-q", "-F", "-b", "4096", "-m", "0"),
            # groups so small that there is a backup superblock, as on any larger disk
            *("-g", str(GROUP_BLOCKS), "-E", "lazy_itable_init=0,lazy_journal_init=0", str(path)),
        ],
        check=True,
        timeout=TOOL_SECONDS,
    )


def _place(folder: Path) -> Path:
    place = folder / "mount"
    place.mkdir(exist_ok=True)
    return place


@contextlib.contextmanager
def _device(folder: Path) -> Iterator[Counter]:
    counter, directory = folder / "counter", folder / "fuse"
    counter.write_bytes(bytes(COUNTER_BYTES))
    directory.mkdir()
    command = [sys.executable, "-m", "tests.powercut.device", str(folder / "disk.img")]
    command += [str(folder / "device.log"), str(counter), str(directory)]
    process = subprocess.Popen([*WITH_US, *command], cwd=Path(__file__).parents[2])
    try:
        deadline = time.monotonic() + READY_SECONDS
        while not (directory / DISK).exists():
            assert process.poll() is None, "the FUSE device ended by itself"
            assert time.monotonic() < deadline, "the FUSE device is not ready"
            time.sleep(0.01)
        try:
            yield Counter(counter)
        finally:
            kernel.unmount(directory)
        process.wait(READY_SECONDS)  # so that its log is whole
    finally:
        process.kill()
        process.wait()


@contextlib.asynccontextmanager
async def publishing(
    everybody: Sequence[Client], port: int, upstream: int = 0
) -> AsyncIterator[None]:
    """`upstream`: the port of the broker that a source of the edge listens to, for who publishes there."""
    async with asyncio.TaskGroup() as group:
        for each in everybody:
            group.create_task(each.run(port, upstream))
        try:
            yield
        finally:
            await asyncio.gather(*(each.finish() for each in everybody))


def plain(topics: Sequence[str], pace: Pace = Pace()) -> Crowd:  # noqa: B008
    """Eight publishers whose sessions end with their connections."""

    def crowd(ledger: Ledger, told: Story, rng: random.Random, prefix: str) -> list[Client]:
        del told
        return [
            Publisher(
                f"{prefix}{index}",
                ledger,
                topics=rng.sample(topics, min(2, len(topics))),
                window=rng.choice((1, 1, 4, 16)),
                pace=pace,
                rng=random.Random(rng.getrandbits(32)),
            )
            for index in range(8)
        ]

    return crowd


def _whole_blocks(image: Path) -> frozenset[int]:
    """The blocks of ext4's journal (inode 8), and the superblock's."""
    command = [_sbin("debugfs"), "-R", "blocks <8>", str(image)]
    listed = subprocess.run(
        command, check=True, capture_output=True, text=True, timeout=TOOL_SECONDS
    ).stdout
    journal = {int(block) for block in listed.split()}
    assert journal, "ext4 was made with a journal"
    return frozenset(journal | {0})


def _sbin(program: str) -> str:
    found = shutil.which(program) or shutil.which(program, path="/usr/sbin:/sbin")
    assert found is not None, f"{program} is installed"
    return found


def check_file_system(image: Path) -> bool:
    """e2fsck as a boot would run it, from the backup superblock if it must; False where it cannot repair."""
    backup = ("-b", str(GROUP_BLOCKS), "-B", "4096")
    return any(
        subprocess.run(
            [_sbin("e2fsck"), "-fy", *which, str(image)], capture_output=True, timeout=TOOL_SECONDS
        ).returncode
        < 4
        for which in ((), backup)
    )


def shared_memory() -> Path | None:
    """Where images are kept: in memory if that can be had, because each state rewrites one."""
    memory = Path("/dev/shm")
    return memory if memory.is_dir() else None

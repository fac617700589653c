"""The same journal on this machine's disk, with threads and with the asyncio rim."""

from __future__ import annotations

import errno
import os
import random
import stat
import subprocess
import sys
import threading
from collections.abc import Callable, Mapping
from pathlib import Path

import msgspec
import pytest

from headwater.core.batch import decode_batch, validate_batch
from headwater.core.clock import SystemClock
from headwater.core.disk import SystemDisk, read_whole, replace_whole
from headwater.core.errors import AlreadyExists, Missing, Refused, Unavailable
from headwater.core.journal.files import (
    FileJournal,
    FileJournalSettings,
    Position,
    StreamRetention,
)
from headwater.core.journal.files.early import EarlyRule
from headwater.core.journal.files.inspection import verify
from headwater.core.record import TopicPartition
from headwater.core.units import KIB, ByteSize
from tests.core.journal_files.oracle import SMALL, contents
from tests.core.journal_files.test_damage import put

A = TopicPartition("a", 0)


def open_real(
    path: Path,
    settings: FileJournalSettings = SMALL,
    early: Mapping[str, EarlyRule] | None = None,
) -> FileJournal:
    return FileJournal.open(
        str(path / "journal"),
        disk=SystemDisk(),
        clock=SystemClock(),
        settings=settings,
        rng=random.Random(5),
        early=early,
    )


def test_records_come_back_after_reopening(tmp_path: Path) -> None:
    journal = open_real(tmp_path)
    for _ in range(30):
        put(journal, A, 2, size=9000)
    before, log_id = contents(journal), journal.log_id
    journal.close()
    journal = open_real(tmp_path)
    assert journal.log_id == log_id
    assert contents(journal) == before
    assert verify(journal.directory, disk=SystemDisk()).whole
    journal.close()


def test_a_reader_keeps_the_segment_it_reads_while_neighbours_are_opened(tmp_path: Path) -> None:
    """Without footers each table is rebuilt from the one before: many segments pass through a cache of two."""
    settings = msgspec.structs.replace(SMALL, index_cache=2, map_cache=1)
    journal = open_real(tmp_path, settings)
    for _ in range(60):
        put(journal, A, 2, size=9000)
    before = contents(journal)
    journal.close()
    segments = sorted((tmp_path / "journal").glob("*.segment"))
    assert len(segments) > 8
    for segment in segments[:-1]:
        with segment.open("r+b") as file:
            file.seek(-8, os.SEEK_END)
            file.write(bytes(8))  # of the trailer, which says where the footer stands
    journal = open_real(tmp_path, settings)
    assert contents(journal) == before
    assert not journal.take_losses()
    journal.close()


def test_a_directory_in_the_place_of_the_lock_is_put_aside(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    (path / "something").mkdir(parents=True)
    SystemDisk().lock(str(path)).release()
    assert path.is_file()
    assert [d.name for d in tmp_path.glob("lock.*.damaged")]


def test_a_lock_file_that_somebody_removed_lets_nobody_else_in(tmp_path: Path) -> None:
    journal = open_real(tmp_path)
    Path(journal.directory, "lock").unlink()
    with pytest.raises(Refused, match="is in use by process"):
        open_real(tmp_path)
    journal.close()
    open_real(tmp_path).close()


@pytest.mark.parametrize(
    "name", ["lock", "state.a", f"{1:020d}.segment", "0000002a.spare", "a.tmp"]
)
@pytest.mark.parametrize("kind", [stat.S_IFIFO, stat.S_IFSOCK])
def test_what_is_no_file_in_the_place_of_one_is_not_waited_for(
    tmp_path: Path, name: str, kind: int
) -> None:
    journal = open_real(tmp_path)
    put(journal, A)
    path = Path(journal.directory, name)
    journal.close()
    path.unlink(missing_ok=True)
    os.mknod(path, kind | 0o600)
    journal = open_real(tmp_path)
    put(journal, A)
    end = journal.bounds(A).end
    journal.close()
    journal = open_real(tmp_path)
    assert journal.bounds(A).end == end
    (batch,) = journal.read_sync(A, end - 1, bytes_max=1)
    assert validate_batch(batch).base_offset == end - 1, "what came after it is there"
    journal.close()


def test_an_open_file_has_nothing_but_troubles_of_its_disk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A file that was made immutable answers EPERM, one on a network EACCES: the segment is abandoned as for EIO."""
    file = SystemDisk().create(str(tmp_path / "x"))
    for code in (errno.EPERM, errno.EACCES, errno.ENOENT, errno.EIO):
        for name, call in (
            ("pwrite", lambda: file.write(0, b"x")),
            ("fdatasync", file.sync),
            ("pread", lambda: file.read(0, 1)),
        ):

            def refuse(*_: object, code: int = code) -> None:
                raise OSError(code, os.strerror(code))

            with monkeypatch.context() as patch:
                patch.setattr(os, name, refuse)
                with pytest.raises(Unavailable):
                    call()


def test_a_commit_to_a_segment_that_somebody_removed_goes_to_another(tmp_path: Path) -> None:
    journal = open_real(tmp_path)
    put(journal, A)
    assert journal.shelf.active is not None
    os.unlink(journal.shelf.active.path)
    put(journal, A)
    journal.close()
    journal = open_real(tmp_path)
    assert contents(journal)[A].keys() == {1}
    assert [(loss.partition, loss.first, loss.last) for loss in journal.recovery.losses] == [
        (A, 0, 0)
    ]
    journal.close()


def test_a_second_process_is_told_who_holds_the_directory(tmp_path: Path) -> None:
    journal = open_real(tmp_path)
    script = (
        "import random\n"
        "from headwater.core.clock import SystemClock\n"
        "from headwater.core.disk import SystemDisk\n"
        "from headwater.core.journal.files import FileJournal, FileJournalSettings\n"
        f"FileJournal.open({journal.directory!r}, disk=SystemDisk(), clock=SystemClock(),"
        " settings=FileJournalSettings(), rng=random.Random())\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert result.returncode != 0
    last = result.stderr.strip().splitlines()[-1]
    assert f"{journal.directory} is in use by process {os.getpid()}" in last
    journal.close()


def test_readers_beside_a_writer_see_whole_records_in_order(tmp_path: Path) -> None:
    journal = open_real(tmp_path)
    partitions = [TopicPartition("a", index) for index in range(4)]
    for partition in partitions:
        put(journal, partition)
    done = threading.Event()
    faults: list[str] = []

    def follow(read: Callable[[], int]) -> None:
        total = 0
        while True:
            finished = done.is_set()
            progress = read()
            total += progress
            if finished and not progress:
                counted.append(total)
                return
            if not progress:
                done.wait(0.001)  # two idle readers would take the interpreter from the writer

    counted: list[int] = []
    offsets = dict.fromkeys(partitions, 0)
    position = Position(0, 0)
    arrived: dict[TopicPartition, int] = {}

    def by_partition() -> int:
        seen = 0
        for partition in partitions:
            for batch in journal.read_sync(partition, offsets[partition], bytes_max=50_000):
                header, records = decode_batch(batch)
                if header.base_offset != offsets[partition] or len(records) != header.record_count:
                    faults.append(f"{partition} at {offsets[partition]}: {header}")
                offsets[partition] = header.next_offset
                seen += len(records)
        return seen

    def by_arrival() -> int:
        nonlocal position
        seen = 0
        arrivals, position = journal.read_arrivals_sync(position, bytes_max=50_000)
        for arrival in arrivals:
            header, records = decode_batch(arrival.batch)
            if header.base_offset != arrived.get(arrival.partition, 0):
                faults.append(f"{arrival.partition} arrived at {header.base_offset}")
            arrived[arrival.partition] = header.next_offset
            seen += len(records)
        return seen

    threads = [threading.Thread(target=follow, args=(read,)) for read in (by_partition, by_arrival)]
    for thread in threads:
        thread.start()
    rng = random.Random(1)
    for _ in range(250):
        put(journal, rng.choice(partitions), rng.randint(1, 5), size=rng.randint(1, 4000))
    done.set()
    for thread in threads:
        thread.join(60)
    assert faults == []
    assert counted == [sum(w.end for w in journal.writers())] * 2
    assert not journal.take_losses()
    journal.close()


def test_retirement_beside_a_reader_is_no_damage(tmp_path: Path) -> None:
    journal = open_real(tmp_path)
    put(journal, A)
    done = threading.Event()
    faults: list[BaseException] = []

    def read() -> None:
        rng = random.Random(2)
        while not done.is_set():
            try:
                start, end = journal.bounds(A)
                journal.read_sync(A, rng.randint(start, end), bytes_max=30_000)
            except Refused:  # it was retired in between
                continue
            except BaseException as error:
                faults.append(error)
                return

    thread = threading.Thread(target=read)
    thread.start()
    for turn in range(150):
        put(journal, A, 2, size=9000)
        if turn % 20 == 19:
            from headwater.core.journal.files.planning import plan
            from headwater.core.journal.files.retention import carry_out

            rules = {"a": StreamRetention(bytes_max=ByteSize(100 * KIB))}
            carry_out(journal, plan(journal, 0, rules=rules, sent=None))
    done.set()
    thread.join(60)
    assert faults == []
    assert journal.take_losses() == []
    assert journal.counters.segments_recycled > 3
    journal.close()


def test_system_disk_maps_errors_with_their_path(tmp_path: Path) -> None:
    disk = SystemDisk()
    missing = str(tmp_path / "nothing")
    with pytest.raises(Missing, match="nothing"):
        disk.open(missing)
    with pytest.raises(Missing):
        disk.list(missing)
    file = disk.create(str(tmp_path / "x"))
    with pytest.raises(AlreadyExists):
        disk.create(str(tmp_path / "x"))
    file.write(0, b"abc" * 1000)
    file.sync()
    file.drop_cache()
    assert file.read(1, 3) == b"bca"
    assert file.read(2999, 10) == b"c"
    assert file.size() == 3000
    file.close()
    with pytest.raises(Unavailable):
        file.read(0, 1)
    assert disk.free_bytes(str(tmp_path)) > 0


def test_a_small_file_is_replaced_whole(tmp_path: Path) -> None:
    disk = SystemDisk()
    path = str(tmp_path / "state")
    for content in (b"one", b"two"):
        replace_whole(disk, path, content)
        assert read_whole(disk, path) == content
    assert os.listdir(tmp_path) == ["state"]

"""An error on a read is not known to be damage: asked again, left in its place, met again; and never a new log."""

from __future__ import annotations

import contextlib
import random

import pytest

from headwater.core.disk import File
from headwater.core.errors import Missing, OffsetOutOfRange, Refused, Unavailable
from headwater.core.journal.files import FileJournal, Loss, StreamRetention
from headwater.core.journal.files.patience import PATIENCE_S
from headwater.core.journal.files.planning import plan
from headwater.core.journal.files.retention import carry_out
from headwater.core.record import TopicPartition
from headwater.core.units import ByteSize
from tests.core.journal_files.oracle import DIRECTORY, PARTITIONS, Contents, contents, open_journal
from tests.core.journal_files.test_damage import filled, put, segment
from tests.sim.disk import SimDisk

A = PARTITIONS[0]
WHOLE = 1 << 30


def written(*, segments: int = 14) -> tuple[SimDisk, Contents, str]:
    disk = SimDisk(random.Random(0))
    journal = filled(disk, segments=segments)
    before, log_id = contents(journal), journal.log_id
    journal.close()
    return disk, before, log_id


def opened_stubbornly(disk: SimDisk) -> FileJournal:
    for _ in range(200):
        try:
            return open_journal(disk)
        except Unavailable:
            continue
    raise AssertionError("it never starts")


def quarantined(disk: SimDisk) -> list[str]:
    try:
        return disk.list(f"{DIRECTORY}/quarantine")
    except Missing:
        return []


@pytest.mark.parametrize("burst", [1, 3, 10, 25, 40, 100, 400])
def test_a_burst_of_failing_reads_at_a_start_costs_nothing(burst: int) -> None:
    disk, before, log_id = written()
    disk.failing_reads = burst
    journal = opened_stubbornly(disk)
    assert disk.failing_reads == 0 or burst > 400
    assert journal.log_id == log_id
    assert not quarantined(disk)
    journal.close()
    journal = open_journal(disk)
    assert contents(journal) == before, "whatever was put out of use is met again"
    put(journal, A)


@pytest.mark.parametrize("seed", range(40))
def test_reads_that_fail_now_and_then_destroy_nothing(seed: int) -> None:
    disk, before, log_id = written(segments=6)
    disk.rng = random.Random(seed)
    added: dict[int, bytes] = {}
    for _ in range(6):
        disk.read_error = random.Random(seed).choice((0.1, 0.5, 0.8))
        try:
            journal = open_journal(disk)
        except Unavailable:
            continue
        assert journal.log_id == log_id
        try:
            offset = journal.bounds(A).end
            assert offset not in before[A]
            assert offset not in added, "an offset is given once"
            put(journal, A, size=9000)
            added[offset] = bytes(9000)
            for partition in PARTITIONS:
                journal.read_sync(partition, 0, bytes_max=1 << 20)
        except Unavailable:
            pass
        journal.close()
    disk.read_error = 0.0
    journal = open_journal(disk)
    found = contents(journal)
    lost = [*journal.recovery.losses, *journal.take_losses()]
    for offset in [*before[A], *added]:
        told = any(x.partition == A and x.first <= offset <= x.last for x in lost)
        assert offset in found[A] or told
    assert not quarantined(disk)


@pytest.mark.parametrize("burst", [1, 40, 400])
def test_a_burst_of_failing_reads_while_running_destroys_nothing(burst: int) -> None:
    disk, before, _ = written()
    journal = open_journal(disk)
    disk.failing_reads = burst
    for _ in range(500):
        if not disk.failing_reads:
            break
        with contextlib.suppress(Unavailable):
            contents(journal)
    assert not quarantined(disk)
    assert len(journal.take_losses()) <= len(PARTITIONS)
    journal.close()
    journal = open_journal(disk)
    assert contents(journal) == before


def test_dead_sectors_are_waited_for_a_second_in_all_and_cost_what_lies_on_them() -> None:
    disk, before, _ = written()
    disk.dead = [(segment(sequence), 0, WHOLE) for sequence in range(2, 12)]
    for _ in range(3):
        disk.paused = 0.0
        journal = open_journal(disk)
        found = contents(journal)
        assert 0.2 < disk.paused <= PATIENCE_S
        lost = [*journal.recovery.losses, *journal.take_losses()]
        for partition in PARTITIONS:
            for offset in before[partition]:
                told = any(x.partition == partition and x.first <= offset <= x.last for x in lost)
                assert (offset in found[partition]) != told
        put(journal, A)
        before[A][journal.bounds(A).end - 1] = bytes(40)
        journal.close()
    assert not quarantined(disk)
    disk.dead = []
    assert contents(open_journal(disk)) == before, "and is there when it can be read again"


@pytest.mark.parametrize("first", [0, 4096, 8192, 12288])
def test_the_open_segment_on_dead_sectors(first: int) -> None:
    """Its end may be hidden: no offset is given twice, and what was acknowledged is not overwritten."""
    disk, before, _ = written(segments=4)
    newest = max(name for name in disk.list(DIRECTORY) if name.endswith(".segment"))
    path = f"{DIRECTORY}/{newest}"
    given: set[int] = set(before[A])
    for turn in range(6):
        disk.dead = [] if turn % 2 else [(path, first, WHOLE)]
        journal = open_journal(disk)
        offset = journal.bounds(A).end
        assert offset not in given
        put(journal, A)
        given.add(offset)
        journal.close()
    disk.dead = []
    found = contents(open_journal(disk))[A]
    assert found.keys() == given


def test_a_state_that_can_be_read_again_within_seconds_is_waited_for() -> None:
    disk, before, log_id = written()
    disk.dead = [(f"{DIRECTORY}/state.{copy}", 0, WHOLE) for copy in "ab"]
    pause, waited = disk.pause, 0.0

    def well_again(seconds: float) -> None:
        nonlocal waited
        pause(seconds)
        waited += seconds
        if waited > 4:
            disk.dead = []

    disk.pause = well_again  # type: ignore[method-assign]
    journal = open_journal(disk)
    assert journal.log_id == log_id
    assert not journal.recovery.warnings
    assert contents(journal) == before


def test_both_copies_of_the_state_on_dead_sectors_are_lost_and_the_log_is_not() -> None:
    disk, before, log_id = written()
    disk.dead = [(f"{DIRECTORY}/state.{copy}", 0, WHOLE) for copy in "ab"]
    journal = open_journal(disk)
    assert journal.log_id == log_id
    assert contents(journal) == before
    put(journal, A)
    journal.close()
    disk.dead = []  # other files stand under those names
    assert len(contents(open_journal(disk))[A]) == len(before[A]) + 1


def test_a_state_on_dead_sectors_and_nothing_else_to_tell_whose_log_it_is() -> None:
    disk, before, _ = written(segments=1)
    disk.dead = [(f"{DIRECTORY}/state.{copy}", 0, WHOLE) for copy in "ab"]
    disk.dead += [(segment(sequence), 0, WHOLE) for sequence in range(1, 4)]
    with pytest.raises(Unavailable, match="input/output error"):
        open_journal(disk)
    disk.restart()
    disk.dead = []
    assert contents(open_journal(disk)) == before


def test_no_segment_that_can_be_read_is_the_device() -> None:
    disk, before, _ = written(segments=4)
    disk.dead = [(segment(sequence), 0, WHOLE) for sequence in range(1, 6)]
    with pytest.raises(Unavailable, match="input/output error"):
        open_journal(disk)
    disk.restart()
    for copy in "ab":
        disk.take(f"{DIRECTORY}/state.{copy}")
    with pytest.raises(Unavailable, match="input/output error"):
        open_journal(disk)
    disk.restart()
    disk.dead = []
    assert contents(open_journal(disk)).keys() == before.keys()


def test_files_that_cannot_be_read_go_when_retention_has_passed_them() -> None:
    disk, _, _ = written()
    disk.dead = [(segment(2), 0, WHOLE)]
    for _ in range(2):
        journal = open_journal(disk)
        contents(journal)
        assert segment(2) in {f"{DIRECTORY}/{name}" for name in disk.list(DIRECTORY)}
        journal.close()
    journal = open_journal(disk)
    contents(journal)
    sent = {partition: journal.bounds(partition).end for partition in journal.partitions()}
    rule = StreamRetention(bytes_max=ByteSize(1))
    carry_out(journal, plan(journal, 0, rules={"a": rule, "b.long-name": rule}, sent=sent))
    assert not journal.shelf.sequences
    assert segment(2) not in {f"{DIRECTORY}/{name}" for name in disk.list(DIRECTORY)}
    journal.close()
    assert not open_journal(disk).recovery.damage


@pytest.mark.parametrize("kind", [Missing, Refused])
def test_a_name_that_is_not_found_once_is_looked_for_again(kind: type[Refused]) -> None:
    disk, before, _ = written(segments=6)
    journal = open_journal(disk)
    found, answered = disk.open, []

    def failing(path: str, *, read_only: bool = False) -> File:
        if path.endswith(".segment") and path not in answered:
            answered.append(path)
            raise kind(f"cannot open: {path}: no")
        return found(path, read_only=read_only)

    disk.open = failing  # type: ignore[method-assign]
    assert contents(journal) == before
    assert not journal.take_losses()
    journal.close()
    answered.clear()
    journal = open_journal(disk)
    assert contents(journal) == before
    assert not journal.recovery.losses
    assert answered


def test_a_name_that_is_listed_and_never_found_stays_in_its_place() -> None:
    disk, before, _ = written(segments=6)
    journal = open_journal(disk)
    found = disk.open

    def failing(path: str, *, read_only: bool = False) -> File:
        if path == segment(1):
            raise Missing(f"cannot open: {path}: no such file or directory")
        return found(path, read_only=read_only)

    disk.open = failing  # type: ignore[method-assign]
    assert contents(journal)[A].keys() < before[A].keys()
    assert [loss.first for loss in journal.take_losses() if loss.partition == A] == [0]
    journal.close()
    disk.open = found  # type: ignore[method-assign]
    assert contents(open_journal(disk)) == before


class FailingLife:
    """Starts, commits and reads on a disk that answers some reads with an error, in a different way each time."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.disk, before, self.log_id = written(segments=self.rng.randint(3, 7))
        self.disk.rng = random.Random(seed)
        self.acknowledged = {(p, o): v for p, found in before.items() for o, v in found.items()}
        self.given = set(self.acknowledged)
        self.told: list[Loss] = []

    def fail(self) -> None:
        rng, disk = self.rng, self.disk
        match rng.randrange(4):
            case 0:
                disk.read_error = rng.choice((0.1, 0.5, 0.9))
            case 1:
                disk.failing_reads = rng.randint(1, 200)
            case 2:
                several = [name for name in disk.list(DIRECTORY) if name.endswith(".segment")]
                for name in rng.sample(several, rng.randint(1, min(3, len(several)))):
                    first = rng.choice((0, 0, 4096, 8192, 20480, 40960))
                    size = rng.choice((4096, 16384, WHOLE))
                    disk.dead.append((f"{DIRECTORY}/{name}", first, first + size))

    def mend(self) -> None:
        self.disk.dead, self.disk.read_error, self.disk.failing_reads = [], 0.0, 0

    def live(self) -> None:
        rng = self.rng
        self.fail()
        try:
            journal = open_journal(self.disk)
            assert journal.log_id == self.log_id
            self.told += journal.recovery.losses
            for _ in range(rng.randint(0, 6)):
                self.append(journal, rng.choice(PARTITIONS))
            self.told += journal.take_losses()
        except Unavailable:
            pass
        self.disk.restart(power_cut=rng.random() < 0.5)
        self.mend()

    def append(self, journal: FileJournal, partition: TopicPartition) -> None:
        value = bytes([self.rng.randrange(256)]) * self.rng.choice((40, 9000))
        offset = journal.writer(partition).append(1, None, value)
        assert (partition, offset) not in self.given, "an offset is given once"
        self.given.add((partition, offset))
        commit = journal.seal()
        assert commit is not None
        commit.write()
        journal.complete(commit)
        self.acknowledged[partition, offset] = value
        with contextlib.suppress(Unavailable, OffsetOutOfRange):
            journal.read_sync(partition, self.rng.randrange(offset + 1), bytes_max=1 << 20)

    def judge(self) -> None:
        journal = open_journal(self.disk)
        found = contents(journal)
        self.told += [*journal.recovery.losses, *journal.take_losses()]
        for (partition, offset), value in self.acknowledged.items():
            kept = found.get(partition, {}).get(offset)
            told = any(x[0] == partition and x.first <= offset <= x.last for x in self.told)
            assert kept == value or (kept is None and told), f"{partition}/{offset}"
        assert not quarantined(self.disk)


@pytest.mark.parametrize("block", range(4))
def test_lives_on_a_disk_that_cannot_be_read_now_and_then(block: int) -> None:
    for seed in range(block, 160, 4):
        life = FailingLife(seed)
        for _ in range(8):
            life.live()
        try:
            life.judge()
        except Exception as error:
            raise AssertionError(f"seed {seed}") from error

"""One thing is damaged between two lives of a crowded log: what it cost is declared, all else is there."""

from __future__ import annotations

import contextlib

import pytest

from headwater.core.errors import Unavailable
from headwater.core.journal.files import FileJournal
from headwater.core.journal.files.segment import load_footer, open_segment
from tests.core.journal_files.oracle import DIRECTORY
from tests.core.journal_files.test_compaction_cuts import CrowdedLife
from tests.sim.disk import SimCrash

BLOCK = 4096


class DamagedLife(CrowdedLife):
    """Flipped, zeroed, cut or removed, in a segment older than the newest two: FORMAT.md has more to say of those."""

    damaged = ""

    def lead(self, *, rounds: int = 3) -> None:
        for _ in range(rounds):
            self._live_until_crash()
            self.disk.clear_faults()
            if not self.damaged and self.rng.random() < 0.7:
                self._damage()
            self.check()

    def crowd(self, journal: FileJournal) -> None:
        with contextlib.suppress(Unavailable):  # what is damaged is not judged while the disk fails
            super().crowd(journal)

    def _step(self, journal: FileJournal) -> None:
        with contextlib.suppress(Unavailable):
            super()._step(journal)

    def _damage(self) -> None:
        rng, disk = self.rng, self.disk
        disk.sync_directory(
            DIRECTORY
        )  # else a name that was not durable could bring the whole file back
        standing = [name for name in disk.list(DIRECTORY) if name.endswith(".segment")][:-2]
        if not standing:
            return
        index = rng.randrange(len(standing))
        path = f"{DIRECTORY}/{standing[index]}"
        size = len(disk.bytes_of(path))
        kind = rng.choice(("flip", "flip", "head", "zeros", "cut", "gone", "footer"))
        if kind in {"head", "gone"} and index and not self._ends_itself(standing[index - 1]):
            kind = "flip"  # the header that is lost would tell where that one ends, and void what is beyond
        self.damaged = f"{kind} in {path}"
        if kind == "flip":
            disk.flip(path, rng.randrange(size), rng.randint(1, 255))
        elif kind == "head":
            disk.flip(path, rng.randrange(80), rng.randint(1, 255))
        elif kind == "footer":
            disk.flip(path, size - 1, rng.randint(1, 255))
        elif kind == "zeros":
            first = rng.randrange(max(1, size // BLOCK)) * BLOCK
            data = disk.take(path)
            zeros = bytes(min(size - first, BLOCK * rng.choice((1, 1, 3))))
            disk.put(path, data[:first] + zeros + data[first + len(zeros) :])
        elif kind == "cut":
            disk.put(path, disk.take(path)[: rng.randrange(size)])
        else:
            disk.take(path)

    def _ends_itself(self, name: str) -> bool:
        sequence = int(name.removesuffix(".segment"))
        log_id = bytes.fromhex(self._log_id)
        found = open_segment(self.disk, DIRECTORY, sequence, log_id=log_id, read_only=True)
        try:
            return load_footer(found) is not None
        finally:
            found.file.close()

    _log_id = ""

    def open(self) -> FileJournal:
        journal = super().open()
        self._log_id = journal.log_id
        return journal


@pytest.mark.parametrize("block", range(4))
def test_what_damage_cost_is_declared_and_all_else_is_there(block: int) -> None:
    damaged = compacted = 0
    for seed in range(block * 60, block * 60 + 60):
        life = DamagedLife(seed)
        try:
            life.lead(rounds=4)
        except (Exception, SimCrash) as error:
            raise AssertionError(f"seed {seed}: {life.damaged}") from error
        damaged += bool(life.damaged)
        compacted += life.compacted
    assert damaged > 40
    assert compacted > 60

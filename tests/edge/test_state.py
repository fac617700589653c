"""The state file: transactions, damage that costs itself alone, and a start that never refuses."""

from __future__ import annotations

import os
import random
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest

from headwater.core.disk import SystemDisk
from headwater.core.errors import Refused, Unavailable
from headwater.edge.broker.checkpoints import Changes, Meta, RetainedRow
from headwater.edge.state import FILE, SqliteState

META = Meta(log_id="00", covers=7, next_number=3)
ROWS = Changes(
    [(1, b"one"), (2, b"two")],
    [
        ("a", RetainedRow("a", b"payload", b"about")),
        ("ü/\ud7ff", RetainedRow("ü/\ud7ff", b"", b"")),
    ],
    META,
)


def opened(path: Path) -> SqliteState:
    return SqliteState(SystemDisk(), str(path / "state"))


def everything(state: SqliteState) -> tuple[Meta | None, list[bytes], list[RetainedRow], list[str]]:
    return state.meta(), list(state.sessions()), list(state.retained()), state.finish_reading()


def written(path: Path, changes: Changes = ROWS) -> Path:
    state = opened(path)
    assert everything(state) == (None, [], [], [])
    state.save(changes)
    state.close()
    return path / "state" / FILE


def test_what_was_saved_is_read_back(tmp_path: Path) -> None:
    written(tmp_path)
    state = opened(tmp_path)
    meta, sessions, retained, losses = everything(state)
    assert (meta, sorted(sessions), losses) == (META, [b"one", b"two"], [])
    assert sorted(retained) == sorted(row for _, row in ROWS.retained if row is not None)
    state.save(Changes([(1, None), (2, b"again")], [("a", None)]))
    state.close()
    meta, sessions, retained, losses = everything(opened(tmp_path))
    assert (meta, sessions, [row.topic for row in retained]) == (META, [b"again"], ["ü/\ud7ff"])


class Killed(BaseException):
    """The process ends here."""


class Mortal(SystemDisk):
    """Ends the process at its call of that number."""

    def __init__(self, left: int) -> None:
        self.left = left

    def _live(self) -> None:
        self.left -= 1
        if self.left < 0:
            raise Killed

    def make_directory(self, path: str) -> None:
        self._live()
        super().make_directory(path)

    def rename(self, old: str, new: str) -> None:
        self._live()
        super().rename(old, new)

    def sync_directory(self, path: str) -> None:
        self._live()
        super().sync_directory(path)


def test_a_kill_while_the_file_is_made_is_no_loss(tmp_path: Path) -> None:
    """A start said that the state was lost, and looked for notes in the newest segments alone: sessions were forgotten."""
    kills = 0
    for call in range(20):
        path = tmp_path / str(call)
        path.mkdir()
        state = SqliteState(Mortal(call), str(path / "state"))
        assert state.is_blank
        try:
            state.save(ROWS)
        except Killed:
            kills += 1
        state.close()
        state = opened(path)
        if state.is_blank:
            assert everything(state) == (None, [], [], [])
            state.save(ROWS)
            state.close()
            state = opened(path)
        assert everything(state)[0] == META
        assert not state.finish_reading()
    assert kills > 3


def test_an_empty_file_was_never_written_and_one_without_its_last_transaction_not_to_the_end(
    tmp_path: Path,
) -> None:
    path = written(tmp_path)
    path.write_bytes(b"")
    state = opened(tmp_path)
    assert state.is_blank
    assert everything(state) == (None, [], [], [])
    state.save(Changes(ROWS.sessions, []))  # of a round whose last transaction did not come
    state.close()
    state = opened(tmp_path)
    assert state.is_blank
    assert everything(state) == (None, [b"one", b"two"], [], [])


def test_what_is_gone_or_damaged_is_not_blank(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.write_bytes(b"no database" * 500)
    assert not opened(tmp_path).is_blank
    path.unlink()
    assert not opened(tmp_path).is_blank


def test_nothing_is_made_and_sqlite_is_not_loaded_where_there_is_nothing_to_keep(
    tmp_path: Path,
) -> None:
    state = opened(tmp_path)
    everything(state)
    state.close()
    assert list(tmp_path.iterdir()) == []


def test_a_row_whose_bytes_changed_costs_itself_and_is_said(tmp_path: Path) -> None:
    path = written(tmp_path)
    data = path.read_bytes()
    assert data.count(b"two") == 1
    path.write_bytes(data.replace(b"two", b"tvo"))
    state = opened(tmp_path)
    meta, sessions, retained, losses = everything(state)
    assert (meta, sessions, len(retained)) == (META, [b"one"], 2)
    assert losses == [f"session 2: its row in {path} is damaged"]
    assert state.must_rewrite


@pytest.mark.parametrize(
    "damage", [b"", b"this is no database at all" * 200, b"SQLite format 3\0" + bytes(4080)]
)
def test_a_file_that_cannot_be_read_is_put_aside_and_the_next_save_makes_a_new_one(
    tmp_path: Path, damage: bytes
) -> None:
    path = written(tmp_path)
    path.write_bytes(damage)
    state = opened(tmp_path)
    _, sessions, retained, losses = everything(state)
    assert (sessions, retained) == ([], [])
    if damage:
        assert losses
        assert any(".damaged-" in each.name for each in path.parent.iterdir())
        assert state.must_rewrite
    state.save(ROWS)
    state.close()
    assert everything(opened(tmp_path))[0] == META


def test_any_damage_anywhere_is_survived(tmp_path: Path) -> None:
    changes = Changes(
        [(number, b"s%d" % number * 40) for number in range(1, 400)],
        [(f"t/{n}", RetainedRow(f"t/{n}", b"p" * 90, b"about")) for n in range(400)],
        META,
    )
    whole = written(tmp_path, changes).read_bytes()
    for seed in range(60):
        rng = random.Random(seed)
        path = tmp_path / str(seed)
        (path / "state").mkdir(parents=True)
        data = bytearray(whole)
        for _ in range(rng.choice((1, 20, 400))):
            data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
        (path / "state" / FILE).write_bytes(
            data[: rng.choice((len(data), rng.randrange(len(data))))]
        )
        state = opened(path)
        _, sessions, retained, _ = everything(state)
        known = {row for _, row in changes.sessions}
        assert set(sessions) <= known, f"seed {seed}"
        assert all(row == changes.retained[int(row.topic[2:])][1] for row in retained)
        for attempt in range(3):  # a write may find more, and put the file aside
            try:
                state.save(changes)
                break
            except Unavailable:
                assert attempt < 2, f"seed {seed}"
        state.close()


def test_of_a_later_version_nothing_is_touched(tmp_path: Path) -> None:
    import sqlite3

    path = written(tmp_path)
    database = sqlite3.connect(path)
    database.execute("PRAGMA user_version=99")
    database.close()
    state = opened(tmp_path)
    _, sessions, _, losses = everything(state)
    assert sessions == []
    assert "version 99" in losses[0]
    assert any(".damaged-" in each.name for each in path.parent.iterdir())


@pytest.mark.parametrize("transaction", ["BEGIN", "BEGIN IMMEDIATE"])
def test_a_file_that_somebody_looks_into_at_the_start_is_no_damage(
    tmp_path: Path, transaction: str
) -> None:
    import sqlite3

    path = written(tmp_path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute(transaction)
    other.execute("SELECT * FROM session").fetchall()
    state = opened(tmp_path)
    meta, sessions, _, losses = everything(state)
    assert (meta, sorted(sessions), losses) == (META, [b"one", b"two"], [])
    other.execute("ROLLBACK")
    state.save(Changes([(3, b"three")], [], META))
    other.close()
    state.close()
    assert len(everything(opened(tmp_path))[1]) == 3


def test_a_file_that_somebody_holds_alone_is_left_as_it_is(tmp_path: Path) -> None:
    import sqlite3

    path = written(tmp_path)
    other = sqlite3.connect(path, isolation_level=None)
    other.execute("PRAGMA locking_mode=EXCLUSIVE")
    other.execute("DELETE FROM session WHERE number = 9")
    with pytest.raises(Refused, match="database is locked"):
        opened(tmp_path)
    other.close()
    assert len(everything(opened(tmp_path))[1]) == 2


@pytest.mark.parametrize("exchanged", [False, True])
def test_a_file_that_was_removed_under_a_running_edge_is_written_anew(
    tmp_path: Path, exchanged: bool
) -> None:
    path = written(tmp_path)
    state = opened(tmp_path)
    everything(state)
    path.unlink()
    if exchanged:
        path.write_bytes(b"")
    with pytest.raises(Unavailable, match="somebody removed it"):
        state.save(Changes([(3, b"three")], [], META))
    assert state.must_rewrite
    state.save(ROWS)
    state.must_rewrite = False
    path.unlink()
    assert state.must_rewrite, "also where nothing is saved"
    state.save(ROWS)
    state.close()
    assert everything(opened(tmp_path))[0] == META


def test_a_pipe_in_its_place_is_put_aside(tmp_path: Path) -> None:
    path = written(tmp_path)
    path.unlink()
    os.mkfifo(path)
    state = opened(tmp_path)
    assert everything(state)[3]
    state.save(ROWS)
    state.close()
    assert everything(opened(tmp_path))[0] == META


class Hasty(SystemDisk):
    """Waits for nothing; what was to be waited is added up."""

    waited = 0.0

    def pause(self, seconds: float) -> None:
        self.waited += seconds


class Failing:
    """A connection whose reads fail so often: each `execute`, and each row after the first of a result."""

    def __init__(self, database: sqlite3.Connection, times: list[int]) -> None:
        self._database, self._times = database, times
        self.close = database.close

    def _fail(self) -> None:
        if self._times[0] > 0:
            self._times[0] -= 1
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
            raise error

    def execute(self, query: str) -> Iterator[Any]:
        return self._rows(self._database.execute(query))

    def _rows(self, found: Iterator[Any]) -> Iterator[Any]:
        for number, row in enumerate(found):
            if number == 1:
                self._fail()
            yield row


@pytest.mark.parametrize(("times", "is_whole"), [(1, True), (4, True), (100, False)])
def test_a_read_that_fails_for_a_moment_costs_nothing(
    tmp_path: Path, times: int, is_whole: bool
) -> None:
    written(tmp_path)
    disk = Hasty()
    state = SqliteState(disk, str(tmp_path / "state"))
    assert state._database is not None
    state._database = cast("sqlite3.Connection", Failing(state._database, [times]))
    meta, sessions, _, losses = everything(state)
    assert meta == META
    assert (sessions == [b"one", b"two"]) is is_whole
    assert (losses == []) is is_whole
    assert disk.waited > 0.09
    state.close()


def test_a_file_that_cannot_be_opened_for_a_moment_is_no_damage(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    written(tmp_path)
    times = [3]
    connected = SqliteState._connected

    def fails_first(self: SqliteState, path: str, **more: Any) -> sqlite3.Connection:
        if times[0]:
            times[0] -= 1
            error = sqlite3.OperationalError("disk I/O error")
            error.sqlite_errorcode = sqlite3.SQLITE_IOERR_READ
            raise error
        return connected(self, path, **more)

    monkeypatch.setattr(SqliteState, "_connected", fails_first)
    meta, sessions, _, losses = everything(SqliteState(Hasty(), str(tmp_path / "state")))
    assert (meta, sessions, losses) == (META, [b"one", b"two"], [])

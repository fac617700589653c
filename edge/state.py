"""Kept sessions and retained messages on disk: one SQLite file, written in transactions, off the loop.

    data_dir/state/state.db            and SQLite's -wal beside it
    data_dir/state/state.db.damaged-N  put aside: what could be read of it was
    data_dir/state.new/                on its way: the directory gets its name when its file is whole

`synchronous=FULL`: a transaction that returned survives a power cut. At the end of a round what is in the write-ahead log
goes into the file, because SQLite takes a log that was cut or lost for one that never was, and says nothing.

Each row has a checksum of its own, because SQLite trusts what it reads: a bad row costs itself. A file that SQLite cannot
read costs what it could not give; it is put aside, said, and a new one is written in its place from what was read.
No damage keeps the edge from starting. One that was removed, or exchanged, under a running edge is written anew.

The file is ours alone (`locking_mode=EXCLUSIVE`), but whoever looks into it with a tool of SQLite's may have it open when
the edge starts: it is then shared, since a lock is no damage. Only one who holds it alone, or a file without permission,
keeps the edge from starting.

SQLite is loaded only where there is such a file, or something to put into one. Knows nothing of MQTT: rows are bytes.
"""

from __future__ import annotations

import contextlib
import threading
import zlib
from collections.abc import Iterator
from itertools import islice
from typing import TYPE_CHECKING, Any

from ..core.disk import Disk, NotAFile, number_of
from ..core.errors import HeadwaterError, Missing, Refused, Unavailable
from .broker.checkpoints import Changes, Meta, RetainedRow

if TYPE_CHECKING:
    import sqlite3

SCHEMA_VERSION = 1
FILE = "state.db"
DAMAGED = ".damaged-"
# Damaged files kept for a person to look at.
ASIDE_MAX = 4
# The whole of it in memory is 20 MiB at its limits; SQLite's own cache need not repeat it.
_CACHE_KIB = 256
# For whoever has the file open to be done with it, before it is shared.
_OURS_ALONE_S = 0.5
_SHARED_S = 5.0
# A read that fails is repeated after so long, before what it asked for counts as lost.
_READ_AGAIN_S = (0.1, 0.3, 1.0, 3.0)
_SCHEMA = """
CREATE TABLE meta (id INTEGER PRIMARY KEY CHECK (id = 1), log_id TEXT, covers INTEGER, next_number INTEGER);
CREATE TABLE session (number INTEGER PRIMARY KEY, state BLOB, crc INTEGER);
CREATE TABLE retained (topic TEXT PRIMARY KEY, payload BLOB, about BLOB, crc INTEGER) WITHOUT ROWID;
"""
_MAKE = f"BEGIN; {_SCHEMA} PRAGMA user_version={SCHEMA_VERSION}; COMMIT;"


class SqliteState:
    """Implements StateStore. Used by one thread at a time, not always the same."""

    def __init__(self, disk: Disk, directory: str) -> None:
        self._disk = disk
        self._directory = directory
        self._path = f"{directory}/{FILE}"
        self._database: sqlite3.Connection | None = None
        self._losses: list[str] = []
        # a stop may cancel who waits for a save, not the save: the last one waits for it here
        self._writing = threading.Lock()
        self._damaged = False
        self._was_lost = False
        self._must_rewrite = False
        self._opened: tuple[int, int] | None = None
        try:
            names = disk.list(directory)
        except HeadwaterError:
            return  # nothing was ever put into it
        if FILE in names:
            self._open_existing()
        elif not any(DAMAGED in name for name in names):
            self._was_lost = True
            self._losses.append(f"{self._path}: it is not there, and its directory is")

    @property
    def is_blank(self) -> bool:
        """No round was ever written to its end, and nothing says that one was: all notes are still in the log."""
        return self.meta() is None and not self._damaged and not self._was_lost

    # --- reading -----------------------------------------------------------------------------------------------

    def _open_existing(self) -> None:
        import sqlite3

        try:  # without permission is no damage, and a pipe would be waited for
            self._disk.open(self._path).close()
        except (Missing, NotAFile) as error:
            self._give_up(str(error))
            return
        except Unavailable:
            pass  # SQLite says in what way
        for seconds in (*_READ_AGAIN_S, None):
            try:
                self._look_into_it()
                return
            except sqlite3.Error as error:
                self._disconnect()
                if seconds is None or not _is_unread(error):
                    self._give_up(str(error))
                    return
            self._disk.pause(seconds)

    def _look_into_it(self) -> None:
        self._database = self._connect(self._path)
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        (tables,) = self._database.execute("SELECT count(*) FROM sqlite_master").fetchone()
        if not version and not tables:
            self._disconnect()  # the process ended before it was made
        elif version != SCHEMA_VERSION:
            self._give_up(f"it is of version {version}, this is {SCHEMA_VERSION}")
            self._disconnect()

    def _connect(self, path: str) -> sqlite3.Connection:
        """Raises Refused where another process has it for itself alone."""
        try:
            return self._connected(path, locking="EXCLUSIVE", patience_s=_OURS_ALONE_S)
        except BlockingIOError:
            pass
        try:
            return self._connected(path, locking="NORMAL", patience_s=_SHARED_S)
        except BlockingIOError as error:
            raise Refused(f"{path}: {error}", hint="close what else has this file open") from None

    def _connected(self, path: str, *, locking: str, patience_s: float) -> sqlite3.Connection:
        """Raises BlockingIOError where somebody else's lock is in the way."""
        import sqlite3

        database = sqlite3.connect(
            path, timeout=patience_s, isolation_level=None, check_same_thread=False
        )
        database.text_factory = lambda data: data.decode("utf-8", "surrogateescape")
        try:
            for pragma in (
                f"locking_mode={locking}",  # nobody else's file; saves the shared-memory file
                "journal_mode=WAL",
                "synchronous=FULL",
                f"cache_size=-{_CACHE_KIB}",
                "journal_size_limit=1048576",
                "user_version",  # the first look takes the lock
            ):
                database.execute(f"PRAGMA {pragma}").fetchall()
            self._opened = number_of(path)
        except BaseException as error:
            database.close()
            if isinstance(error, sqlite3.OperationalError) and _is_busy(error):
                raise BlockingIOError(str(error)) from error
            if isinstance(error, Unavailable):
                raise sqlite3.OperationalError(str(error)) from error
            raise
        return database

    def _give_up(self, why: str) -> None:
        self._damaged = True
        self._losses.append(f"{self._path}: {why}")

    def meta(self) -> Meta | None:
        found = None
        for row in self._rows("SELECT log_id, covers, next_number FROM meta"):
            found = row
        if found is None or not isinstance(found[1], int) or not isinstance(found[2], int):
            return None
        return Meta(log_id=str(found[0]), covers=found[1], next_number=found[2])

    def sessions(self) -> Iterator[bytes]:
        for number, state, crc in self._rows("SELECT number, state, crc FROM session"):
            if isinstance(state, bytes) and _crc(number, state) == crc:
                yield state
            else:
                self._bad_row(f"session {number}")

    def retained(self) -> Iterator[RetainedRow]:
        for topic, payload, about, crc in self._rows(
            "SELECT topic, payload, about, crc FROM retained"
        ):
            whole = isinstance(payload, bytes) and isinstance(about, bytes)
            if whole and _crc(topic, payload, about) == crc:
                yield RetainedRow(topic, payload, about)
            else:
                self._bad_row(f"retained {topic!r}")

    def _bad_row(self, what: str) -> None:
        self._losses.append(f"{what}: its row in {self._path} is damaged")
        self.must_rewrite = True

    def _rows(self, query: str) -> Iterator[tuple[Any, ...]]:
        if self._database is None:
            return
        import sqlite3

        pauses, taken = iter(_READ_AGAIN_S), 0
        while True:
            try:
                for row in islice(self._database.execute(query), taken, None):
                    yield row
                    taken += 1
                return
            except (sqlite3.Error, UnicodeError) as error:
                seconds = next(pauses, None) if _is_unread(error) else None
                if seconds is None:
                    self._give_up(f"{query.rpartition(' ')[2]}: {error}")
                    return
            self._disk.pause(seconds)

    def finish_reading(self) -> list[str]:
        if self._damaged:
            self._put_aside()
        losses, self._losses = self._losses, []
        return losses

    def _put_aside(self) -> None:
        """The damaged file out of the way; what was read of it must be written anew."""
        self._disconnect()
        self._damaged = False
        self.must_rewrite = True
        try:
            aside = [name for name in self._disk.list(self._directory) if DAMAGED in name]
            numbers = [int(n) for name in aside if (n := name.rpartition("-")[2]).isdigit()]
            name = f"{FILE}{DAMAGED}{max(numbers, default=0) + 1}"
            for oldest in sorted(aside)[: len(aside) + 1 - ASIDE_MAX]:
                self._disk.remove(f"{self._directory}/{oldest}")
            self._disk.rename(self._path, f"{self._directory}/{name}")
            for companion in ("-wal", "-shm", "-journal"):
                self._disk.remove(self._path + companion)
            self._disk.sync_directory(self._directory)
            self._losses.append(f"the damaged file is kept as {name}")
        except HeadwaterError as error:
            self._losses.append(f"the damaged file cannot be put aside: {error}")

    @property
    def must_rewrite(self) -> bool:
        if self._writing.acquire(blocking=False):  # a save under way looks itself
            try:
                self._let_go_of_what_is_gone()
            finally:
                self._writing.release()
        return self._must_rewrite

    @must_rewrite.setter
    def must_rewrite(self, value: bool) -> None:
        self._must_rewrite = value

    def _let_go_of_what_is_gone(self) -> None:
        """A file without its name takes everything, and nobody will ever read it."""
        if self._database is None:
            return
        try:
            is_there = number_of(self._path) == self._opened
        except Unavailable:
            return  # the disk is in trouble: what is written next says so
        if not is_there:
            self._disconnect()
            self._must_rewrite = True

    # --- writing -----------------------------------------------------------------------------------------------

    def save(self, changes: Changes) -> None:
        with self._writing:
            self._save(changes)

    def _save(self, changes: Changes) -> None:
        import sqlite3

        had_file = self._database is not None
        self._let_go_of_what_is_gone()
        if had_file and self._database is None:
            raise Unavailable(f"{self._path}: somebody removed it; all of it is written again")
        try:
            if self._database is None:
                self._create()
            assert self._database is not None
            self._database.execute("BEGIN IMMEDIATE")
            try:
                self._write(self._database, changes)
                self._database.execute("COMMIT")
            except sqlite3.Error:
                if self._database.in_transaction:
                    self._database.execute("ROLLBACK")
                raise
            if changes.meta is not None:  # the last of a round: see the theory above
                self._database.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        except sqlite3.OperationalError as error:  # full, read-only, input/output error: may pass
            self._disconnect()
            raise Unavailable(f"cannot write {self._path}: {error}") from error
        except sqlite3.Error as error:  # its bytes are not what SQLite wrote
            self._put_aside()
            raise Unavailable(f"cannot write {self._path}: {error}") from error

    def _create(self) -> None:
        # where nothing is mounted there is no data directory, and none is to be made
        parent = self._directory.rpartition("/")[0] or "."
        if self._directory.rpartition("/")[2] not in self._disk.list(parent):
            self._create_directory(parent)
        self._database = self._connect(self._path)
        (version,) = self._database.execute("PRAGMA user_version").fetchone()
        if version == 0:  # in the place of one that was put aside
            self._database.executescript(_MAKE)
            self._disk.sync_directory(self._directory)

    def _create_directory(self, parent: str) -> None:
        """With an empty file in it, or not at all: a directory without one tells of a loss."""
        coming = f"{self._directory}.new"
        self._disk.make_directory(coming)
        for name in self._disk.list(coming):
            self._disk.remove(f"{coming}/{name}")
        database = self._connect(f"{coming}/{FILE}")
        try:
            database.executescript(_MAKE)
        finally:
            database.close()
        self._disk.sync_directory(coming)
        self._disk.rename(coming, self._directory)
        self._disk.sync_directory(parent)

    def _write(self, database: sqlite3.Connection, changes: Changes) -> None:
        database.executemany(
            "DELETE FROM session WHERE number = ?",
            [(number,) for number, state in changes.sessions if state is None],
        )
        database.executemany(
            "INSERT OR REPLACE INTO session VALUES (?, ?, ?)",
            [
                (number, state, _crc(number, state))
                for number, state in changes.sessions
                if state is not None
            ],
        )
        database.executemany(
            "DELETE FROM retained WHERE topic = ?",
            [(topic,) for topic, row in changes.retained if row is None],
        )
        database.executemany(
            "INSERT OR REPLACE INTO retained VALUES (?, ?, ?, ?)",
            [(*row, _crc(*row)) for _, row in changes.retained if row is not None],
        )
        if changes.meta is not None:
            meta = changes.meta
            database.execute(
                "INSERT OR REPLACE INTO meta VALUES (1, ?, ?, ?)",
                (meta.log_id, meta.covers, meta.next_number),
            )

    def _disconnect(self) -> None:
        import sqlite3

        database, self._database = self._database, None
        if database is not None:
            with contextlib.suppress(sqlite3.Error):
                database.close()

    def close(self) -> None:
        with self._writing:
            if self._database is not None:
                self._disconnect()


def _is_busy(error: sqlite3.OperationalError) -> bool:
    import sqlite3

    return error.sqlite_errorcode & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)


def _is_unread(error: Exception) -> bool:
    """An error of the device, which is not known to be damage: it may be over in a moment."""
    import sqlite3

    return (
        isinstance(error, sqlite3.OperationalError)
        and error.sqlite_errorcode & 0xFF == sqlite3.SQLITE_IOERR
        and error.sqlite_errorcode != sqlite3.SQLITE_IOERR_SHORT_READ  # the file was cut
    )


def _crc(*parts: object) -> int:
    crc = 0
    for part in parts:
        data = part if isinstance(part, bytes) else str(part).encode("utf-8", "surrogateescape")
        crc = zlib.crc32(data, zlib.crc32(len(data).to_bytes(4, "little"), crc))
    return crc

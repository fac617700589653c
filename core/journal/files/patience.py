"""Reads that fail are repeated: a second in all, then they stand.

Wrong bytes are damage, and reading them again is no use. An error on a read (EIO) is not known to be damage: a card that
is busy with itself or a USB disk that resets answers so for some seconds and then goes on; a dead sector answers so for
ever. So whatever reads for the journal reads by this: again after a pause that doubles, as long as patience lasts. It is
one for the whole journal and not one for each file: a start of a thousand bad files waits no longer than a start of
one. Used up, it is whole again a minute later.

A name that is not there is looked for in its directory before that is believed, and permission is asked for twice:
file systems on a network, and those that reset, answer ENOENT or EACCES once for a file that stands.

What still fails is for the caller to judge (FORMAT.md, "What cannot be read").
"""

from __future__ import annotations

from collections.abc import Callable

from ...clock import Clock
from ...disk import Disk, File, Lock, NotAFile
from ...errors import HeadwaterError, Missing, Refused, Unavailable

PATIENCE_S = 1.0
_AGAIN_AFTER_S = 60.0
_PAUSES_S = (0.01, 0.04, 0.1, 0.25)  # of one read


class _Patience:
    def __init__(self, pause: Callable[[float], None], clock: Clock) -> None:
        self._pause, self._clock = pause, clock
        self._left = PATIENCE_S
        self._used = clock.monotonic()

    def wait(self, attempt: int) -> bool:
        """Whether it may be tried again, after a pause."""
        if attempt >= len(_PAUSES_S):
            return False
        now = self._clock.monotonic()
        if now - self._used >= _AGAIN_AFTER_S:
            self._left = PATIENCE_S
        seconds = _PAUSES_S[attempt]
        if seconds > self._left:
            return False
        self._left -= seconds
        self._used = now
        self._pause(seconds)
        return True


class _PatientFile:
    def __init__(self, file: File, patience: _Patience) -> None:
        self._file, self._patience = file, patience
        self.write, self.sync = file.write, file.sync
        self.drop_cache, self.size, self.close = file.drop_cache, file.size, file.close

    @property
    def path(self) -> str:
        return self._file.path

    def read(self, position: int, size: int) -> bytes:
        attempt = 0
        while True:
            try:
                return self._file.read(position, size)
            except Unavailable:
                if not self._patience.wait(attempt):
                    raise
                attempt += 1


class PatientDisk:
    """A disk on which opening and reading are repeated."""

    def __init__(self, disk: Disk, clock: Clock) -> None:
        self._disk = disk
        self._patience = _Patience(disk.pause, clock)

    def open(self, path: str, *, read_only: bool = False) -> File:
        attempt = 0
        while True:
            try:
                return _PatientFile(self._disk.open(path, read_only=read_only), self._patience)
            except NotAFile:
                raise
            except Missing as error:
                self._must_be_listed(path, error)
                if not self._patience.wait(attempt):
                    raise Unavailable(f"{error}, although it is listed") from error
            except (Refused, Unavailable):
                if not self._patience.wait(attempt):
                    raise
            attempt += 1

    def _must_be_listed(self, path: str, error: Missing) -> None:
        directory, _, name = path.rpartition("/")
        try:
            names = self._disk.list(directory)
        except HeadwaterError:
            raise error from None
        if name not in names:
            raise error

    def create(self, path: str) -> File:
        return _PatientFile(self._disk.create(path), self._patience)

    def make_directory(self, path: str) -> None:
        self._disk.make_directory(path)

    def list(self, path: str) -> list[str]:
        return self._disk.list(path)

    def rename(self, old: str, new: str) -> None:
        self._disk.rename(old, new)

    def link(self, old: str, new: str) -> None:
        self._disk.link(old, new)

    def remove(self, path: str) -> None:
        self._disk.remove(path)

    def sync_directory(self, path: str) -> None:
        self._disk.sync_directory(path)

    def free_bytes(self, path: str) -> int:
        return self._disk.free_bytes(path)

    def copies_on_write(self, path: str) -> bool:
        return self._disk.copies_on_write(path)

    def lock(self, path: str) -> Lock:
        return self._disk.lock(path)

    def pause(self, seconds: float) -> None:
        self._disk.pause(seconds)

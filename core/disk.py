"""The disk, passed in: the only module of the journal that makes system calls on files.

What is promised, and by which call:
  `File.write`            bytes reach the page cache; nothing is promised about a power cut, nor about order
  `File.sync`             (fdatasync) all earlier writes to this file survive a power cut, or it raises
  `Disk.sync_directory`   (fsync) all earlier creations, renames and removals in the directory survive
After `sync` raised, the file is suspect for good: Linux marks the pages clean, so repeating it would succeed without
having written anything (ATC'20, Rebello et al.). Callers write the data elsewhere; nobody calls `sync` twice.

Every OSError becomes one of our errors with the path in it: a full disk is `DiskFull`, a missing file `Missing`, no
permission `Refused`, a directory or a pipe in a file's place `NotAFile`, all else (EIO, EROFS, ...) `Unavailable`. Of a
file that is open there is nothing but `DiskFull` and `Unavailable`: it was found and permitted, and what a file that was
made immutable, or one on a network, answers afterwards (EPERM, EACCES, ENOENT) may pass. Simulation passes another disk
(tests/sim/disk.py).
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import threading
from collections.abc import Iterator
from typing import Protocol

from .errors import AlreadyExists, HeadwaterError, Missing, Refused, Unavailable

# pwrite(2) may write less than asked; the loop below ends because each turn makes progress or raises.
_ZEROS = bytes(256 * 1024)
_FILE_MODE = 0o640
_DIRECTORY_MODE = 0o750
# In-place overwriting buys nothing where each write goes to a new place anyway (PostgreSQL: wal_recycle = off).
_COPY_ON_WRITE = frozenset({"btrfs", "zfs", "bcachefs"})


class DiskFull(Unavailable):
    """No space or quota left; nothing that was durable is lost, the call may be repeated when there is room."""


class NotAFile(Refused):
    """Something else stands where a file should be: damage of the file system, not a mistake of the caller's."""


class File(Protocol):
    """An open file. Reads and writes name their position; there is no cursor, so threads may share one."""

    @property
    def path(self) -> str: ...

    def read(self, position: int, size: int) -> bytes:
        """Up to `size` bytes; fewer only at the end of the file. Raises Unavailable."""

    def write(self, position: int, data: bytes) -> None:
        """All of `data`, or raises DiskFull or Unavailable with any part of it written."""

    def sync(self) -> None:
        """fdatasync. Raises Unavailable; then never trust this file's unsynced bytes, and never call it again. So it does
        for a file that has no name any more: nobody will ever read it."""

    def drop_cache(self) -> None:
        """Forget clean cached pages, so that the next read shows what the medium holds. Advisory; never raises."""

    def size(self) -> int: ...

    def close(self) -> None: ...


class Lock(Protocol):
    def release(self) -> None: ...


class Disk(Protocol):
    """Names are whole paths. Directory operations are durable after `sync_directory` alone."""

    def make_directory(self, path: str) -> None:
        """With its parents; no error where it is there. Durable on return."""

    def list(self, path: str) -> list[str]:
        """File names, sorted. Raises Missing."""

    def create(self, path: str) -> File:
        """Raises AlreadyExists, DiskFull, Unavailable, Refused."""

    def open(self, path: str, *, read_only: bool = False) -> File:
        """Raises Missing, Unavailable, Refused."""

    def rename(self, old: str, new: str) -> None:
        """Atomic; replaces `new`, and puts aside a directory that stands there. Raises Missing, Unavailable."""

    def link(self, old: str, new: str) -> None:
        """A second name for a file. Raises AlreadyExists, Missing, Unavailable; Refused where there is no such thing."""

    def remove(self, path: str) -> None:
        """No error where there is no such file; a directory in its place is put aside."""

    def sync_directory(self, path: str) -> None: ...

    def free_bytes(self, path: str) -> int:
        """What an unprivileged writer may still allocate."""

    def copies_on_write(self, path: str) -> bool: ...

    def pause(self, seconds: float) -> None:
        """Before a device is asked again. Simulation does not wait."""

    def lock(self, path: str) -> Lock:
        """Take the lock file for this process. Raises Refused, naming the holder, where another has it."""


def read_whole(disk: Disk, path: str, *, bytes_max: int = 64 * 1024 * 1024) -> bytes:
    """A small file's bytes. Raises Missing, Unavailable, Refused where it is larger than a small file."""
    file = disk.open(path, read_only=True)
    try:
        if (size := file.size()) > bytes_max:
            raise Refused(f"{path} has {size} bytes, more than {bytes_max}")
        return file.read(0, size)
    finally:
        file.close()


def replace_whole(disk: Disk, path: str, data: bytes) -> None:
    """Write a small file so that a power cut leaves the old or the new bytes, never a mixture; durable on return."""
    directory = path.rpartition("/")[0] or "."
    temporary = f"{path}.tmp"
    disk.remove(temporary)
    file = disk.create(temporary)
    try:
        file.write(0, data)
        file.sync()
    except Unavailable:
        with contextlib.suppress(Unavailable, Refused):
            disk.remove(temporary)
        raise
    finally:
        file.close()
    disk.rename(temporary, path)
    disk.sync_directory(directory)


def write_zeros(file: File, size: int) -> None:
    """Fill with written zeros: allocated *and* initialised, which posix_fallocate is not (unwritten extents cost
    a metadata commit at the first sync of each block)."""
    for position in range(0, size, len(_ZEROS)):
        file.write(position, _ZEROS[: min(len(_ZEROS), size - position)])


def number_of(path: str) -> tuple[int, int] | None:
    """Device and inode of what stands there: for who gives a path to a library that opens it by itself. None where there
    is nothing. Raises Unavailable."""
    with _reported(path, "stat", is_open=True):
        try:
            found = os.stat(path)
        except FileNotFoundError:
            return None
        return found.st_dev, found.st_ino


class SystemDisk:
    """The real one."""

    def make_directory(self, path: str) -> None:
        path = os.path.abspath(path)
        missing = []
        while not os.path.isdir(path):
            missing.append(path)
            path = os.path.dirname(path)
        for child in reversed(missing):
            with _reported(child, "make directory"), contextlib.suppress(FileExistsError):
                os.mkdir(child, _DIRECTORY_MODE)
            self.sync_directory(os.path.dirname(child))

    def list(self, path: str) -> list[str]:
        with _reported(path, "list"):
            return sorted(os.listdir(path))

    def create(self, path: str) -> File:
        with _reported(path, "create"):
            flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
            return _SystemFile(path, os.open(path, flags, _FILE_MODE))

    def open(self, path: str, *, read_only: bool = False) -> File:
        with _reported(path, "open"):
            # a pipe in its place would be waited for until somebody writes into it
            flags = (os.O_RDONLY if read_only else os.O_RDWR) | os.O_CLOEXEC | os.O_NONBLOCK
            file = _SystemFile(path, os.open(path, flags))
            if not file.is_regular():
                file.close()
                raise NotAFile(f"cannot open: {path}: not a file")
            return file

    def rename(self, old: str, new: str) -> None:
        with _reported(old, f"rename to {new}"):
            try:
                os.rename(old, new)
            except IsADirectoryError:
                _put_aside(new)
                os.rename(old, new)

    def link(self, old: str, new: str) -> None:
        with _reported(old, f"link to {new}"):
            os.link(old, new)

    def remove(self, path: str) -> None:
        with _reported(path, "remove"), contextlib.suppress(FileNotFoundError):
            try:
                os.unlink(path)
            except IsADirectoryError:
                _put_aside(path)

    def sync_directory(self, path: str) -> None:
        with _reported(path, "sync directory"):
            descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(descriptor)
            finally:
                os.close(descriptor)

    def free_bytes(self, path: str) -> int:
        with _reported(path, "statfs"):
            status = os.statvfs(path)
            return status.f_bavail * status.f_frsize

    def copies_on_write(self, path: str) -> bool:
        return _file_system(path) in _COPY_ON_WRITE

    def pause(self, seconds: float) -> None:
        threading.Event().wait(seconds)

    def lock(self, path: str) -> Lock:
        directory = os.path.dirname(os.path.abspath(path))
        with _reported(path, "lock"), contextlib.ExitStack() as undo:
            descriptor = _open_lock(path)
            undo.callback(os.close, descriptor)
            # the directory as well: whoever tidies up may remove a file that nobody seems to need, and a lock
            # that was made in its place would lock nothing
            above = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            undo.callback(os.close, above)
            if not (_flock(descriptor) and _flock(above)):
                holder = os.pread(descriptor, 32, 0).decode("ascii", "replace").strip()
                raise Refused(
                    f"data directory {directory} is in use by process {holder or 'unknown'}",
                    hint=f"stop process {holder}, or give another --data-dir" if holder else None,
                )
            # the pid is a courtesy to the reader of the message: a full disk must not keep us from starting
            with contextlib.suppress(OSError):
                os.ftruncate(descriptor, 0)
                os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
            undo.pop_all()
            return _SystemLock(descriptor, above)


class _SystemFile:
    def __init__(self, path: str, descriptor: int) -> None:
        self._path = path
        self._descriptor = descriptor

    @property
    def path(self) -> str:
        return self._path

    def read(self, position: int, size: int) -> bytes:
        with _reported(self._path, f"read {size} bytes at {position}", is_open=True):
            data = os.pread(self._descriptor, size, position)
            while 0 < len(data) < size:  # pread may return less before the end, too
                more = os.pread(self._descriptor, size - len(data), position + len(data))
                if not more:
                    break
                data += more
            return data

    def write(self, position: int, data: bytes) -> None:
        try:  # not `_reported`, here and in `sync`: the two are called for each commit
            written = os.pwrite(self._descriptor, data, position)
            while written < len(data):
                view = memoryview(data)[written:]
                written += os.pwrite(self._descriptor, view, position + written)
        except OSError as error:
            action = f"write {len(data)} bytes at {position}"
            raise _reason_of_open(error, self._path, action) from error

    def sync(self) -> None:
        try:
            os.fdatasync(self._descriptor)
            has_name = os.fstat(self._descriptor).st_nlink > 0 or self._is_named()
        except OSError as error:
            raise _reason_of_open(error, self._path, "fdatasync") from error
        if not has_name:
            raise Unavailable(f"cannot fdatasync: {self._path}: somebody removed it")

    def _is_named(self) -> bool:
        """Whether it is what stands there: some file systems count no names."""
        try:
            return os.path.samestat(os.stat(self._path), os.fstat(self._descriptor))
        except OSError:
            return False

    def drop_cache(self) -> None:
        with contextlib.suppress(OSError):
            os.posix_fadvise(self._descriptor, 0, 0, os.POSIX_FADV_DONTNEED)

    def size(self) -> int:
        with _reported(self._path, "stat", is_open=True):
            return os.fstat(self._descriptor).st_size

    def is_regular(self) -> bool:
        with _reported(self._path, "stat", is_open=True):
            return stat.S_ISREG(os.fstat(self._descriptor).st_mode)

    def close(self) -> None:
        if self._descriptor >= 0:
            descriptor, self._descriptor = self._descriptor, -1
            with contextlib.suppress(
                OSError
            ):  # a deferred error was reported by sync, or concerns unpromised bytes
                os.close(descriptor)

    __del__ = close  # whoever drops the last reference is done with it


class _SystemLock:
    """flock is released by the kernel however the process ends, so a stale lock file locks nothing."""

    def __init__(self, *descriptors: int) -> None:
        self._descriptors = descriptors

    def release(self) -> None:
        descriptors, self._descriptors = self._descriptors, ()
        for descriptor in descriptors:
            with contextlib.suppress(OSError):  # it is closed all the same
                os.close(descriptor)


def _open_lock(path: str) -> int:
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NONBLOCK
    try:
        return os.open(path, flags, _FILE_MODE)
    except OSError as error:
        if error.errno not in (errno.EISDIR, errno.ENXIO):  # ENXIO: a socket
            raise
        _put_aside(path)
        return os.open(path, flags, _FILE_MODE)


def _flock(descriptor: int) -> bool:
    """Whether nobody else has it; true where a file system has no such lock for this kind of file."""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError as error:
        if error.errno not in (errno.EBADF, errno.EINVAL, errno.ENOTSUP, errno.ENOLCK):
            raise
    return True


def _put_aside(path: str) -> None:
    """A directory where a file of ours should be: damage, which must keep nobody from starting."""
    os.rename(path, f"{path}.{os.getpid()}.damaged")


@contextlib.contextmanager
def _reported(path: str, action: str, *, is_open: bool = False) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        reason = _reason_of_open if is_open else _reason
        raise reason(error, path, action) from error


def _reason_of_open(error: OSError, path: str, action: str) -> HeadwaterError:
    found = _reason(error, path, action)
    return found if isinstance(found, Unavailable) else Unavailable(str(found))


def _reason(error: OSError, path: str, action: str) -> HeadwaterError:
    reason = os.strerror(error.errno).lower() if error.errno else str(error)
    message = f"cannot {action}: {path}: {reason}"
    match error.errno:
        case errno.ENOSPC | errno.EDQUOT:
            return DiskFull(message)
        case errno.ENOENT:
            return Missing(message)
        case errno.EEXIST:
            return AlreadyExists(message)
        case errno.EISDIR | errno.ELOOP | errno.ENXIO:  # ENXIO: a socket
            return NotAFile(message)
        case errno.EACCES | errno.EPERM | errno.ENOTDIR | errno.ENAMETOOLONG:
            return Refused(message)
        case _:
            return Unavailable(message)


def _file_system(path: str) -> str:
    """The file system's type by the mount table; empty where it cannot be told (statfs is not in the stdlib)."""
    try:
        with open("/proc/self/mountinfo", encoding="utf-8", errors="replace") as mounts:
            lines = mounts.readlines()
    except OSError:
        return ""
    # by the longest mount point above the path: a btrfs subvolume's st_dev stands in no mount line
    real = os.path.realpath(path)
    best, kind = "", ""
    for line in lines:
        fields, _, tail = line.partition(" - ")
        words = fields.split(" ")
        if len(words) < 5 or not tail:
            continue
        mount_point = words[4].replace("\\040", " ")
        above = real == mount_point or real.startswith(mount_point.rstrip("/") + "/")
        if above and len(mount_point) >= len(best):
            best, kind = mount_point, tail.split(" ", 1)[0]
    return kind

"""An object store in a local directory: the embedded default, and the only file here that touches the file system.

Create-if-absent is `link(2)`: the object is written and synced under a temporary name, then linked to its key, which
fails when the key is taken; a reader sees the whole object or none. Where a file system has no hard links,
`renameat2(RENAME_NOREPLACE)` does the same. Then the directory is synced: now it is durable.

What is overwritten or removed is so under one lock file (`flock`), which makes If-Match safe between processes. An
etag is the file's inode, modification time and size; times are made to differ, so that a replaced object never has
an etag it had before.

`.headwater/` under the root is ours (lock, temporary files) and never listed. Temporary files that a crash left are
removed once they are an hour old by the file system's own clock.
"""

from __future__ import annotations

import asyncio
import contextlib
import ctypes
import errno
import fcntl
import os
import random
import tempfile
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

from ..errors import AlreadyExists, Missing, Refused, Unavailable, Unknown
from . import ObjectInfo, ObjectStore, StoredObject

T = TypeVar("T")
_Page = list[ObjectInfo]  # inside the class `list` is the method

_PRIVATE = ".headwater"
_TEMPORARY_AGE_NS = 3600 * 10**9
_THREADS = 8  # fsyncs wait for the device, so a few at once pay even on one core
_NO_LINKS = {errno.EPERM, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK}
# Where a directory cannot be ours until somebody changes something. A mount that is not there yet is none of these.
_NEVER = {errno.ENOTDIR, errno.EEXIST, errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG}
_AT_FDCWD = -100
_RENAME_NOREPLACE = 1


def check_key(key: str) -> str:
    """Relative, `/`-separated, no empty, `.` or `..` part, nothing of ours, no NUL. Raises Refused."""
    parts = key.split("/")
    if any(part in {"", ".", ".."} for part in parts) or "\0" in key or parts[0] == _PRIVATE:
        raise Refused(f"object key {key!r} is not a relative path of plain names")
    return key


class DirectoryStore(ObjectStore):
    """Calls run in a few threads of its own, so that an fsync does not stop the event loop."""

    def __init__(self, root: str | Path, *, rng: random.Random) -> None:
        """Makes the directory where it is missing. Raises Unavailable; Refused where waiting mends nothing."""
        self._root = Path(root).absolute()
        self._rng = rng
        self._temporary = self._root / _PRIVATE / "tmp"
        self._lock = self._root / _PRIVATE / "lock"
        try:
            self._temporary.mkdir(parents=True, exist_ok=True)
            self._lock.touch()
            self._collect_temporary()
        except OSError as error:
            if error.errno in _NEVER:
                raise Refused(f"{self._root}: {error.strerror}") from error
            raise Unavailable(f"{self._root}: {error.strerror or error}") from error
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="objects")

    @property
    def location(self) -> str:
        return str(self._root)

    async def put_if_absent(self, key: str, data: bytes) -> str:
        return await self._call(self._create, check_key(key), data)

    async def put(self, key: str, data: bytes) -> str:
        return await self._call(self._overwrite, check_key(key), data, None)

    async def replace(self, key: str, data: bytes, *, etag: str) -> str:
        return await self._call(self._overwrite, check_key(key), data, etag)

    async def get(self, key: str, *, start: int = 0, size: int | None = None) -> StoredObject:
        return await self._call(self._read, check_key(key), start, size)

    async def head(self, key: str) -> ObjectInfo | None:
        return await self._call(self._stat, check_key(key))

    async def delete(self, key: str) -> None:
        await self._call(self._remove, check_key(key))

    async def list(self, prefix: str, *, after: str = "", limit: int = 1000) -> list[ObjectInfo]:
        return await self._call(self._listing, prefix, after, limit)

    async def close(self) -> None:
        self._threads.shutdown(wait=True)

    async def _call(self, work: Callable[..., T], /, *arguments: object) -> T:
        return await asyncio.get_running_loop().run_in_executor(self._threads, work, *arguments)

    def _create(self, key: str, data: bytes) -> str:
        target = self._root / key
        temporary, etag = self._write_temporary(key, data, newer_than=0)
        try:
            self._make_parents(target.parent)
            _take_name(temporary, target)
        except FileExistsError:
            raise AlreadyExists(f"{target}: exists") from None
        except OSError as error:
            raise Unavailable(f"{target}: {error.strerror or error}") from error
        finally:
            temporary.unlink(missing_ok=True)
        self._sync_directory(target.parent)
        return etag

    def _overwrite(self, key: str, data: bytes, etag: str | None) -> str:
        target = self._root / key
        with self._locked():
            held = self._stat(key)
            if etag is not None:
                if held is None:
                    raise Missing(f"{target}: no such object")
                if held.etag != etag:
                    raise AlreadyExists(f"{target}: changed by another writer")
            newer_than = target.stat().st_mtime_ns if held is not None else 0
            temporary, made = self._write_temporary(key, data, newer_than=newer_than)
            try:
                self._make_parents(target.parent)
                os.replace(temporary, target)
            except OSError as error:
                temporary.unlink(missing_ok=True)
                raise Unavailable(f"{target}: {error.strerror or error}") from error
            self._sync_directory(target.parent)
            return made

    def _read(self, key: str, start: int, size: int | None) -> StoredObject:
        path = self._root / key
        try:
            with path.open("rb") as file:
                file.seek(start)
                data = file.read() if size is None else file.read(size)
                return StoredObject(data, _etag(os.fstat(file.fileno())))
        except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
            raise Missing(f"{path}: no such object") from None
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror or error}") from error

    def _stat(self, key: str) -> ObjectInfo | None:
        path = self._root / key
        try:
            found = path.stat()
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            raise Unavailable(f"{path}: {error.strerror or error}") from error
        return _info(key, found) if path.is_file() else None

    def _remove(self, key: str) -> None:
        path = self._root / key
        with self._locked():
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError, IsADirectoryError):
                return
            except OSError as error:
                raise Unavailable(f"{path}: {error.strerror or error}") from error
            self._sync_directory(path.parent)

    def _listing(self, prefix: str, after: str, limit: int) -> _Page:
        found: _Page = []
        if limit <= 0:
            return found
        for key in _walk(self._root, "", prefix, after):
            info = self._stat(key)
            if info is not None:  # removed while we looked
                found.append(info)
                if len(found) >= limit:
                    break
        return found

    def _write_temporary(self, key: str, data: bytes, *, newer_than: int) -> tuple[Path, str]:
        """Written and synced under a name that no listing shows. Raises Unavailable: nothing happened."""
        path: Path | None = None
        try:
            handle, name = tempfile.mkstemp(dir=self._temporary)
            path = Path(name)
            with open(handle, "wb") as file:
                file.write(data)
                file.flush()
                # coarse clocks give two files one time; a random microsecond apart, and later than what is replaced
                modified = os.fstat(handle).st_mtime_ns + self._rng.randrange(1_000_000)
                modified = max(modified, newer_than + 1)
                os.utime(handle, ns=(modified, modified))
                os.fchmod(handle, 0o644)
                os.fsync(handle)
                return path, _etag(os.fstat(handle))
        except OSError as error:
            if path is not None:
                path.unlink(missing_ok=True)
            raise Unavailable(f"{self._root / key}: {error.strerror or error}") from error

    def _make_parents(self, directory: Path) -> None:
        """Each new name is synced into its parent, or a power cut could take the whole folder."""
        missing: list[Path] = []
        while not directory.is_dir():
            missing.append(directory)
            directory = directory.parent
        for folder in reversed(missing):
            folder.mkdir(exist_ok=True)
            _sync(folder.parent)

    def _sync_directory(self, directory: Path) -> None:
        try:
            _sync(directory)
        except OSError as error:
            raise Unknown(f"{directory}: not synced: {error.strerror or error}") from error

    @contextlib.contextmanager
    def _locked(self) -> Iterator[None]:
        try:
            file = self._lock.open("rb")
        except OSError as error:
            raise Unavailable(f"{self._lock}: {error.strerror or error}") from error
        with file:
            fcntl.flock(file, fcntl.LOCK_EX)  # closing the file releases it
            yield

    def _collect_temporary(self) -> None:
        with tempfile.NamedTemporaryFile(dir=self._temporary) as now_file:
            now = os.fstat(now_file.fileno()).st_mtime_ns
            for path in self._temporary.iterdir():
                with contextlib.suppress(FileNotFoundError):
                    if now - path.stat().st_mtime_ns > _TEMPORARY_AGE_NS:
                        path.unlink()


def _take_name(temporary: Path, target: Path) -> None:
    """Atomic, and fails where the name is taken. Raises FileExistsError, OSError."""
    try:
        os.link(temporary, target)
    except FileExistsError:
        raise
    except OSError as error:
        if error.errno not in _NO_LINKS:
            raise
        _rename_no_replace(temporary, target)


def _rename_no_replace(source: Path, target: Path) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    done = libc.renameat2(
        _AT_FDCWD, os.fsencode(source), _AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE
    )
    if done != 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), str(target))


def _walk(folder: Path, base: str, prefix: str, after: str) -> Iterator[str]:
    """Keys below `folder` in the order of whole keys: a folder sorts as its name with the slash."""
    try:
        with os.scandir(folder) as entries:
            names = sorted(
                entry.name + "/" if entry.is_dir(follow_symlinks=False) else entry.name
                for entry in entries
                if base or entry.name != _PRIVATE
            )
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise Unavailable(f"{folder}: {error.strerror or error}") from error
    for name in names:
        key = base + name
        if not name.endswith("/"):
            if key > after and key.startswith(prefix):
                yield key
        elif (key.startswith(prefix) or prefix.startswith(key)) and (
            key > after or after.startswith(key)
        ):
            yield from _walk(folder / name[:-1], key, prefix, after)


def _etag(found: os.stat_result) -> str:
    return f"{found.st_ino:x}-{found.st_mtime_ns:x}-{found.st_size:x}"


def _info(key: str, found: os.stat_result) -> ObjectInfo:
    return ObjectInfo(key, found.st_size, _etag(found), found.st_mtime_ns // 1_000_000)


def _sync(directory: Path) -> None:
    handle = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""A disk with a seed: what was not synced may survive a power cut, or not, or in parts and in any order.

The model, harsher than any one real file system:
  writes     go to a cache. At a power cut each unsynced 512-byte sector is kept or lost on its own: so writes tear and
             are reordered. A file that grew without sync may keep any of its new length; lost sectors inside are zeros.
  sync       moves a file's dirty sectors to the medium. A *failed* sync moves some and marks all of them clean, as
             Linux does: reads go on showing the new bytes until the cache is dropped or the power goes.
  names      creations, renames and removals are each kept or lost on their own until their directory is synced;
             each alone is atomic.
  kill       (restart without power cut) loses no bytes: the cache is the kernel's.
Every call counts in `calls`; at call number `crash_at` it happens, half-way through a write, and raises SimCrash until
`restart`. Faults: `full` (growing files raise DiskFull), `read_only`, `write_error` / `sync_error` / `read_error`
(probabilities of EIO), `failing_reads` (EIO to so many more), `dead` (path, first byte, end: sectors that answer EIO),
`late_error` (renames of names that end so take effect and raise all the same),
`lying_sync` (a card that acknowledges without writing), `flip` (bit rot).
"""

from __future__ import annotations

import random
from typing import Literal

from headwater.core.disk import DiskFull, File, Lock
from headwater.core.errors import AlreadyExists, Missing, Refused, Unavailable

SECTOR = 512


class SimCrash(BaseException):
    """The machine is gone; nothing may catch this but the test."""


class _Inode:
    def __init__(self) -> None:
        self.cache = bytearray()
        self.medium = bytearray()
        self.dirty: set[int] = set()

    def settle(self, sectors: set[int]) -> None:
        """These sectors reach the medium."""
        size = len(self.cache)
        for sector in sectors:
            start, end = sector * SECTOR, min((sector + 1) * SECTOR, size)
            if len(self.medium) < start:
                self.medium.extend(bytes(start - len(self.medium)))
            self.medium[start:end] = self.cache[start:end]


class _SimFile:
    def __init__(self, disk: SimDisk, path: str, inode: _Inode, *, read_only: bool) -> None:
        self._disk = disk
        self._path = path
        self._inode = inode
        self._read_only = read_only
        self._life = disk.lives
        self._closed = False

    @property
    def path(self) -> str:
        return self._path

    def _enter(self, kind: str) -> None:
        if self._closed:
            raise Unavailable(f"cannot {kind}: {self._path}: bad file descriptor")
        if self._life != self._disk.lives:
            raise SimCrash
        self._disk.step(kind)

    def read(self, position: int, size: int) -> bytes:
        self._enter("read")
        if self._disk.cannot_read(self._path, position, size):
            raise Unavailable(f"cannot read: {self._path}: input/output error")
        return bytes(self._inode.cache[position : position + size])

    def write(self, position: int, data: bytes) -> None:
        disk, inode = self._disk, self._inode
        assert not self._read_only, f"write to {self._path}, opened for reading"
        try:
            self._enter("write")
        except SimCrash:
            if not self._closed and self._life == disk.lives:
                self._put(position, data[: disk.rng.randint(0, len(data))])
            raise
        if disk.read_only:
            raise Unavailable(f"cannot write: {self._path}: read-only file system")
        if disk.full and position + len(data) > len(inode.cache):
            self._put(position, data[: max(0, len(inode.cache) - position)])
            raise DiskFull(f"cannot write: {self._path}: no space left on device")
        if disk.chance(disk.write_error):
            self._put(position, data[: disk.rng.randint(0, len(data))])
            raise Unavailable(f"cannot write: {self._path}: input/output error")
        self._put(position, data)

    def _put(self, position: int, data: bytes) -> None:
        cache = self._inode.cache
        if not data:
            return
        if len(cache) < position:
            cache.extend(bytes(position - len(cache)))
        cache[position : position + len(data)] = data
        self._inode.dirty.update(range(position // SECTOR, -(-(position + len(data)) // SECTOR)))

    def sync(self) -> None:
        self._enter("sync")
        disk, inode = self._disk, self._inode
        if disk.lying_sync:
            return
        if (disk.read_only and inode.dirty) or disk.chance(disk.sync_error):
            reached = {sector for sector in inode.dirty if disk.rng.random() < 0.5}
            inode.settle(reached)
            inode.dirty = set()  # marked clean though the rest never left the cache
            raise Unavailable(f"cannot fdatasync: {self._path}: input/output error")
        inode.settle(inode.dirty)
        inode.dirty = set()

    def drop_cache(self) -> None:
        self._enter("drop_cache")
        inode = self._inode
        if not inode.dirty:  # the kernel drops clean pages only
            inode.cache = bytearray(inode.medium)

    def size(self) -> int:
        self._enter("size")
        return len(self._inode.cache)

    def close(self) -> None:
        self._closed = True


class _SimLock:
    def __init__(self, disk: SimDisk, path: str) -> None:
        self._disk, self._path = disk, path

    def release(self) -> None:
        self._disk.locked.discard(self._path)


_Change = tuple[Literal["create", "rename", "remove"], str, str, _Inode | None]


class SimDisk:
    """`rng` decides every fate, so the same seed and the same calls give the same run."""

    def __init__(self, rng: random.Random) -> None:
        self.rng = rng
        self.calls = 0
        self.trace: list[str] = []
        self.crash_at: int | None = None
        self.lives = 0
        self.full = False
        self.read_only = False
        self.lying_sync = False
        self.copy_on_write = False
        self.free = 2**40
        self.paused = 0.0
        self.failing_reads = 0
        self.late_error = ""
        self.dead: list[tuple[str, int, int]] = []
        self.write_error = self.sync_error = self.read_error = self.name_error = 0.0
        self.locked: set[str] = set()
        self._crashed = False
        self._names: dict[str, _Inode] = {}
        self._medium_names: dict[str, _Inode] = {}
        self._changes: list[_Change] = []
        self._directories: set[str] = {""}

    # crashing

    def step(self, kind: str) -> None:
        if self._crashed:
            raise SimCrash
        self.calls += 1
        if self.calls == self.crash_at:
            self._crashed = True
            raise SimCrash(f"at call {self.calls}: {kind}")

    def chance(self, probability: float) -> bool:
        return probability > 0 and self.rng.random() < probability

    def cannot_read(self, path: str, position: int, size: int) -> bool:
        if self.failing_reads:
            self.failing_reads -= 1
            return True
        dead = any(
            p == path and first < position + size and position < end for p, first, end in self.dead
        )
        return dead or self.chance(self.read_error)

    def restart(self, *, power_cut: bool = True, keep: float | None = None) -> None:
        """A new life. `keep`: the share of unsynced sectors and names that survive; None: drawn."""
        self.lives += 1
        self.crash_at = None
        self._crashed = False
        self.locked.clear()
        if power_cut:
            share = self.rng.choice((0.0, 1.0, self.rng.random())) if keep is None else keep
            self._lose(share)

    def _lose(self, keep: float) -> None:
        inodes = {
            id(inode): inode for inode in [*self._names.values(), *self._medium_names.values()]
        }
        inodes |= {id(c[3]): c[3] for c in self._changes if c[3] is not None}
        for inode in inodes.values():
            inode.settle({sector for sector in sorted(inode.dirty) if self.rng.random() < keep})
            inode.dirty = set()
            inode.cache = bytearray(inode.medium)
        for change in self._changes:
            if self.rng.random() < keep:
                self._carry_out(change, self._medium_names)
        self._changes = []
        self._names = dict(self._medium_names)

    def clear_faults(self) -> None:
        self.full = self.read_only = False
        self.write_error = self.sync_error = self.read_error = self.name_error = 0.0

    def flip(self, path: str, position: int, mask: int = 0x01) -> None:
        """Bit rot: on the medium and so in what is read."""
        inode = self._names[path]
        inode.medium[position] ^= mask
        inode.cache[position] ^= mask

    def bytes_of(self, path: str) -> bytes:
        return bytes(self._names[path].cache)

    def put(self, path: str, data: bytes) -> None:
        """A file that is simply there, durably."""
        inode = _Inode()
        inode.cache, inode.medium = bytearray(data), bytearray(data)
        self._names[path] = self._medium_names[path] = inode

    def take(self, path: str) -> bytes:
        """A file that is simply gone."""
        del self._medium_names[path]
        return bytes(self._names.pop(path).cache)

    def supersede(self, path: str) -> None:
        """The same file on another mount: what was opened before can only be read as zeros."""
        old = self._names[path]
        self.put(path, bytes(old.cache))
        old.cache[:] = bytes(len(old.cache))

    # Disk

    def make_directory(self, path: str) -> None:
        self.step("make_directory")
        if self.read_only and path not in self._directories:
            raise Unavailable(f"cannot make directory: {path}: read-only file system")
        self._directories.add(path)

    def list(self, path: str) -> list[str]:
        self.step("list")
        if path not in self._directories:
            raise Missing(f"cannot list: {path}: no such file or directory")
        prefix = f"{path}/"
        names = (name[len(prefix) :] for name in self._names if name.startswith(prefix))
        return sorted(name for name in names if "/" not in name)

    def create(self, path: str) -> File:
        self.step("create")
        if path in self._names:
            raise AlreadyExists(f"cannot create: {path}: file exists")
        if self.full:
            raise DiskFull(f"cannot create: {path}: no space left on device")
        self._may_change(path)
        inode = _Inode()
        self._change(("create", path, "", inode))
        return _SimFile(self, path, inode, read_only=False)

    def open(self, path: str, *, read_only: bool = False) -> File:
        self.step("open")
        if path not in self._names:
            raise Missing(f"cannot open: {path}: no such file or directory")
        return _SimFile(self, path, self._names[path], read_only=read_only)

    def rename(self, old: str, new: str) -> None:
        self.step("rename")
        if old not in self._names:
            raise Missing(f"cannot rename: {old}: no such file or directory")
        self._may_change(old)
        self._change(("rename", old, new, None))
        if self.late_error and old.endswith(self.late_error):
            raise Unavailable(f"cannot rename: {old}: input/output error")

    def link(self, old: str, new: str) -> None:
        self.step("link")
        if old not in self._names:
            raise Missing(f"cannot link: {old}: no such file or directory")
        if new in self._names:
            raise AlreadyExists(f"cannot link: {new}: file exists")
        self._may_change(old)
        self._change(("create", new, "", self._names[old]))

    def remove(self, path: str) -> None:
        self.step("remove")
        self._may_change(path)
        if path in self._names:
            self._change(("remove", path, "", None))

    def sync_directory(self, path: str) -> None:
        self.step("sync_directory")
        self._may_change(path)
        if self.lying_sync:
            return
        rest = []
        for change in self._changes:
            if path in {_parent(change[1]), _parent(change[2] or change[1])}:
                self._carry_out(change, self._medium_names)
            else:
                rest.append(change)
        self._changes = rest

    def free_bytes(self, path: str) -> int:
        self.step("free_bytes")
        return 0 if self.full else self.free

    def copies_on_write(self, path: str) -> bool:
        return self.copy_on_write

    def pause(self, seconds: float) -> None:
        self.paused += seconds

    def lock(self, path: str) -> Lock:
        self.step("lock")
        if path in self.locked:
            raise Refused(f"data directory {_parent(path)} is in use by process 1")
        self.locked.add(path)
        return _SimLock(self, path)

    def _may_change(self, path: str) -> None:
        if self.read_only:
            raise Unavailable(f"cannot change names: {path}: read-only file system")
        if self.chance(self.name_error):
            raise Unavailable(f"cannot change names: {path}: input/output error")

    def _change(self, change: _Change) -> None:
        self._carry_out(change, self._names)
        self._changes.append(change)

    @staticmethod
    def _carry_out(change: _Change, names: dict[str, _Inode]) -> None:
        kind, path, new, inode = change
        if kind == "create":
            assert inode is not None
            names[path] = inode
        elif path in names:  # else the creation it stood on was lost
            found = names.pop(path)
            if kind == "rename":
                names[new] = found


def _parent(path: str) -> str:
    return path.rpartition("/")[0]

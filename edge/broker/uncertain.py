"""What commits stored of one session and may come again (doubts.py), in as few bytes as it takes.

A session may hold a thousand entries, each of a commit of its own, and an edge ten thousand sessions: as objects an entry
would be 215 bytes, here it is 39 at the most. Two rows of bytes: the entries, oldest first, and the commits they belong to.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple

# packet identifier (big-endian), eight bytes of BLAKE2b over the content
ENTRY_BYTES = 10
# commit, position, sealed at, entries, first time
_GROUP = struct.Struct("<qqdI?")
_NOT_WRITTEN = -1


class Group(NamedTuple):
    """What one commit stored. `position`: of the connection's bytes, after its last PUBACK; negative: not written yet.
    `sealed_at`: seconds, monotonic. `first_time`: holds a publish without DUP."""

    commit: int
    position: int
    sealed_at: float
    entries: int
    first_time: bool


class Uncertain:
    __slots__ = ("_groups", "_packed")

    def __init__(self) -> None:
        self._groups = bytearray()
        self._packed = bytearray()

    def __len__(self) -> int:
        """Commits."""
        return len(self._groups) // _GROUP.size

    @property
    def count(self) -> int:
        """Entries."""
        return len(self._packed) // ENTRY_BYTES

    def group(self, index: int) -> Group:
        if index < 0:
            index += len(self)
        return Group(*_GROUP.unpack_from(self._groups, index * _GROUP.size))

    def groups(self) -> Iterator[Group]:
        return map(Group._make, _GROUP.iter_unpack(self._groups))

    @property
    def last_commit(self) -> int:
        """0: nothing is in doubt."""
        return self.group(-1).commit if self._groups else 0

    def entries(self) -> Iterator[tuple[Group, bytes]]:
        """Each commit, and its entries packed."""
        place = 0
        for group in self.groups():
            size = group.entries * ENTRY_BYTES
            yield group, bytes(self._packed[place : place + size])
            place += size

    def last(self) -> bytes:
        """Of the newest commit, packed."""
        return bytes(self._packed[-self.group(-1).entries * ENTRY_BYTES :])

    def add(self, commit: int, packed: bytes, *, first_time: bool, sealed_at: float) -> None:
        """To the newest commit, or as a newer one."""
        count = len(packed) // ENTRY_BYTES
        if self._groups and (last := self.group(-1)).commit == commit:
            later = last._replace(
                entries=last.entries + count, first_time=last.first_time or first_time
            )
            _GROUP.pack_into(self._groups, len(self._groups) - _GROUP.size, *later)
        else:
            self._groups += _GROUP.pack(commit, _NOT_WRITTEN, sealed_at, count, first_time)
        self._packed += packed

    def drop(self, commits: int) -> None:
        """The oldest so many."""
        entries = sum(self.group(index).entries for index in range(commits))
        del self._packed[: entries * ENTRY_BYTES]
        del self._groups[: commits * _GROUP.size]

    def written(self, after: int, commit: int, position: int) -> None:
        """Of the commits beyond `after`, up to `commit`, those without a position have this one."""
        for index in range(len(self) - 1, -1, -1):
            group = self.group(index)
            if group.commit <= after or group.position != _NOT_WRITTEN:
                break
            if group.commit <= commit:
                _GROUP.pack_into(
                    self._groups, index * _GROUP.size, *group._replace(position=position)
                )

    def upto(self, commit: int) -> int:
        """How many entries the commits up to this one have."""
        return sum(group.entries for group in self.groups() if group.commit <= commit)

    def identifiers(self, count: int) -> Iterator[int]:
        """Of the oldest so many entries."""
        for start in range(0, count * ENTRY_BYTES, ENTRY_BYTES):
            yield int.from_bytes(self._packed[start : start + 2], "big")

    def newest_with(self, packet_id: int, count: int) -> Iterator[tuple[int, bytes]]:
        """Among the oldest `count` entries, newest first, those with this identifier: commit and hash."""
        wanted, end = packet_id.to_bytes(2, "big"), count * ENTRY_BYTES
        while (start := self._packed.rfind(wanted, 0, end)) >= 0:
            if start % ENTRY_BYTES == 0:
                yield (
                    self._commit_of(start // ENTRY_BYTES),
                    bytes(self._packed[start + 2 : start + ENTRY_BYTES]),
                )
            end = start + 1  # what lies across two entries is none

    def _commit_of(self, entry: int) -> int:
        for group in self.groups():
            entry -= group.entries
            if entry < 0:
                return group.commit
        raise AssertionError("an entry beyond the last commit")

"""The hot half of the open commit: a record into memory, with its offset. Twin: `_opencommit.pyx`.

`OpenCommit`  what was appended since the last seal and whether more may be; `Intake` (writing.py) is the rest of it
`Appending`   one partition's `append`, the broker's hot path: a tuple into a list and four counters; `PartitionWriter`
              (writing.py) is the rest of it

The loop thread's alone. What does not happen for every record stands in writing.py, once.
"""

from __future__ import annotations

from ...record import Headers

# What a record costs beyond its bytes: an upper bound of lengths and deltas in the batch, and the tuple in memory.
RECORD_OVERHEAD = 48
HEADER_OVERHEAD = 10

RecordTuple = tuple[int, bytes | None, bytes | None, Headers]


class OpenCommit:
    """`refusing` is checked by each append: why new records are not taken, or None."""

    __slots__ = ("bytes", "dirty", "record_bytes_max", "records", "refusing")

    def __init__(self, record_bytes_max: int) -> None:
        self.record_bytes_max = record_bytes_max
        self.dirty: list[Appending] = []  # writers with records
        self.bytes = 0
        self.records = 0
        self.refusing: str | None = None


class Appending:
    __slots__ = ("_intake", "_records", "next_offset")

    def __init__(self, intake: OpenCommit, next_offset: int) -> None:
        self.next_offset = next_offset
        self._intake = intake
        self._records: list[RecordTuple] = []

    def append(
        self, timestamp: int, key: bytes | None, value: bytes | None, headers: Headers = ()
    ) -> int:
        """The record's offset; durable when `journal.open_commit`, read before or just after, is.

        Raises Refused (too large), Unavailable (the journal is full and may not drop), Closed.
        """
        size = RECORD_OVERHEAD
        if value is not None:
            size += len(value)
        if key is not None:
            size += len(key)
        if headers:
            for name, content in headers:
                size += len(name.encode()) + len(content or b"") + HEADER_OVERHEAD
        intake = self._intake
        if size > intake.record_bytes_max or intake.refusing is not None:
            self._check(size)
        records = self._records
        if not records:
            intake.dirty.append(self)
        records.append((timestamp, key, value, headers))
        intake.bytes += size
        intake.records += 1
        offset = self.next_offset
        self.next_offset = offset + 1
        return offset

    def _check(self, size: int) -> None:
        """Raises where a record that is large, or meets a commit that refuses, may not be appended (writing.py)."""

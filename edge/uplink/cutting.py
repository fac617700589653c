"""The cutter: journal batches of one partition in, batches of another cut out, addressed, numbered and compressed.

A journal commit is as small as the traffic was when it was made; what travels is cut anew, up to `batch_bytes_max` before
compression and `batch_records_max`, or whatever gathered in a while (departures.py). What waits here is journal bytes, not
records: a 100-byte record is five times as large as Python objects, so they exist only while a batch is cut.

Rules: a cut never spans a hole in the offsets, nor a change of the clock (core/belief.py); it begins where the last one
ended or where `restart` said, and ends before `limit`, where another range begins.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

from ...core.batch import BatchHeader, decode_batch, encode_addressed, parse_header, rebase
from ...core.belief import NO_STAMP, Stamp
from ...core.compression import Compression
from ...core.errors import Refused
from ...core.record import (
    ADDRESS_HEADER,
    LOG_HEADER,
    RANGE_HEADER,
    TIME_HEADER,
    Headers,
    StoredRecord,
    TopicPartition,
)
from .cursor import Era
from .departures import Departures, Patience
from .supply import Cut

# The two header keys, their and the values' lengths, an offset of up to 12 digits.
_HEADER_OVERHEAD_BYTES = len(ADDRESS_HEADER) + len(LOG_HEADER) + 4 + 12
# The same of the mark: its key, "01234567/2/1795361262778" and two lengths.
_TIME_OVERHEAD_BYTES = len(TIME_HEADER) + 24 + 2


class CutLimits(NamedTuple):
    bytes_max: int
    records_max: int
    compression: Compression
    level: int


class Origin(NamedTuple):
    """Whose records these are: the constant part of every address."""

    edge: str
    log: str


class _Waiting(NamedTuple):
    header: BatchHeader
    batch: bytes


class Cutter:
    """Of one partition. Implements `partition.Supply`; `feed` is the reader's end."""

    def __init__(
        self,
        partition: TopicPartition,
        origin: Origin,
        limits: CutLimits,
        *,
        patience: Patience,
        departures: Departures,
    ) -> None:
        self._prefix = f"{origin.edge}/{partition.topic}/{partition.partition}/".encode()
        self._log = origin.log.encode()
        self._limits = limits
        self.patience = patience  # over the present link
        self._departures = departures
        self._looked_at = 0.0
        self._due_since: float | None = None  # once due it stays so until all of it is cut
        self.bytes_max = (
            limits.bytes_max
        )  # of a batch before compression; a slow link makes it smaller
        self._overhead = len(self._prefix) + len(self._log) + _HEADER_OVERHEAD_BYTES
        self._overhead += _TIME_OVERHEAD_BYTES
        self._waiting: deque[_Waiting] = deque()
        self._records: list[StoredRecord] = []  # the rest of a batch that was larger than a cut
        self._record_bytes = 0
        self._stamp = NO_STAMP  # of `_records`, and of what was cut last
        self._wanted = 0
        self._limit: int | None = None
        self._first: int | None = None
        self._since: float | None = None
        self._waiting_bytes = 0
        self._estimate = 0

    @property
    def buffered_bytes(self) -> int:
        """Journal bytes held."""
        return self._waiting_bytes + self._record_bytes

    @property
    def first(self) -> int | None:
        return self._first

    @property
    def wanted(self) -> int:
        return self._wanted

    @property
    def due_at(self) -> float | None:
        """When what is at hand goes out even though it is little; None where nothing is at hand."""
        if self._since is None:
            return None
        return self._departures.due(self._since, self._estimate, self.patience)

    def restart(self, offset: int) -> None:
        self._waiting.clear()
        self._records = []
        self._record_bytes = self._waiting_bytes = self._estimate = 0
        self._first = self._since = None
        self._due_since = None
        self._wanted = offset

    def skip_to(self, offset: int) -> None:
        """The journal has nothing before `offset` any more."""
        self._wanted = self._capped(max(self._wanted, offset))

    def end_at(self, limit: int | None) -> None:
        self._limit = limit
        if limit is not None and self._wanted > limit:
            # fed before the limit came: what is at hand is read again, up to there
            self.restart(min(limit, self._wanted if self._first is None else self._first))

    def _capped(self, offset: int) -> int:
        return offset if self._limit is None else min(offset, self._limit)

    def follows(self, batch: bytes) -> bool:
        """Does it hold the offset that is wanted next?"""
        header = parse_header(batch)
        return header.base_offset <= self._wanted < header.next_offset

    def feed(self, batches: list[bytes], now: float) -> int:
        """Batches in offset order, from the one that holds `wanted` on; returns the bytes taken in."""
        taken = 0
        for batch in batches:
            header = parse_header(batch)
            if header.next_offset <= self._wanted:
                continue
            if self._limit is not None and header.base_offset >= self._limit:
                self._wanted = self._limit
                break
            if self._first is None:
                self._first = max(self._wanted, header.base_offset)
                self._since = now
            self._waiting.append(_Waiting(header, batch))
            self._wanted = self._capped(header.next_offset)
            taken += len(batch)
            self._estimate += len(batch) + header.record_count * self._overhead
        self._waiting_bytes += taken
        return taken

    def ripe(self, now: float) -> bool:
        if self._first is None or (due_at := self.due_at) is None:
            return False
        self._looked_at = now
        if self._due_since is None and now >= due_at:  # as due_at says it, to the last bit
            self._due_since = now  # others of the same departure may be cut before it
        return self._due_since is not None or self._is_full(self._first)

    def _is_full(self, first: int) -> bool:
        return self._estimate >= self.bytes_max or self._wanted - first >= self._limits.records_max

    def cut(self, era: Era, *, label: int, records_max: int, plain: bool) -> Cut:
        if self._first is not None and self._is_full(self._first):
            self._departures.full(self._looked_at)
        elif self._due_since is not None:
            self._departures.leaves(self._estimate, self._due_since, self.patience)
        records = self._gather(min(records_max, self._limits.records_max))
        first = records[0].offset
        codec = Compression.NONE if plain else self._limits.compression
        payload = encode_addressed(
            records,
            prefix=self._prefix,
            log=self._log,
            more=(*_labelled(label), *self._more()),
            compression=codec,
            level=self._limits.level if codec is Compression.ZSTD else None,
            producer_id=era.producer_id,
            producer_epoch=era.epoch,
            base_sequence=era.sequence(first),
        )
        # Kafka wants a producer's batch to count from zero (LogValidator: "inner records ... incremental offsets")
        return Cut(first, len(records), era, rebase(payload, base_offset=0))

    def _more(self) -> Headers:
        """Headers of the records just gathered: they were stamped by one clock."""
        mark = self._stamp.mark()
        return () if mark is None else ((TIME_HEADER, mark.encode()),)

    def _gather(self, records_max: int) -> list[StoredRecord]:
        """Up to the limits, stopping at a hole; at least one record."""
        if self._first is None:
            raise Refused("nothing to cut")
        taken: list[StoredRecord] = []
        size, at = 0, self._first
        while len(taken) < records_max:
            if not self._records and not self._decode_next(at, bool(taken)):
                break
            each = max(1, self._record_bytes // len(self._records)) + self._overhead
            room = min(records_max - len(taken), (self.bytes_max - size) // each)
            if room <= 0:
                if taken:
                    break
                room = 1
            part, rest = self._records[:room], self._records[room:]
            run = _run(part)
            if taken and part[0].offset != at:
                break
            part, rest = part[:run], part[run:] + rest
            taken += part
            size += each * len(part)
            self._record_bytes -= (each - self._overhead) * len(part)
            self._records = rest
            at = part[-1].offset + 1
            if rest and rest[0].offset != at:
                break
        self._settle(at)
        return taken

    def _decode_next(self, at: int, follows: bool) -> bool:
        """Decode the next waiting batch; False where there is none, or it does not follow what was taken."""
        if not self._waiting:
            return False
        header, batch = self._waiting[0]
        stamp = Stamp(header.producer_id, header.producer_epoch, header.base_sequence)
        if follows and (header.base_offset > at or stamp != self._stamp):
            return False
        self._stamp = stamp
        self._waiting.popleft()
        records = decode_batch(batch)[1]
        if header.base_offset < at:
            records = [record for record in records if record.offset >= at]
        if self._limit is not None and header.next_offset > self._limit:
            records = [record for record in records if record.offset < self._limit]
        self._records, self._record_bytes = records, len(batch)
        self._waiting_bytes -= len(batch)
        return bool(records) or self._decode_next(at, follows)

    def _settle(self, at: int) -> None:
        """Books after a cut that ended before `at`."""
        if not self._records:
            self._record_bytes = 0  # what the average left over
        if self._records:
            self._first = self._records[0].offset
        elif self._waiting:
            self._first = max(at, self._waiting[0].header.base_offset)
        else:
            self._first = self._since = self._due_since = None
        rest = sum(
            len(item.batch) + item.header.record_count * self._overhead for item in self._waiting
        )
        self._estimate = rest + self._record_bytes + len(self._records) * self._overhead


def _labelled(origin: int) -> Headers:
    return ((RANGE_HEADER, b"%d" % origin),) if origin else ()


def _run(records: list[StoredRecord]) -> int:
    """How many from the first on follow one another without a hole."""
    if records[-1].offset - records[0].offset == len(records) - 1:
        return len(records)
    return next(i for i in range(1, len(records)) if records[i].offset != records[i - 1].offset + 1)

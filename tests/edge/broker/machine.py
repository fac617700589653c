"""A broker on a file journal on a simulated disk, with a checkpoint beside it: a machine whose power can be cut.

`sync` is the disk's thread; nothing else moves it. `power_cut` and `kill` end the process half-way through whatever it did;
`boot` starts it again from what is left, as the daemon does.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterable

from headwater.core.batch import decode_batch
from headwater.core.clock import ManualClock
from headwater.core.errors import OffsetOutOfRange, Unavailable
from headwater.core.journal.files import FileJournal, FileJournalSettings
from headwater.core.journal.files.noted import segments_since
from headwater.core.record import StoredRecord, TopicPartition
from headwater.core.units import KIB, ByteSize
from headwater.edge.broker.broker import Broker
from headwater.edge.broker.checkpoints import Changes, Checkpoints, Meta, RetainedRow
from headwater.edge.broker.departures import Reading
from headwater.edge.broker.moments import Moments
from headwater.edge.broker.restoring import Restored, restore
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.rules import early_rules
from headwater.edge.streams import StreamSettings, StreamTable
from tests.sim.disk import SimCrash, SimDisk

from .harness import Bench

SMALL = FileJournalSettings(
    segment_bytes=ByteSize(64 * KIB),
    bytes_max=ByteSize(64 * 64 * KIB),
    record_bytes_max=ByteSize(24 * KIB),
    commit_bytes_max=ByteSize(24 * KIB),
    spares=1,
)


class MemoryStore:
    """Transactions that happen or do not. `crash`: at the next one, before it (False) or after it (True)."""

    def __init__(self) -> None:
        self.session_rows: dict[int, bytes] = {}
        self.retained_rows: dict[str, RetainedRow] = {}
        self.kept: Meta | None = None
        self.must_rewrite = False
        self.crash: bool | None = None
        self.refusing = False
        self.saves = 0
        self.meanwhile: Callable[[], None] | None = None  # once, before the next transaction

    def meta(self) -> Meta | None:
        return self.kept

    def sessions(self) -> Iterable[bytes]:
        return list(self.session_rows.values())

    def retained(self) -> Iterable[RetainedRow]:
        return list(self.retained_rows.values())

    def finish_reading(self) -> list[str]:
        return []

    def save(self, changes: Changes) -> None:
        if self.refusing:
            raise Unavailable("the card is read-only")
        if self.meanwhile is not None:
            meanwhile, self.meanwhile = self.meanwhile, None
            meanwhile()
        crash, self.crash = self.crash, None
        if crash is False:
            raise SimCrash
        for number, row in changes.sessions:
            self.session_rows.pop(number, None)
            if row is not None:
                self.session_rows[number] = row
        for topic, retained in changes.retained:
            self.retained_rows.pop(topic, None)
            if retained is not None:
                self.retained_rows[topic] = retained
        self.kept = changes.meta or self.kept
        self.saves += 1
        if crash:
            raise SimCrash

    def close(self) -> None:
        pass


class HandCommitter:
    """The committer, turned by hand."""

    gathering = False

    def __init__(self, journal: FileJournal) -> None:
        self.stalled: str | None = None
        self._journal = journal
        self._listeners: list[Callable[[int], None]] = []

    @property
    def durable(self) -> int:
        return self._journal.durable_commit

    def request(self) -> None:
        pass

    def add_listener(self, listener: Callable[[int], None], /) -> None:
        self._listeners.append(listener)

    async def wait_durable(self, commit: int) -> None:
        while self.durable < commit:
            assert self.sync(), "waits for a commit that nobody will make"

    def sync(self) -> bool:
        commit = self._journal.seal()
        if commit is None:
            return False
        commit.write()
        self._journal.complete(commit)
        for listener in self._listeners:
            listener(commit.number)
        return True


class LogSource:
    """Reads of the file journal, carried out at once."""

    def __init__(self, journal: FileJournal) -> None:
        self._journal = journal

    def read(
        self,
        tp: TopicPartition,
        offset: int,
        *,
        bytes_max: int,
        done: Callable[[Reading], None],
    ) -> None:
        try:
            batches = self._journal.read_sync(tp, offset, bytes_max=bytes_max)
        except OffsetOutOfRange:
            done(Reading([], start=self._journal.bounds(tp).start))
            return
        records = [record for batch in batches for record in decode_batch(batch)[1]]
        start = 0 if records else self._journal.bounds(tp).end
        done(Reading(records, sum(map(len, batches)), start=start))


class Machine(Bench):
    def __init__(
        self,
        *,
        seed: int = 1,
        settings: MqttSettings | None = None,
        log_settings: FileJournalSettings = SMALL,
        streams: tuple[StreamSettings, ...] = (),
    ) -> None:
        self.clock = ManualClock()
        self.disk = SimDisk(random.Random(seed))
        self.store = MemoryStore()
        self.trusted = True
        self.boots = 0
        self.restored = Restored()
        self._settings = settings or MqttSettings()
        self._log_settings = log_settings
        self.streams = StreamTable(streams)
        self._rng = random.Random(seed)
        self.boot()

    def boot(self) -> None:
        self.boots += 1
        self.log = FileJournal.open(
            "/log",
            disk=self.disk,
            clock=self.clock,
            settings=self._log_settings,
            rng=self._rng,
            early=early_rules(self.streams),
        )
        self.committer = self.make_committer()
        boot = f"boot-{self.boots}"
        self.broker = Broker(
            self.log,
            self.committer,
            source=LogSource(self.log),
            streams=self.streams,
            settings=self._settings,
            clock=self.clock,
            rng=self._rng,
            moments=Moments(self.clock, boot=boot, trusted=lambda: self.trusted),
        )
        self.restored = restore(self.broker, self.log, self.store)
        self.checkpoints = Checkpoints(
            *(self.broker, self.log, self.committer, self.store),
            covers=self.restored.covers,
            pinned_bytes=segments_since(self.log.shelf, self.restored.covers)
            * int(self._log_settings.segment_bytes),
        )

    def make_committer(self) -> HandCommitter:
        return HandCommitter(self.log)

    def sync(self) -> None:
        while self.committer.sync():
            pass

    def keep_promises(self) -> None:
        self.sync()

    def checkpoint(self) -> bool:
        return asyncio.run(self.checkpoints.round())

    def power_cut(self, *, keep: float = 0.5, away_s: float = 1.0) -> None:
        self._end(power_cut=True, keep=keep)
        self.clock.advance(away_s)
        self.boot()

    def kill(self) -> None:
        self._end(power_cut=False, keep=None)
        self.boot()

    def _end(self, *, power_cut: bool, keep: float | None) -> None:
        self.disk.crash_at = None
        self.disk.restart(power_cut=power_cut, keep=keep)

    @property
    def records(self) -> list[StoredRecord]:
        """All that is in the log, in the order of partitions and offsets."""
        found: list[StoredRecord] = []
        for partition in self.log.partitions():
            offset, end = self.log.bounds(partition)
            while offset < end and (
                batches := self.log.read_sync(partition, offset, bytes_max=100_000)
            ):
                for batch in batches:
                    header, records = decode_batch(batch)
                    found += records
                    offset = header.next_offset
        return found

    @property
    def values(self) -> list[bytes | None]:
        return [record.value for record in self.records]

"""One stream's table: what was fetched becomes one commit, or none of it does.

  1. build (a worker thread): rows, files, positions, from the state the snapshot shows       nothing stored
  2. store each data file with put_if_absent                                                   invisible orphans
  3. put_if_absent of the next version of the log: files, schema and positions               ← now it is in the lake
  4. sometimes a checkpoint                                                                    readers save time
A crash before 3 leaves files that no log names, and the next attempt from the same positions finds them by name. After
3 nothing is left to do. Whoever else moved the positions in between wins at 3: `Overtaken`, begin from theirs.
"""

from __future__ import annotations

import asyncio
import random
import uuid
from collections.abc import Sequence

import msgspec
import structlog

from ...core.backoff import Backoff
from ...core.clock import Clock
from ...core.errors import AlreadyExists, Refused, Unavailable, Unknown
from ...core.objectstore import ObjectStore, join
from ...core.record import TopicPartition
from ..lake.delta import DeltaLog, Draft, Metadata, Overtaken
from ..lake.delta.txn import Txn
from ..lake.offload import Offload, in_thread
from ..lake.positions import (
    Positions,
    incarnated,
    kafka_app_id,
    parse_kafka,
    parse_topic,
    topic_app_id,
)
from .building import Built, build
from .columns import PARTITION_COLUMNS, Columns
from .ledger import Ledger
from .payloads import PayloadDecoder
from .settings import PayloadFormat, SinkSettings
from .source import Fetched, OutOfRange

_log = structlog.get_logger()


class Table:
    """Belongs to one task at a time. `open` before anything else, and again after `Overtaken`."""

    def __init__(
        self,
        store: ObjectStore,
        stream: str,
        cluster: str,
        *,
        settings: SinkSettings,
        clock: Clock,
        rng: random.Random,
        offload: Offload = in_thread,
    ) -> None:
        self.stream = stream
        self._store = store
        self._cluster = cluster
        self._settings = settings
        self._clock = clock
        self._rng = rng
        self._offload = offload
        self.delta = DeltaLog(store, stream, clock=clock, rng=rng, offload=offload)
        self._decoder: PayloadDecoder | None = None
        self.topic_id = ""
        self._ordinal = 0

    async def open(self) -> None:
        """Read the table's state. Raises Unavailable; Refused where another writer made it what we cannot write."""
        snapshot = await self.delta.load()
        if snapshot.exists:
            assert snapshot.protocol is not None
            assert snapshot.metadata is not None
            snapshot.protocol.check_writable(self._place)
            self._check_metadata(snapshot.metadata)
        self._renew_decoder()
        self._notice_other_clusters()

    @property
    def _place(self) -> str:
        return f"{self._store.location}/{self.stream}"

    def _check_metadata(self, metadata: Metadata) -> None:
        if metadata.partition_columns != PARTITION_COLUMNS:
            raise Refused(
                f"table {self._place} is partitioned by {metadata.partition_columns}, not "
                f"{PARTITION_COLUMNS}: it was not made by a sink; give the sink another lake"
            )
        if "delta.invariants" in metadata.schema_string:
            raise Refused(
                f"table {self._place} has column invariants, which the sink does not check"
            )

    def _renew_decoder(self) -> None:
        columns = Columns.of(
            self.delta.snapshot.schema, columns_max=self._settings.columns_max, table=self._place
        )
        self._decoder = PayloadDecoder(
            columns,
            payload_format=self._settings.formats.get(self.stream, PayloadFormat.AUTO),
        )

    def _notice_other_clusters(self) -> None:
        parsed = [parse_kafka(app_id) for app_id in self.delta.snapshot.txns]
        clusters = {cluster.partition("~")[0] for cluster, _ in filter(None, parsed)}
        if clusters and self._cluster not in clusters:
            _log.warning(
                "the table was fed by another cluster; this one is read from its start, "
                "and records that have an address there already are dropped",
                table=self._place,
                before=sorted(clusters),
                now=self._cluster,
            )

    def bind(self, topic_id: str) -> bool:
        """From now on it is fed from the topic of this id ("": unknown). True where that is another one than before, whose
        offsets mean nothing for what was fetched.

        A table without an id is from before ids were kept, or new: the topic met now is its first one.
        """
        parsed = {app_id: parse_topic(app_id) for app_id in self.delta.snapshot.txns}
        known = {
            found[1]: self.delta.snapshot.txns[app_id].version
            for app_id, found in parsed.items()
            if found is not None and found[0] == self._cluster
        }
        newest = max(known.values(), default=-1)
        ordinal = known.get(topic_id, newest + 1) if topic_id else max(0, newest)
        before, self.topic_id, self._ordinal = self.topic_id, topic_id, ordinal
        return bool(before and topic_id) and before != topic_id

    @property
    def _fed_by(self) -> str:
        return incarnated(self._cluster, self._ordinal)

    def position(self, partition: TopicPartition) -> int | None:
        """The next offset to read, None where the table knows none."""
        return self.delta.snapshot.position(kafka_app_id(self._fed_by, partition))

    async def commit(self, fetched: Sequence[Fetched | OutOfRange]) -> Built | None:
        """None where nothing was to be committed. Raises Overtaken, Refused, Corrupt; waits through a store's troubles."""
        retries = Backoff(self._rng, first_s=0.05, cap_s=5.0)
        built = await self._offload(lambda: self._build(fetched))
        if not built.txns:
            return None
        await asyncio.gather(
            *(self._store_file(add.path, data, retries) for add, data in built.files)
        )
        await self.delta.commit(self._draft(built), retries=retries)
        await self._checkpoint()
        return built

    def _build(self, fetched: Sequence[Fetched | OutOfRange]) -> Built:
        assert self._decoder is not None, "opened"
        return build(
            fetched,
            ledger=Ledger(self._fed_by, self._positions()),
            decoder=self._decoder,
            now_ms=self._clock.wall_ms(),
            zstd_level=self._settings.zstd_level,
        )

    def _positions(self) -> Positions:
        txns = self.delta.snapshot.txns
        return Positions({app_id: txn.version for app_id, txn in txns.items()})

    def _draft(self, built: Built) -> Draft:
        return Draft(
            operation="STREAMING UPDATE",
            parameters={"outputMode": "Append", "rows": str(built.rows)},
            adds=tuple(add for add, _ in built.files),
            txns=(*built.txns, *self._incarnation()),
            metadata=self._metadata(built),
        )

    def _incarnation(self) -> tuple[Txn, ...]:
        """What the commit says of the topic, once."""
        app_id = topic_app_id(self._cluster, self.topic_id)
        if not self.topic_id or app_id in self.delta.snapshot.txns:
            return ()
        return (Txn(app_id=app_id, version=self._ordinal, last_updated=self._clock.wall_ms()),)

    def _metadata(self, built: Built) -> Metadata | None:
        held = self.delta.snapshot.metadata
        if held is None:
            return Metadata(
                id=str(uuid.UUID(int=self._rng.getrandbits(128), version=4)),
                name=self.stream,
                schema_string=built.schema.encode(),
                partition_columns=PARTITION_COLUMNS,
                created_time=self._clock.wall_ms(),
            )
        if built.schema == held.schema(table=self._place):
            return None
        return msgspec.structs.replace(held, schema_string=built.schema.encode())

    async def _store_file(self, path: str, data: bytes, retries: Backoff) -> None:
        """The name ends in a digest of the bytes: whatever lies there is what we would write."""
        while True:
            try:
                await self._store.put_if_absent(join(self.stream, path), data)
            except AlreadyExists:
                return
            except (Unavailable, Unknown) as error:
                _log.info("data file not stored yet", path=path, error=str(error))
                await asyncio.sleep(retries.next())
            else:
                return

    async def _checkpoint(self) -> None:
        if not self.delta.checkpoint_due:
            return
        try:
            self.delta.snapshot.forget(self._positions().absorbed())
            await self.delta.write_checkpoint()
        except (Unavailable, Unknown) as error:
            _log.warning("checkpoint not written", table=self._place, error=str(error))


__all__ = ["Overtaken", "Table"]

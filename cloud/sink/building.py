"""From fetched bytes to a commit that is ready to be stored: pure computation, run in a worker thread.

    batches → records, a chunk of some thousand at a time      (control and aborted batches skipped, but accounted for)
            → addresses, duplicates dropped                    addresses.py, ledger.py
            → decoded columns                                  payloads.py
    chunks  → one Arrow table → split by day, sorted, Parquet  files.py
            → data files, positions, lineage, the new schema

Each record becomes exactly one row or one counted duplicate. A batch that cannot be taken apart although its CRC is
right becomes one dead letter per record, the batch's bytes with the first. A CRC that is wrong is not data: Corrupt.

Deterministic but for the clock: the same bytes against the same table state give the same files.
"""

from __future__ import annotations

import datetime
from collections.abc import Iterator, Sequence
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc

from ...core.batch import BatchHeader, Columns, decode_weighed, split_batches, validate_batch
from ...core.errors import Corrupt, Refused
from ...core.record import Headers
from ...core.units import MIB
from ..lake.delta.add import Add
from ..lake.delta.schema import Schema, arrow_types
from ..lake.delta.txn import Txn
from ..lake.lineage import KafkaSpan, RowSpan, merge, tags
from ..lake.positions import EdgePartition
from .addresses import Addresses, Run, read_addresses
from .chunk import Decoded
from .columns import DAY, SYSTEM
from .files import DataFile, data_file, split_days
from .ledger import Ledger
from .payloads import PayloadDecoder
from .source import Aborted, Fetched, OutOfRange

# Large enough that Arrow's cost per call vanishes, small enough that a chunk's Python objects take some 10 MB.
CHUNK_ROWS = 16_384
CHUNK_BYTES = 32 * MIB

# What one commit may hold decompressed. A batch of six thousand bytes can stand for 60 MiB, so the size of what was
# fetched bounds nothing; a full commit of readings (1 M rows of 100 bytes) stays below.
COMMIT_BYTES_MAX = 256 * MIB
# What a row costs beside its bytes: cells of a dozen columns.
_ROW_BYTES = 64

# Times that datetimes can hold (years 1 to 9999), in ms. Kafka's "no timestamp" is -1.
_ARRIVAL_MIN, _ARRIVAL_MAX = 0, 253_402_300_799_999

_NO_HEADERS: Headers = ()


class Built(NamedTuple):
    """Everything a commit needs. `schema` is the table's columns afterwards."""

    files: list[tuple[Add, bytes]]
    txns: list[Txn]
    schema: Schema
    kafka: list[KafkaSpan]
    rows: int
    dead: int
    rest: list[Fetched | OutOfRange]  # what was too much for one commit

    @property
    def duplicates(self) -> int:
        return sum(span.duplicates for span in self.kafka)


class _Records:
    """Records gathered up to a chunk: parallel lists."""

    def __init__(self) -> None:
        self.runs: list[Run] = []
        self.offsets: list[int] = []
        self.timestamps: list[int] = []
        self.keys: list[bytes | None] = []
        self.values: list[bytes | None] = []
        self.headers: list[Headers] = []
        self.broken: dict[int, str] = {}  # rows of batches that cannot be taken apart
        self.weight = 0  # bytes, decompressed

    def add(self, run: Run, columns: Columns) -> None:
        self.runs.append(run)
        self.offsets += columns[0]
        self.timestamps += columns[1]
        self.keys += columns[2]
        self.values += columns[3]
        self.headers += columns[4]

    def take(self, rows: list[int]) -> None:
        self.offsets = [self.offsets[row] for row in rows]
        self.timestamps = [self.timestamps[row] for row in rows]
        self.keys = [self.keys[row] for row in rows]
        self.values = [self.values[row] for row in rows]
        self.broken = {
            index: self.broken[row] for index, row in enumerate(rows) if row in self.broken
        }


def build(
    fetched: Sequence[Fetched | OutOfRange],
    *,
    ledger: Ledger,
    decoder: PayloadDecoder,
    now_ms: int,
    zstd_level: int,
) -> Built:
    """Raises Corrupt where a batch's bytes are not those that were written."""
    tables = []
    dead = 0
    rest: list[Fetched | OutOfRange] = []
    for records in _chunks(fetched, ledger, rest):
        table, count = _chunk_table(records, ledger, decoder, now_ms)
        tables.append(table)
        dead += count
    schema = decoder.columns.schema
    target = schema.arrow(without=frozenset({DAY})) if _all_ours(schema) else _ours(schema)
    whole = pa.concat_tables(
        [_with_dictionaries(target).empty_table(), *tables], promote_options="default"
    )
    kafka = ledger.kafka_spans()
    written = [
        data_file(_without_empty(part), day=day, kafka=kafka, now_ms=now_ms, zstd_level=zstd_level)
        for day, part in sorted(split_days(whole, now_ms=now_ms).items())
    ]
    return Built(
        files=_tagged(written, ledger, kafka),
        txns=ledger.txns(now_ms=now_ms),
        schema=schema,
        kafka=kafka,
        rows=whole.num_rows,
        dead=dead,
        rest=rest,
    )


def _all_ours(schema: Schema) -> bool:
    types = arrow_types()
    return all(str(field.type) in types for field in schema.fields)


def _ours(schema: Schema) -> pa.Schema:
    """Another writer added columns of types we do not write: they are absent from our files, and so null."""
    types = arrow_types()
    return Schema([f for f in schema.fields if str(f.type) in types]).arrow(
        without=frozenset({DAY})
    )


def _with_dictionaries(schema: pa.Schema) -> pa.Schema:
    """Texts that repeat are dictionaries until they are written (Parquet holds plain strings either way)."""
    return pa.schema(
        [
            pa.field(field.name, _REPEATING) if field.name in _REPEATING_NAMES else field
            for field in schema
        ]
    )


_REPEATING = pa.dictionary(pa.int32(), pa.string())
_REPEATING_NAMES = frozenset(
    {"device", "topic", "edge", "stream", "log", "ts_source", "clock_mark"}
)
_SYSTEM_NAMES = frozenset(field.name for field in SYSTEM)


def _without_empty(rows: pa.Table) -> pa.Table:
    """Decoded columns that no row of this file has are left out: a reader takes them as null."""
    return rows.select(
        [
            name
            for name in rows.column_names
            if name in _SYSTEM_NAMES or rows[name].null_count < rows.num_rows
        ]
    )


# ---- records


def _chunks(
    fetched: Sequence[Fetched | OutOfRange], ledger: Ledger, rest: list[Fetched | OutOfRange]
) -> Iterator[_Records]:
    """Puts what is left over at COMMIT_BYTES_MAX into `rest`: a commit of its own, which goes on where this one ended."""
    records = _Records()
    weight = 0
    for index, item in enumerate(fetched):
        if isinstance(item, OutOfRange):
            ledger.lose(item.partition, item.offset, item.bounds.start)
            continue
        aborted = _Aborting(item.aborted)
        for header, batch in split_batches(item.batches):
            at = ledger.next_offset(item.partition, item.offset)
            if header.next_offset <= at:
                aborted.is_data(header, batch)
                continue
            if weight + records.weight >= COMMIT_BYTES_MAX:
                rest += [item._replace(offset=at), *fetched[index + 1 :]]
                break
            columns = _read_batch(header, batch, at, records, aborted)
            ledger.read(item.partition, header.next_offset, records=len(columns[0]))
            if columns[0]:
                records.add(Run(item.partition, len(columns[0])), columns)
            if len(records.offsets) >= CHUNK_ROWS or records.weight >= CHUNK_BYTES:
                weight += records.weight
                yield records
                records = _Records()
        if rest:
            break
    if records.offsets:
        yield records


def _read_batch(
    header: BatchHeader, batch: memoryview, at: int, records: _Records, aborted: _Aborting
) -> Columns:
    if not aborted.is_data(header, batch):
        return [], [], [], [], []
    try:
        _, columns, size = decode_weighed(batch)
    except (Corrupt, Refused) as error:
        _check_crc(batch, error)
        columns, size = _dead_batch(header, batch), len(batch)
        for row in range(len(columns[0])):
            records.broken[len(records.offsets) + row] = f"broken batch: {error}"
    records.weight += size + _ROW_BYTES * len(columns[0])
    if header.base_offset < at:
        skip = sum(offset < at for offset in columns[0])
        if skip and records.broken:
            first = len(records.offsets)
            records.broken = {row: why for row, why in records.broken.items() if row < first} | {
                row - skip: why for row, why in records.broken.items() if row >= first + skip
            }
        columns = tuple(column[skip:] for column in columns)  # type: ignore[assignment]
    return columns


def _check_crc(batch: memoryview, error: Exception) -> None:
    try:
        validate_batch(batch)
    except Corrupt as broken:
        if "CRC" in str(broken) or "cut short" in str(broken):
            raise broken from error


def _dead_batch(header: BatchHeader, batch: memoryview) -> Columns:
    """A row for each record the header speaks of; the bytes themselves with the first.

    Up to a chunk of them: a number in a header proves nothing, and beyond it the offsets count as absent.
    """
    count = min(header.record_count, CHUNK_ROWS)
    values: list[bytes | None] = [None] * count
    if count:
        values[0] = bytes(batch)
    offsets = list(range(header.base_offset, header.base_offset + count))
    stamps = [header.max_timestamp] * count
    return offsets, stamps, [None] * count, values, [_NO_HEADERS] * count


class _Aborting:
    """Which batches belong to aborted transactions (KIP-98): from the first offset named to the producer's marker."""

    def __init__(self, aborted: Sequence[Aborted]) -> None:
        self._coming = sorted(aborted, key=lambda item: item.first_offset)
        self._open: set[int] = set()

    def is_data(self, header: BatchHeader, batch: memoryview) -> bool:
        """Batches come in offset order."""
        del batch
        while self._coming and self._coming[0].first_offset <= header.last_offset:
            self._open.add(self._coming.pop(0).producer_id)
        if header.is_control:
            self._open.discard(header.producer_id)
            return False
        return not (header.is_transactional and header.producer_id in self._open)


# ---- one chunk


def _chunk_table(
    records: _Records, ledger: Ledger, decoder: PayloadDecoder, now_ms: int
) -> tuple[pa.Table, int]:
    addresses = read_addresses(records.headers, records.runs, records.offsets)
    kept = ledger.admit(addresses, records.runs)
    if kept is not None:
        addresses = addresses.take(kept)
        records.take(kept)
    arrival = _arrivals(records.timestamps)
    values = records.values
    raw: dict[int, bytes] = {}
    if records.broken:
        raw = {row: value for row in records.broken if (value := values[row]) is not None}
        values = [None if row in records.broken else value for row, value in enumerate(values)]
    decoded = decoder.decode(values, arrival, now_us=now_ms * 1000)
    device = _texts(records.keys)
    topic = device
    if addresses.topic is not None:
        topic = pc.coalesce(_texts(addresses.topic), device)
    device = device.dictionary_encode()
    microseconds = arrow_types()["timestamp"]
    place = pa.array(addresses.place, pa.int32())
    error, payload_raw = decoded.error, decoded.payload_raw
    if records.broken:
        error = _overlay(error, records.broken, pa.string())
        payload_raw = _overlay(payload_raw, raw, pa.binary())
    columns = {
        "device": device,
        "topic": device if addresses.topic is None else topic.dictionary_encode(),
        "ts": decoded.ts.cast(microseconds),
        "ts_source": _ts_source(decoded),
        "arrival": arrival.cast(microseconds),
        "edge": _by_place(addresses, place, "edge"),
        "stream": _by_place(addresses, place, "stream"),
        "partition": pa.array([p.partition for p in addresses.places], pa.int32()).take(place),
        "offset": pa.array(addresses.offset, pa.int64()),
        "log": _by_place(addresses, place, "log"),
        "payload": decoded.payload,
        "payload_raw": payload_raw,
        "error": error,
        "headers": pa.array(addresses.others, pa.string())
        if addresses.others is not None
        else pa.nulls(len(values), pa.string()),
        "clock_mark": _clock_marks(addresses, len(values)),
    }
    dead = decoded.dead + len(records.broken)
    if dead:
        for row, why in enumerate(error.to_pylist()):
            if why is not None:
                ledger.bury(addresses.places[addresses.place[row]])
    return pa.table(columns | decoded.columns), dead


def _clock_marks(addresses: Addresses, rows: int) -> pa.Array:
    """Nearly always one for the whole chunk."""
    clock = addresses.clock
    if clock is None:
        return pa.nulls(rows, _REPEATING)
    if clock.count(clock[0]) == rows:
        return pa.DictionaryArray.from_arrays(
            pa.repeat(pa.scalar(0, pa.int32()), rows), _texts(clock[:1])
        )
    return _texts(clock).dictionary_encode()


def _ts_source(decoded: Decoded) -> pa.Array:
    if pc.all(decoded.from_payload).as_py():
        index = pa.repeat(pa.scalar(0, pa.int32()), len(decoded.ts))
    else:
        index = pc.if_else(
            decoded.ts.is_valid(), pc.if_else(decoded.from_payload, 0, 1), None
        ).cast(pa.int32())
    return pa.DictionaryArray.from_arrays(index, pa.array(["payload", "arrival"]))


def _arrivals(timestamps: list[int]) -> pa.Array:
    """Milliseconds to µs; what no calendar holds is null."""
    if timestamps and (min(timestamps) < _ARRIVAL_MIN or max(timestamps) > _ARRIVAL_MAX):
        return pa.array(
            [t * 1000 if _ARRIVAL_MIN <= t <= _ARRIVAL_MAX else None for t in timestamps],
            pa.int64(),
        )
    return pc.multiply(pa.array(timestamps, pa.int64()), 1000)


def _texts(values: Sequence[bytes | None]) -> pa.Array:
    """As text; bytes that are no UTF-8 as their escapes: a name one can still read and search for."""
    try:
        return pa.array(values, pa.binary()).cast(pa.string())
    except pa.ArrowInvalid:
        return pa.array(
            [None if v is None else v.decode("utf-8", "backslashreplace") for v in values],
            pa.string(),
        )


def _by_place(addresses: Addresses, place: pa.Array, name: str) -> pa.Array:
    names = pa.array([getattr(where, name) for where in addresses.places], pa.string())
    distinct = names.dictionary_encode()
    if len(distinct.dictionary) == len(names):
        return pa.DictionaryArray.from_arrays(place, names)
    return pa.DictionaryArray.from_arrays(distinct.indices.take(place), distinct.dictionary)


def _overlay(
    array: pa.Array, cells: dict[int, str] | dict[int, bytes], kind: pa.DataType
) -> pa.Array:
    return pa.array([cells.get(row, old) for row, old in enumerate(array.to_pylist())], kind)


# ---- lineage


def _tagged(
    written: list[DataFile], ledger: Ledger, kafka: list[KafkaSpan]
) -> list[tuple[Add, bytes]]:
    files = []
    for index, file in enumerate(written):
        spans = ledger.row_spans() if len(written) == 1 else _spans_of(file.rows)
        tag = tags(spans, kafka if index == 0 else [])
        files.append((msgspec.structs.replace(file.add, tags=tag), file.data))
    return files


def _spans_of(rows: pa.Table) -> list[RowSpan]:
    """Several files share the commit's rows: count each one's own. Rare (around midnight, or after an outage)."""
    offsets: dict[EdgePartition, list[tuple[int, int]]] = {}
    dead: dict[EdgePartition, int] = {}
    names = ("edge", "log", "stream", "partition", "offset", "error")
    for edge, log, stream, partition, offset, error in zip(
        *(rows[name].to_pylist() for name in names), strict=True
    ):
        where = EdgePartition(edge, log, stream, partition)
        offsets.setdefault(where, []).append((offset, offset))
        dead[where] = dead.get(where, 0) + (error is not None)
    return [
        RowSpan(
            edge=where.edge,
            log=where.log,
            stream=where.stream,
            partition=where.partition,
            ranges=merge(ranges),
            dead=dead[where],
        )
        for where, ranges in offsets.items()
    ]


def today(now_ms: int) -> datetime.date:
    return datetime.datetime.fromtimestamp(now_ms / 1000, datetime.UTC).date()

"""The proof that a lake is complete, from the tables' logs alone: no data file is opened.

Of each edge partition (edge, log, stream, partition): the offset ranges of all live files must tile what the table
covers (0 … position, and after an outage the live data beyond, see coverage.py) without hole or overlap, except for ranges
that the edge declared lost (the `_gaps` stream, the one table whose rows are read). What lies between the intervals that
are covered is *awaited*: history that still fills in, no loss, but not complete either. Of each Kafka partition: the
spans of all commits must follow one another from the first offset ever seen to the position, and every offset in them
must be a row, a dropped duplicate, absent, or declared lost. Of each file: its ranges add up to its rows; and the store
holds it, at its size.

Files that another tool wrote (a compaction) carry no lineage: their address columns are read instead, and said so.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable

import pyarrow as pa
import pyarrow.parquet as pq

from ...core.errors import Corrupt, Missing
from ...core.gap import Gap
from ...core.objectstore import ObjectStore, join
from ...core.record import GAPS_STREAM, TopicPartition
from .coverage import Coverage
from .delta import Add, Snapshot
from .lineage import KafkaSpan, RowSpan, kafka_spans, merge, row_spans
from .opening import load_tables, open_for_reading, table_names
from .positions import EdgePartition, kafka_app_id, parse_interval, parse_kafka
from .report import KafkaProof, PlaceProof, Report, TableProof

Range = tuple[int, int]

_ADDRESS = ("edge", "log", "stream", "partition", "offset", "error")


def run_verify(*, lake: str, edge: str | None = None) -> Report:
    """Raises Refused where there is no lake; Unavailable, Corrupt."""

    async def verify() -> Report:
        store = await open_for_reading(lake)
        try:
            return await verify_lake(store, edge=edge)
        finally:
            await store.close()

    return asyncio.run(verify())


async def verify_lake(store: ObjectStore, *, edge: str | None = None) -> Report:
    tables = await load_tables(store)
    report = Report(lake=store.location, edge=edge)
    ledgers = [await _read_table(store, table, report) for table in tables.values()]
    gaps = await _declared_gaps(store, tables.get(GAPS_STREAM), report)
    places: dict[EdgePartition, _Place] = {}
    for ledger in ledgers:
        for where, place in ledger.items():
            if where.edge:
                places.setdefault(where, _Place()).join(place)
    for table in tables.values():
        for txn in table.txns.values():
            if parsed := parse_interval(txn.app_id):
                where, first = parsed
                place = places.setdefault(where, _Place())
                place.covered = place.covered or Coverage()
                place.covered.add(first, txn.version)
    for where, place in sorted(places.items()):
        if edge is None or where.edge == edge:
            report.places.append(_prove_place(where, place, gaps.get(where, []), report))
    for name in await table_names(store):
        if name not in tables and await store.list(f"{name}/data/", limit=1):
            report.problems.append(f"{name}: data files, but no version in the table's log")
    if not tables:
        report.problems.append(f"there are no tables at {store.location}")
    elif edge is not None and not report.places:
        report.problems.append(f"the lake holds nothing of edge {edge!r}")
    return report


class _Place:
    """What the tables say of one edge partition."""

    def __init__(self) -> None:
        self.ranges: list[Range] = []
        self.dead = 0
        self.covered: Coverage | None = None

    def join(self, other: _Place) -> None:
        self.ranges += other.ranges
        self.dead += other.dead


# ---- tables


async def _read_table(
    store: ObjectStore, table: Snapshot, report: Report
) -> dict[EdgePartition, _Place]:
    if lacking := set(_ADDRESS) - {field.name for field in table.schema.fields}:
        _judge_other(table, lacking, report)
        return {}
    places: dict[EdgePartition, _Place] = {}
    kafka: list[KafkaSpan] = []
    rows = foreign = 0
    for add in table.files.values():
        spans = row_spans(add)
        if spans is None:
            foreign += 1
            spans = await _spans_from_data(store, table, add, report)
        held = sum(span.rows for span in spans)
        if add.rows is not None and add.rows != held:
            report.problems.append(
                f"{table.table}/{add.path}: {add.rows} rows, but addresses for {held}"
            )
        rows += held
        kafka += kafka_spans(add)
        for span in spans:
            place = places.setdefault(span.place, _Place())
            place.ranges += span.ranges
            place.dead += span.dead
    if foreign:
        report.notes.append(
            f"{table.table}: {foreign} files were written by another tool; their address columns were read"
        )
    await _check_files(store, table, report)
    report.tables.append(
        TableProof(
            name=table.table,
            version=table.version,
            files=len(table.files),
            rows=rows,
            dead_letters=sum(place.dead for place in places.values()),
            duplicates=sum(span.duplicates for span in kafka),
        )
    )
    _prove_kafka(table, kafka, report, rewritten=places if foreign else None)
    _prove_unaddressed(table, places, report)
    return places


def _judge_other(table: Snapshot, lacking: set[str], report: Report) -> None:
    """A table that lacks our columns: another's, which proves nothing, or ours that another writer changed."""
    names = ", ".join(sorted(lacking))
    if any(parse_kafka(app_id) for app_id in table.txns):
        report.problems.append(f"{table.table}: another writer took away the columns {names}")
    else:
        report.notes.append(f"{table.table}: no sink made this table; it is not judged")


async def _spans_from_data(
    store: ObjectStore, table: Snapshot, add: Add, report: Report
) -> list[RowSpan]:
    rows = await _columns_of(store, table, add, _ADDRESS, report)
    if rows is None:
        return []
    found: dict[EdgePartition, _Place] = {}
    for edge, log, stream, partition, offset, error in zip(
        *(rows[name].to_pylist() for name in _ADDRESS), strict=True
    ):
        place = found.setdefault(EdgePartition(edge, log, stream, partition), _Place())
        place.ranges.append((offset, offset))
        place.dead += error is not None
    return [
        RowSpan(
            edge=where.edge,
            log=where.log,
            stream=where.stream,
            partition=where.partition,
            ranges=_joined(place.ranges),
            dead=place.dead,
        )
        for where, place in found.items()
    ]


async def _columns_of(
    store: ObjectStore, table: Snapshot, add: Add, columns: tuple[str, ...], report: Report
) -> pa.Table | None:
    """None where the file is not there (reported with the files) or cannot be read. No threads: they outlive a command."""
    try:
        stored = await store.get(join(table.table, add.file_path))
        file = pq.ParquetFile(pa.BufferReader(stored.data), pre_buffer=False)
        found = file.read(columns=list(columns), use_threads=False)
        return found.select(list(columns))
    except Missing:
        return None
    except (pa.ArrowException, OSError, KeyError) as error:
        report.problems.append(f"{table.table}/{add.path}: cannot be read: {error}")
        return None


def _joined(ranges: list[Range]) -> list[Range]:
    """As lineage.merge, but what overlaps stays apart, to be found."""
    out: list[Range] = []
    for first, last in sorted(ranges):
        if out and first == out[-1][1] + 1:
            out[-1] = (out[-1][0], last)
        else:
            out.append((first, last))
    return out


async def _check_files(store: ObjectStore, table: Snapshot, report: Report) -> None:
    """One LIST per thousand files."""
    sizes: dict[str, int] = {}
    after = ""
    prefix = f"{table.table}/"
    while page := await store.list(prefix, after=after):
        sizes |= {info.key.removeprefix(prefix): info.size for info in page}
        after = page[-1].key
    for add in table.files.values():
        size = sizes.get(add.file_path)
        if size is None and "://" not in add.path:
            report.problems.append(f"{table.table}/{add.path}: in the log, but not in the store")
        elif size is not None and size != add.size:
            report.problems.append(
                f"{table.table}/{add.path}: {size} bytes in the store, {add.size} in the log"
            )


# ---- edge partitions


async def _declared_gaps(
    store: ObjectStore, table: Snapshot | None, report: Report
) -> dict[EdgePartition, list[Range]]:
    gaps: dict[EdgePartition, list[Range]] = {}
    for add in table.files.values() if table else ():
        assert table is not None
        rows = await _columns_of(store, table, add, ("payload",), report)
        for payload in rows["payload"].to_pylist() if rows else ():
            try:
                gap = Gap.decode((payload or "").encode())
            except Corrupt as error:
                report.problems.append(f"{GAPS_STREAM}: {error}: {payload!r}")
                continue
            where = EdgePartition(gap.edge, gap.log, gap.stream, gap.partition)
            gaps.setdefault(where, []).append((gap.first, gap.last))
            report.gaps.append(gap)
    return {where: merge(ranges) for where, ranges in gaps.items()}


def _prove_place(
    where: EdgePartition, place: _Place, gaps: list[Range], report: Report
) -> PlaceProof:
    held, covered = merge(place.ranges), place.covered
    if covered is None:
        report.problems.append(f"{where}: rows, but no committed position")
        covered = Coverage([(0, max((last + 1 for _, last in held), default=0))])
    position = covered.end
    holes, overlaps = _tile(place.ranges, 0, position)
    between = [(first, after - 1) for first, after in covered.holes()]
    missing = _subtract(_subtract(holes, between), gaps)
    awaited = _subtract(_subtract(between, held), gaps)
    if held and held[-1][1] >= position:
        report.problems.append(
            f"{where}: rows up to {held[-1][1]}, beyond the committed position {position}"
        )
    if strays := _subtract(between, _subtract(between, held)):
        report.problems.append(f"{where}: rows at {_show(strays[0])}, beyond what is committed")
    report.problems += [f"{where}: offsets {_show(hole)} are missing" for hole in missing]
    report.problems += [f"{where}: offsets {_show(over)} are there twice" for over in overlaps]
    return PlaceProof(
        edge=where.edge,
        log=where.log,
        stream=where.stream,
        partition=where.partition,
        position=position,
        rows=_size(place.ranges),
        dead_letters=place.dead,
        declared_lost=_size(holes) - _size(missing) - _size(awaited),
        missing=missing,
        awaited=awaited,
        twice=overlaps,
    )


def _prove_unaddressed(
    table: Snapshot, places: dict[EdgePartition, _Place], report: Report
) -> None:
    """Rows with Kafka's own offsets may have holes (compaction), but none twice.

    Where several clusters fed the table, each gave out the same offsets; the spans of each are judged by themselves.
    """
    if len({parsed[0] for app_id in table.txns if (parsed := parse_kafka(app_id))}) > 1:
        return
    for where, place in places.items():
        if not where.edge:
            _, overlaps = _tile(place.ranges, 0, 0)
            report.problems += [
                f"{table.table}: {where}: offsets {_show(over)} are there twice"
                for over in overlaps
            ]


# ---- Kafka partitions


def _prove_kafka(
    table: Snapshot,
    spans: list[KafkaSpan],
    report: Report,
    *,
    rewritten: dict[EdgePartition, _Place] | None,
) -> None:
    """`rewritten`: the rows there are, where another tool's files replaced some of ours, and their spans with them."""
    by_partition: dict[str, list[KafkaSpan]] = {}
    for span in spans:
        partition = TopicPartition(span.topic, span.partition)
        by_partition.setdefault(kafka_app_id(span.cluster, partition), []).append(span)
    for app_id in table.txns:
        if parse_kafka(app_id):
            by_partition.setdefault(app_id, [])
    for app_id, held in sorted(by_partition.items()):
        parsed = parse_kafka(app_id)
        assert parsed is not None
        cluster, partition = parsed
        name = f"{partition} of cluster {cluster}"
        position = table.position(app_id)
        start = min((span.first for span in held), default=0)
        end = max((span.next for span in held), default=0)
        holes, overlaps = _tile(
            [(span.first, span.next - 1) for span in held], start, position or end
        )
        found = [f"{name}: offsets {_show(hole)} are not accounted for" for hole in holes]
        found += [f"{name}: offsets {_show(over)} are accounted for twice" for over in overlaps]
        if position is None or (held and end > position):
            found.append(f"{name}: accounted for up to {end}, but committed up to {position}")
        (report.problems if rewritten is None else report.notes).extend(found)
        report.problems += _unproven(partition, name, holes, rewritten)
        report.problems += [
            f"{name}: offsets {span.first}-{span.next - 1} do not add up: {span.rows} rows, "
            f"{span.duplicates} duplicates, {span.absent} absent, {span.lost} lost"
            for span in held
            if not span.adds_up
        ]
        lost = sum(span.lost for span in held)
        if lost:
            report.notes.append(f"{name}: {lost} offsets were retired before they were read")
        report.partitions.append(
            KafkaProof(
                cluster=cluster,
                topic=partition.topic,
                partition=partition.partition,
                first=start,
                position=position or 0,
                rows=sum(span.rows for span in held),
                duplicates=sum(span.duplicates for span in held),
                absent=sum(span.absent for span in held),
                lost=lost,
                missing=holes,
            )
        )


def _unproven(
    partition: TopicPartition,
    name: str,
    holes: list[Range],
    rewritten: dict[EdgePartition, _Place] | None,
) -> list[str]:
    """Records without an address have nothing but their rows to speak for them: where no row is, one may be gone."""
    place = (rewritten or {}).get(EdgePartition("", "", *partition))
    if place is None:
        return []
    return [
        f"{name}: offsets {_show(hole)} have no row, and what accounted for them was rewritten"
        for hole in _subtract(holes, merge(place.ranges))
    ]


# ---- ranges


def _tile(ranges: Iterable[Range], start: int, end: int) -> tuple[list[Range], list[Range]]:
    """(holes, overlaps) of inclusive ranges against start … end − 1."""
    holes: list[Range] = []
    overlaps: list[Range] = []
    at = start
    for first, last in sorted(ranges):
        if first > at and at < end:
            holes.append((at, min(first, end) - 1))
        elif first < at and at > start:
            overlaps.append((first, min(last, at - 1)))
        at = max(at, last + 1)
    if at < end:
        holes.append((at, end - 1))
    return holes, overlaps


def _subtract(holes: list[Range], gaps: list[Range]) -> list[Range]:
    out = []
    for first, last in holes:
        at = first
        for gap_first, gap_last in gaps:
            if gap_last < at or gap_first > last:
                continue
            if gap_first > at:
                out.append((at, gap_first - 1))
            at = gap_last + 1
        if at <= last:
            out.append((at, last))
    return out


def _size(ranges: Iterable[Range]) -> int:
    return sum(last - first + 1 for first, last in ranges)


def _show(found: Range) -> str:
    first, last = found
    return f"{first}" if first == last else f"{first}-{last}"


__all__ = ["Report", "run_verify", "verify_lake"]

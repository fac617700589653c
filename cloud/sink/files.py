"""Data files: rows sorted by device and time as Parquet, one file per arrival day and commit.

- The day is that of *arrival*, so late readings never reopen old days. It is a matter of layout, not a promise: an
  edge whose clock believes in 1970 or 2099 gets no partition of its own but the day of the commit, and a commit of
  more than DAYS_MAX days folds the smaller ones into the newest.
- Sorted by the device's *text* (sorting by dictionary index prunes nothing), then time: one device's rows are together.
- Encodings by type: offsets and times as deltas, repeating text by dictionary, doubles by dictionary too (byte stream
  split loses to it on quantised sensors), zstd over all.
- The name says what is inside and ends in a digest of the bytes. The same records give the same name: an attempt that
  is repeated after a crash finds its file there and leaves no orphan. Other bytes give another name: no file that an
  add action names is ever overwritten.
"""

from __future__ import annotations

import datetime
import hashlib
import io
from collections.abc import Sequence
from typing import NamedTuple

import msgspec
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from ..lake.delta.add import Add
from ..lake.lineage import KafkaSpan
from .columns import DAY

DAYS_MAX = 8
ROW_GROUP_ROWS = 131_072
# Longer texts bound nothing that anybody asks for; Delta's own writers cut at 32.
STATS_TEXT_MAX = 64

_EPOCH = datetime.date(1970, 1, 1)
_DAY_US = 86_400_000_000
_FIRST_DAY = (datetime.date(2020, 1, 1) - _EPOCH).days

_DELTA_ENCODED = ("ts", "arrival", "offset", "partition")
_STATS_COLUMNS = ("device", "ts", "arrival", "offset")


class DataFile(NamedTuple):
    """Not yet stored. `add` has no tags yet."""

    data: bytes
    add: Add
    rows: pa.Table


def split_days(rows: pa.Table, *, now_ms: int) -> dict[datetime.date, pa.Table]:
    """By arrival day, bounded. No rows: one empty part, of today."""
    today = now_ms * 1000 // _DAY_US
    days = pc.floor(pc.divide(pc.cast(rows["arrival"].cast(pa.int64()), pa.float64()), _DAY_US))
    days = pc.cast(pc.fill_null(days, float(today)), pa.int64())
    plausible = pc.and_(pc.greater_equal(days, _FIRST_DAY), pc.less_equal(days, today + 1))
    days = pc.if_else(plausible, days, today)
    counts = {item["values"]: item["counts"] for item in pc.value_counts(days).to_pylist()}
    if len(counts) <= 1:
        return {_EPOCH + datetime.timedelta(days=next(iter(counts), today)): rows}
    kept = sorted(sorted(counts, key=lambda day: counts[day], reverse=True)[:DAYS_MAX])
    if len(kept) < len(counts):
        days = pc.if_else(pc.is_in(days, pa.array(kept, pa.int64())), days, kept[-1])
    return {_EPOCH + datetime.timedelta(days=day): rows.filter(pc.equal(days, day)) for day in kept}


def data_file(
    rows: pa.Table,
    *,
    day: datetime.date,
    kafka: Sequence[KafkaSpan],
    now_ms: int,
    zstd_level: int,
) -> DataFile:
    rows = _sorted(rows)
    data = _encode(rows, zstd_level)
    digest = hashlib.sha256(data).hexdigest()[:16]
    path = f"data/{DAY}={day.isoformat()}/{_label(kafka)}-{digest}.parquet"
    add = Add(
        path=path,
        size=len(data),
        modification_time=now_ms,
        data_change=True,
        partition_values={DAY: day.isoformat()},
        stats=_stats(rows),
    )
    return DataFile(data, add, rows)


def _sorted(rows: pa.Table) -> pa.Table:
    """By device's text, then time; records of equal keys stay in the order of the log (the sort is stable).

    Repeating texts are dictionaries: the few thousand devices are sorted once, and rows by the device's rank.
    """
    rows = rows.unify_dictionaries().combine_chunks()
    if not rows.num_rows:
        return rows
    device = rows["device"].chunk(0)
    order = pc.sort_indices(device.dictionary)
    rank = pc.sort_indices(order).cast(pa.int32())  # the inverse of a permutation
    keys = pa.table({"rank": rank.take(device.indices), "ts": rows["ts"]})
    order = pc.sort_indices(keys, [("rank", "ascending"), ("ts", "ascending")])
    return pa.table(
        {
            name: rows[name] if _is_constant(rows[name]) else rows[name].take(order)
            for name in rows.column_names
        }
    )


def _is_constant(column: pa.ChunkedArray) -> bool:
    """The same in every row: no need to move anything. Many columns are, in one file."""
    if column.null_count == len(column):
        return True
    return (
        pa.types.is_dictionary(column.type)
        and not column.null_count
        and len(column.chunk(0).dictionary) == 1
    )


def _label(kafka: Sequence[KafkaSpan]) -> str:
    if not kafka:
        return "p"
    span = kafka[0]
    more = f"+{len(kafka) - 1}" if len(kafka) > 1 else ""
    return f"p{span.partition}{more}-{span.first}-{span.next}"


def _encode(rows: pa.Table, zstd_level: int) -> bytes:
    deltas = [name for name in _DELTA_ENCODED if name in rows.column_names]
    out = io.BytesIO()
    pq.write_table(
        rows,
        out,
        compression="zstd",
        compression_level=zstd_level,
        use_dictionary=[name for name in rows.column_names if name not in deltas],
        column_encoding=dict.fromkeys(deltas, "DELTA_BINARY_PACKED"),
        row_group_size=ROW_GROUP_ROWS,
        write_statistics=True,
        store_schema=False,
    )
    return out.getvalue()


def _stats(rows: pa.Table) -> str:
    low: dict[str, object] = {}
    high: dict[str, object] = {}
    nulls: dict[str, int] = {}
    for name in _STATS_COLUMNS:
        column = rows[name]
        nulls[name] = column.null_count
        if pa.types.is_dictionary(column.type):
            column = pc.unique(column).cast(pa.string())
        bounds = pc.min_max(column).as_py()
        first, last = bounds["min"], bounds["max"]
        if first is None:
            continue
        if isinstance(first, str):
            if max(len(first), len(last)) <= STATS_TEXT_MAX:
                low[name], high[name] = first, last
        elif isinstance(first, datetime.datetime):
            # readers take milliseconds: the maximum is rounded up, so that it still bounds
            low[name] = _instant(first)
            high[name] = _instant(last + datetime.timedelta(microseconds=999))
        else:
            low[name], high[name] = first, last
    stats = {"numRecords": rows.num_rows, "minValues": low, "maxValues": high, "nullCount": nulls}
    return msgspec.json.encode(stats).decode()


def _instant(moment: datetime.datetime) -> str:
    return moment.astimezone(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%S.") + (
        f"{moment.microsecond // 1000:03d}Z"
    )

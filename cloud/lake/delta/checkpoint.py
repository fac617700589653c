"""A checkpoint: the state at one version as Parquet, one action per row, so that a reader need not replay from 0.

We write single-file classic checkpoints and read those and multi-part ones (other writers). The hint
`_last_checkpoint` may be lost, late or damaged: then a LIST finds the newest checkpoint.
"""

from __future__ import annotations

import io
from typing import TypeVar

import msgspec
import pyarrow as pa
import pyarrow.parquet as pq

from ....core.errors import Corrupt
from .add import Add
from .commit import Commit
from .metadata import Metadata
from .protocol import Protocol
from .remove import Remove
from .txn import Txn

_Action = TypeVar("_Action", Txn, Remove, Add, Protocol, Metadata)

_STRING_MAP = pa.map_(pa.string(), pa.string())

SCHEMA = pa.schema(
    {
        "txn": pa.struct(
            {"appId": pa.string(), "version": pa.int64(), "lastUpdated": pa.int64()}.items()
        ),
        "add": pa.struct(
            {
                "path": pa.string(),
                "partitionValues": _STRING_MAP,
                "size": pa.int64(),
                "modificationTime": pa.int64(),
                "dataChange": pa.bool_(),
                "stats": pa.string(),
                "tags": _STRING_MAP,
            }.items()
        ),
        "remove": pa.struct(
            {
                "path": pa.string(),
                "deletionTimestamp": pa.int64(),
                "dataChange": pa.bool_(),
                "extendedFileMetadata": pa.bool_(),
                "partitionValues": _STRING_MAP,
                "size": pa.int64(),
            }.items()
        ),
        "metaData": pa.struct(
            {
                "id": pa.string(),
                "name": pa.string(),
                "description": pa.string(),
                "format": pa.struct({"provider": pa.string(), "options": _STRING_MAP}.items()),
                "schemaString": pa.string(),
                "partitionColumns": pa.list_(pa.string()),
                "configuration": _STRING_MAP,
                "createdTime": pa.int64(),
            }.items()
        ),
        "protocol": pa.struct(
            {"minReaderVersion": pa.int32(), "minWriterVersion": pa.int32()}.items()
        ),
    }
)


class LastCheckpoint(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True):
    version: int
    size: int = 0
    parts: int | None = None
    size_in_bytes: int | None = None
    num_of_add_files: int | None = None


def encode(state: Commit) -> bytes:
    actions: dict[str, list[object]] = {
        "protocol": [state.protocol],
        "metaData": [state.metadata],
        "txn": list(state.txns),
        "remove": list(state.removes),
        "add": list(state.adds),
    }
    total = sum(len(items) for items in actions.values())
    columns: dict[str, list[object]] = {name: [None] * total for name in SCHEMA.names}
    row = 0
    for name, items in actions.items():
        for item in items:
            columns[name][row] = _arrow_shape(msgspec.to_builtins(item), data_change=False)
            row += 1
    table = pa.table(
        {name: pa.array(columns[name], SCHEMA.field(name).type) for name in SCHEMA.names}
    )
    sink = io.BytesIO()
    # snappy: what every Delta reader is sure to have
    pq.write_table(table, sink, compression="snappy")
    return sink.getvalue()


def decode(parts: list[bytes], *, key: str) -> Commit:
    txns: list[Txn] = []
    removes: list[Remove] = []
    adds: list[Add] = []
    protocol: Protocol | None = None
    metadata: Metadata | None = None
    try:
        for part in parts:
            table = pq.read_table(pa.BufferReader(part))
            txns += _rows(table, "txn", Txn)
            removes += _rows(table, "remove", Remove)
            adds += _rows(table, "add", Add)
            protocol = next(iter(_rows(table, "protocol", Protocol)), protocol)
            metadata = next(iter(_rows(table, "metaData", Metadata)), metadata)
    except (pa.ArrowException, msgspec.MsgspecError, OSError) as error:
        raise Corrupt(f"{key} is not a Delta checkpoint: {error}") from error
    return Commit(
        protocol=protocol,
        metadata=metadata,
        txns=tuple(txns),
        removes=tuple(removes),
        adds=tuple(adds),
    )


def _rows(table: pa.Table, name: str, kind: type[_Action]) -> list[_Action]:
    if name not in table.column_names:
        return []
    return [
        msgspec.convert(_struct_shape(row), kind)
        for row in table.column(name).drop_null().to_pylist(maps_as_pydicts="strict")
    ]


def _struct_shape(row: dict[str, object]) -> dict[str, object]:
    """A Parquet null stands for "left out"."""
    return {
        name: _struct_shape(value) if name == "format" and isinstance(value, dict) else value
        for name, value in row.items()
        if value is not None
    }


def _arrow_shape(action: dict[str, object], *, data_change: bool) -> dict[str, object]:
    """In a checkpoint nothing is new: PROTOCOL.md asks for dataChange = false."""
    if "dataChange" in action:
        action["dataChange"] = data_change
    return action

"""The views an analyst sees, as SQL over the files that the tables' logs name. Files that no log names do not exist.

readings       every record of every stream but internal ones (`_…`): address, times, payload as text
<stream>       one per stream, its decoded columns; dead letters left out
dead_letters   what could not be decoded, of all streams: why, and the bytes
gaps           losses that an edge declared
clocks         what edges' clocks said, and how far they were to be trusted
<any>_repaired the same as `<any>`, with the time as well as it can be known now (repairing.py)
edges          how far each edge's partitions are in the lake
lake.<stream>  a table as it is, dead letters included
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping

from ...core.record import GAPS_STREAM, TIME_STREAM
from .delta import Field, Snapshot
from .positions import parse_edge
from .repairing import SUFFIX, clock_statements, repaired_select

_SQL_TYPES = {
    "string": "VARCHAR",
    "long": "BIGINT",
    "integer": "INTEGER",
    "short": "SMALLINT",
    "byte": "TINYINT",
    "double": "DOUBLE",
    "float": "FLOAT",
    "boolean": "BOOLEAN",
    "timestamp": "TIMESTAMPTZ",
    "date": "DATE",
    "binary": "BLOB",
}

# The columns of `readings`; every table that a sink made has them.
READINGS = (
    Field("device", "string"),
    Field("topic", "string"),
    Field("ts", "timestamp"),
    Field("ts_source", "string"),
    Field("arrival", "timestamp"),
    Field("edge", "string"),
    Field("stream", "string"),
    Field("partition", "integer"),
    Field("offset", "long"),
    Field("log", "string"),
    Field("payload", "string"),
    Field("error", "string"),
)
_DEAD = (*READINGS, Field("payload_raw", "binary"))
_OWN_VIEWS = ("readings", "dead_letters", "gaps", "edges", "clocks", "clock_pieces")
_MARK = Field("clock_mark", "string")
_LAYOUT = "day"

SCHEMA = "lake"


def quote(name: str) -> str:
    return '"' + name.replace('"', '""') + '"'


def text(value: str) -> str:
    return "'" + value.replace("'", "''") + "'"


def view_statements(tables: Mapping[str, Snapshot], *, location: str, sql: str | None) -> list[str]:
    """`sql` is the question to be asked: files of streams that it cannot mean are not opened."""
    wanted = {name: table for name, table in tables.items() if _may_mean(sql, name)}
    statements = [f"CREATE SCHEMA {SCHEMA}"]
    whole = _names_in_schema(tables)
    for name, table in wanted.items():
        select = _table_select(table, location)
        statements.append(f"CREATE VIEW {SCHEMA}.{quote(whole[name])} AS {select}")
    taken = {name.casefold() for name in _OWN_VIEWS}
    own = {name: _free(name, taken) for name in tables}
    for name, table in wanted.items():
        columns = ", ".join(quote(f.name) for f in _columns(table) if f.name != "error")
        statements.append(
            f"CREATE VIEW {quote(own[name])} AS SELECT {columns} "
            f"FROM {SCHEMA}.{quote(whole[name])}" + (" WHERE error IS NULL" if _ours(table) else "")
        )
    dead = [whole[name] for name, table in wanted.items() if _ours(table)]
    readings = [name for name in dead if not name.startswith("_")]
    statements += [
        f"CREATE VIEW readings AS {_union(readings, READINGS)}",
        f"CREATE VIEW dead_letters AS {_union(dead, _DEAD)} WHERE error IS NOT NULL",
        f"CREATE VIEW gaps AS {_gaps(GAPS_STREAM in dead)}",
        f"CREATE VIEW edges AS {_edges(tables)}",
    ]
    if sql is None or SUFFIX in sql.casefold() or "clock" in sql.casefold():
        statements += _repaired(wanted, own, whole, readings)
    return statements


def _repaired(
    wanted: Mapping[str, Snapshot],
    own: Mapping[str, str],
    whole: Mapping[str, str],
    readings: Iterable[str],
) -> Iterator[str]:
    known = TIME_STREAM in wanted and _ours(wanted[TIME_STREAM])
    yield from clock_statements(f"{SCHEMA}.{quote(whole[TIME_STREAM])}" if known else None)
    taken = {name.casefold() for name in (*_OWN_VIEWS, *own.values())}
    for name, table in wanted.items():
        if _ours(table):
            view = quote(_free(f"{own[name]}{SUFFIX}", taken))
            yield f"CREATE VIEW {view} AS {repaired_select(quote(own[name]), marked=_marked(table))}"
    marked = {whole[name] for name, table in wanted.items() if _marked(table)}
    parts = [_empty((*READINGS, _MARK))]
    columns = ", ".join(quote(field.name) for field in READINGS)
    for name in readings:
        mark = quote(_MARK.name) if name in marked else "NULL::VARCHAR"
        parts.append(f"SELECT {columns}, {mark} FROM {SCHEMA}.{quote(name)}")
    union = f"({' UNION ALL '.join(parts)})"
    yield f"CREATE VIEW readings{SUFFIX} AS {repaired_select(union, marked=True)}"


def _marked(table: Snapshot) -> bool:
    return _MARK in [Field(field.name, field.type) for field in table.schema.fields]


def _may_mean(sql: str | None, name: str) -> bool:
    """Views over all streams, and whatever lists views, mean all of them."""
    if sql is None:
        return True
    lowered = sql.casefold()
    if name == TIME_STREAM and any(word in lowered for word in (SUFFIX, "clock")):
        return True
    if any(word in lowered for word in ("readings", "dead_letters", "show", "schema", "duckdb_")):
        return True
    return name.casefold() in lowered or (name == GAPS_STREAM and "gaps" in lowered)


def _names_in_schema(tables: Mapping[str, Snapshot]) -> dict[str, str]:
    """The names under `lake.`: a stream's own, but where two differ in case alone."""
    taken = {GAPS_STREAM}
    names = {name: _free(name, taken) for name in tables if name != GAPS_STREAM}
    return names | {GAPS_STREAM: GAPS_STREAM}


def _free(name: str, taken: set[str]) -> str:
    """DuckDB does not tell upper from lower case; streams do."""
    candidate, number = name, 1
    while candidate.casefold() in taken:
        number += 1
        candidate = f"{name}_{number}"
    taken.add(candidate.casefold())
    return candidate


def _ours(table: Snapshot) -> bool:
    """Whether the table has a sink's columns. Another tool's may lie beside them."""
    return {field.name for field in _DEAD} <= {field.name for field in table.schema.fields}


def _columns(table: Snapshot) -> list[Field]:
    return [field for field in table.schema.fields if field.name != _LAYOUT]


def _empty(fields: Iterable[Field]) -> str:
    """No rows of the right columns: they exist even where no file has them yet."""
    nulls = ", ".join(
        f"NULL::{_SQL_TYPES.get(str(field.type), 'VARCHAR')} AS {quote(field.name)}"
        for field in fields
    )
    return f"SELECT {nulls} WHERE false"


def _table_select(table: Snapshot, location: str) -> str:
    fields = _columns(table)
    columns = ", ".join(quote(field.name) for field in fields)
    if not table.files:
        return _empty(fields)
    files = ", ".join(text(path) for path in _paths(table, location))
    read = f"read_parquet([{files}], union_by_name = true, hive_partitioning = false)"
    return f"SELECT {columns} FROM ({_empty(fields)} UNION ALL BY NAME SELECT * FROM {read})"


def _paths(table: Snapshot, location: str) -> Iterator[str]:
    for add in table.files.values():
        path = add.file_path
        absolute = "://" in path or path.startswith("/")
        yield path if absolute else f"{location.rstrip('/')}/{table.table}/{path}"


def _union(names: Iterable[str], fields: Iterable[Field]) -> str:
    fields = list(fields)
    columns = ", ".join(quote(field.name) for field in fields)
    parts = [_empty(fields)]
    parts += [f"SELECT {columns} FROM {SCHEMA}.{quote(name)}" for name in names]
    return f"SELECT * FROM ({' UNION ALL '.join(parts)})"


def _gaps(known: bool) -> str:
    source = f"{SCHEMA}.{quote(GAPS_STREAM)}" if known else f"({_empty(READINGS)})"
    texts = [f"payload->>'{name}' AS {quote(name)}" for name in ("edge", "log", "stream")]
    numbers = [
        f"(payload->>'{name}')::BIGINT AS {quote(name)}" for name in ("partition", "first", "last")
    ]
    more = ["payload->>'reason' AS reason", "payload->>'detail' AS detail", "arrival AS declared"]
    return f"SELECT {', '.join(texts + numbers + more)} FROM {source} WHERE error IS NULL"


def _edges(tables: Mapping[str, Snapshot]) -> str:
    rows = [
        f"({text(place.edge)}, {text(place.log)}, {text(place.stream)}, {place.partition}, {txn.version})"
        for table in tables.values()
        for txn in table.txns.values()
        if (place := parse_edge(txn.app_id))
    ]
    names = 'edge, log, stream, "partition", next_offset'
    if not rows:
        return f"SELECT * FROM (VALUES ('', '', '', 0, 0)) t({names}) WHERE false"
    return f"SELECT * FROM (VALUES {', '.join(rows)}) t({names})"

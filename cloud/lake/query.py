"""SQL over a lake: DuckDB in this process, offline, on a directory or a bucket.

`connect` reads the tables' logs once and makes the views of views.py over the files they name: what the connection
shows is the lake at that moment. `run_query` is the command line: one question, one answer, and nothing that writes:
statements that could reach a file (COPY, EXPORT, ATTACH, …) are refused before anything runs.
"""

from __future__ import annotations

import asyncio
import importlib.resources
import re
from typing import BinaryIO

import duckdb

from ...core.errors import Refused, Unavailable
from .delta import Snapshot
from .opening import load_tables, open_for_reading
from .rendering import FORMATS, render
from .views import text, view_statements

_ALLOWED = {
    duckdb.StatementType.SELECT,
    duckdb.StatementType.CALL,
    duckdb.StatementType.CREATE,  # in memory; PIVOT makes its own types
    duckdb.StatementType.SET,
    duckdb.StatementType.VARIABLE_SET,
}
_EXPLAIN = re.compile(r"\s*explain\s+(?:analyze\b|\([^)]*\))?", re.IGNORECASE)


def connect(lake: str, *, sql: str | None = None) -> duckdb.DuckDBPyConnection:
    """A connection with the lake's views. With `sql`, only the streams that this question can mean.

    Raises Refused where there is no lake, Unavailable, Corrupt.
    """
    location, tables = asyncio.run(_load(lake))
    connection = duckdb.connect()
    try:
        connection.execute("SET TimeZone = 'UTC'")
        if location.startswith("s3://"):
            _reach_s3(connection)
        for statement in view_statements(tables, location=location, sql=sql):
            connection.execute(statement)
    except duckdb.Error as error:
        connection.close()
        raise Unavailable(f"{location}: {_first_line(error)}") from error
    return connection


async def _load(lake: str) -> tuple[str, dict[str, Snapshot]]:
    store = await open_for_reading(lake)
    try:
        return store.location.rstrip("/"), await load_tables(store)
    finally:
        await store.close()


def run_query(sql: str, *, lake: str, format: str, out: BinaryIO) -> None:  # noqa: A002
    """Raises Refused with one line where the SQL is wrong."""
    if format not in FORMATS:
        raise Refused(f"{format!r} is no format; there are {', '.join(FORMATS)}")
    with duckdb.connect() as checker:
        check_harmless(checker, sql)
    with connect(lake, sql=sql) as connection:
        try:
            render(connection.execute(sql), form=format, out=out)
        except duckdb.Error as error:
            raise Refused(f"sql: {_first_line(error)}") from error


def check_harmless(connection: duckdb.DuckDBPyConnection, sql: str) -> None:
    """Raises Refused where a statement could do anything but answer."""
    try:
        statements = connection.extract_statements(sql)
    except duckdb.Error as error:
        raise Refused(f"sql: {_first_line(error)}") from error
    if not statements:
        raise Refused("sql: there is no question in it")
    for statement in statements:
        if statement.type == duckdb.StatementType.EXPLAIN:
            check_harmless(connection, _EXPLAIN.sub("", statement.query, count=1))
        elif statement.type not in _ALLOWED:
            raise Refused(
                f"sql: a query only reads; {statement.type.name} is refused",
                hint="--format csv or --format parquet to write an answer to a file",
            )


def _first_line(error: duckdb.Error) -> str:
    """DuckDB draws the place of an error over several lines; its first says what it is."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    hints = [line for line in lines[1:] if line.startswith(("Did you mean", "Candidate"))]
    return " ".join([lines[0] if lines else "error", *hints])


def _reach_s3(connection: duckdb.DuckDBPyConnection) -> None:
    """httpfs from its wheel (no download), and the credentials and endpoint that the AWS variables name."""
    from ..store.access import s3_access

    version = connection.execute("SELECT version()").fetchone()
    assert version is not None
    extension = importlib.resources.files("duckdb_extension_httpfs").joinpath(
        "extensions", version[0], "httpfs.duckdb_extension"
    )
    connection.execute(f"LOAD {text(str(extension))}")
    access = s3_access()
    options = [f"REGION {text(access.region)}"]
    if access.host is not None:
        tls = "true" if access.tls else "false"
        options += [f"ENDPOINT {text(access.host)}", "URL_STYLE 'path'", f"USE_SSL {tls}"]
    if access.key:
        options += [f"KEY_ID {text(access.key)}", f"SECRET {text(access.secret)}"]
    if access.token:
        options.append(f"SESSION_TOKEN {text(access.token)}")
    connection.execute(f"CREATE SECRET lake (TYPE s3, {', '.join(options)})")

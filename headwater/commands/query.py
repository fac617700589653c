"""Ask the lake with SQL (DuckDB), offline, on a directory or a bucket.

Views: `readings` (every record of every stream, its payload as text), one table per stream with its decoded columns,
`dead_letters`, `gaps`. The column "offset" is a word of SQL: quote it.

  headwater query 'select device, count(*) from readings group by 1 order by 2 desc'
"""

from __future__ import annotations

import argparse
import sys

from .extras import need_cloud
from .settings import add_lake_flags, lake_of


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("sql", metavar="SQL")
    add_lake_flags(parser)
    parser.add_argument("--format", choices=("table", "json", "csv", "parquet"), default="table")


def run(options: argparse.Namespace) -> int:
    need_cloud()
    from ..cloud.lake.query import run_query

    run_query(options.sql, lake=lake_of(options), format=options.format, out=sys.stdout.buffer)
    return 0

"""Prove from the lake's metadata alone that every edge's log is complete in it, or say what is missing and why.

Offset ranges of all live files must tile each partition from its first record to the committed position, with no overlap;
declared gaps and dead letters are counted. Exit status 1 where they do not.
"""

from __future__ import annotations

import argparse

from .extras import need_cloud
from .settings import add_lake_flags, lake_of


def configure(parser: argparse.ArgumentParser) -> None:
    add_lake_flags(parser)
    parser.add_argument("--edge", help="only this edge")
    parser.add_argument("--format", choices=("table", "json"), default="table")


def run(options: argparse.Namespace) -> int:
    need_cloud()
    from ..cloud.lake.verify import run_verify

    report = run_verify(lake=lake_of(options), edge=options.edge)
    print(report.json() if options.format == "json" else report.text())
    return 0 if report.complete else 1

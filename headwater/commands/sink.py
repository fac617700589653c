"""Run the lake writer alone: from any Kafka-protocol cluster to any lake.

Each record becomes exactly one row: data and positions are one atomic commit of the table. SIGTERM commits what was
fetched and exits 0. Flags override HEADWATER_SINK__* variables, which override [sink] in the file.
"""

from __future__ import annotations

import argparse

from ..core import logs
from .extras import need_cloud
from .settings import add_config_flag, load

KEYS = ("bootstrap", "lake", "interval", "http")


def configure(parser: argparse.ArgumentParser) -> None:
    add_config_flag(parser)
    parser.add_argument(
        "--bootstrap", metavar="URL", help="kafka://HOST:PORT[,HOST:PORT…]: the cluster to read"
    )
    parser.add_argument("--lake", metavar="DIR|s3://…", help="where the tables are")
    parser.add_argument(
        "--interval", metavar="TIME", help="the longest wait for a commit, e.g. 10s"
    )
    parser.add_argument("--http", metavar="HOST:PORT", help="where to serve /readyz and /metrics")


def run(options: argparse.Namespace) -> int:
    need_cloud()
    from ..cloud.sink.daemon import main
    from ..cloud.sink.settings import SinkSettings

    logs.configure()
    return main(load(SinkSettings, "sink", options, KEYS).value)

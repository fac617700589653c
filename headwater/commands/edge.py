"""Run the broker on the device: MQTT in, a durable partitioned log, replication upward.

`headwater edge status` shows what a running edge does; `headwater edge passwd FILE USER` creates a user or changes
a password.

A PUBACK leaves only after the record's commit has been synced to disk. SIGTERM drains and exits 0.
Flags override HEADWATER_EDGE__* variables, which override [edge] in the file.
"""

from __future__ import annotations

import argparse

from ..core import config, logs
from . import passwd, status
from .settings import add_config_flag, load

KEYS = ("name", "data_dir", "mqtt", "anonymous", "uplink", "http")


def configure(parser: argparse.ArgumentParser) -> None:
    add_config_flag(parser)
    parser.add_argument("--name", help="what this edge is called; part of every record's address")
    parser.add_argument("--data-dir", metavar="DIR", help="where the log and the state are kept")
    parser.add_argument("--mqtt", metavar="HOST:PORT", help="where to listen for MQTT")
    parser.add_argument(
        "--anonymous",
        action="store_const",
        const=True,
        help="take clients without a password on --mqtt also where other machines reach it",
    )
    parser.add_argument(
        "--uplink", metavar="URL", help="kafkas://HOST:PORT[,HOST:PORT…], kafka://… or none"
    )
    parser.add_argument(
        "--http", metavar="HOST:PORT", help="where to serve /status, /readyz and /metrics"
    )

    others = parser.add_subparsers(title="instead of running one", dest="other", metavar="")
    status.configure(others.add_parser("status", help=status.SUMMARY, description=status.__doc__))
    passwd.configure(others.add_parser("passwd", help=passwd.SUMMARY, description=passwd.__doc__))


def run(options: argparse.Namespace) -> int:
    if options.other == "passwd":
        return passwd.run(options)
    if options.other == "status":
        return status.run(options)
    from ..edge.daemon import main
    from ..edge.settings import EdgeSettings

    def read() -> EdgeSettings:
        loaded = load(EdgeSettings, "edge", options, KEYS)
        with config.located("edge", loaded.origins):
            loaded.value.check()
        return loaded.value

    logs.configure(level=read().log_level)
    return main(read)

"""Run a node of the cloud cluster: the Kafka protocol over an object store, and the lake's sink.

The node is stateless: everything it acknowledges is in the store. SIGTERM drains and exits 0.
Flags override HEADWATER_CLOUD__* variables, which override [cloud] in the file. S3 credentials and endpoint come from the
usual AWS variables (AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY, AWS_REGION, AWS_ENDPOINT_URL).
"""

from __future__ import annotations

import argparse

from ..core import logs
from .extras import need_cloud
from .settings import add_config_flag, load

KEYS = ("node", "store", "kafka", "advertise", "lake", "sink", "http")


def configure(parser: argparse.ArgumentParser) -> None:
    add_config_flag(parser)
    parser.add_argument("--node", help="what this node is called")
    parser.add_argument("--store", metavar="DIR|s3://…", help="the log: a directory or a bucket")
    parser.add_argument("--kafka", metavar="HOST:PORT", help="where to listen for Kafka clients")
    parser.add_argument(
        "--advertise", metavar="HOST:PORT", help="the address clients are told (default: --kafka)"
    )
    parser.add_argument("--lake", metavar="DIR|s3://…", help="where the sink writes its tables")
    parser.add_argument(
        "--no-sink",
        dest="sink",
        action="store_const",
        const=False,
        help="do not run the lake's sink beside this node",
    )
    parser.add_argument("--http", metavar="HOST:PORT", help="where to serve /readyz and /metrics")


def run(options: argparse.Namespace) -> int:
    need_cloud()
    from ..cloud.daemon import main
    from ..cloud.settings import CloudSettings

    logs.configure()
    settings = load(CloudSettings, "cloud", options, KEYS).value
    return main(settings, config_file=options.config)

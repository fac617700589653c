"""List, describe, create and delete streams on a cluster (Headwater's or Apache Kafka's).

headwater streams list
headwater streams describe NAME
headwater streams create NAME [--partitions N] [--set retention.ms=86400000]
headwater streams delete NAME

The cluster is reached as the sink reaches it: [sink] bootstrap, tls and sasl of --config, HEADWATER_SINK__* variables
(a password only so), and these flags.
"""

from __future__ import annotations

import argparse
import asyncio

from .extras import need_cloud
from .settings import add_config_flag, load

KEYS = ("bootstrap", "tls.ca", "tls.certificate", "tls.key", "tls.server_name")


def configure(parser: argparse.ArgumentParser) -> None:
    """How the cluster is reached may be said before the action or after it, as people do."""
    _add_cluster_flags(parser)
    after = argparse.ArgumentParser(add_help=False, argument_default=argparse.SUPPRESS)
    _add_cluster_flags(after)
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", parents=[after], help="every stream with its partitions and records")
    describe = actions.add_parser(
        "describe", parents=[after], help="one stream, partition by partition"
    )
    describe.add_argument("name")
    create = actions.add_parser("create", parents=[after], help="a new stream")
    create.add_argument("name")
    create.add_argument("--partitions", type=int, default=1, metavar="N")
    create.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a topic configuration"
    )
    delete = actions.add_parser(
        "delete", parents=[after], help="a stream and all its records on the cluster"
    )
    delete.add_argument("name")


def _add_cluster_flags(parser: argparse.ArgumentParser) -> None:
    add_config_flag(parser)
    parser.add_argument(
        "--bootstrap",
        metavar="URL",
        help="kafkas://HOST:PORT[,HOST:PORT…] over TLS, or kafka://… (default: kafka://127.0.0.1:9092)",
    )
    for name, what in (
        ("ca", "authorities that may vouch for the brokers"),
        ("certificate", "our own certificate, with its intermediates"),
        ("key", "its private key"),
    ):
        parser.add_argument(f"--{name}", dest=f"tls_{name}", metavar="FILE", help=what)
    parser.add_argument(
        "--server-name",
        dest="tls_server_name",
        metavar="NAME",
        help="the name in their certificates",
    )


def run(options: argparse.Namespace) -> int:
    need_cloud()
    from ..cloud.sink.settings import SinkSettings
    from ..cloud.streams import Streams

    settings = load(SinkSettings, "sink", options, KEYS).value

    async def act() -> list[str]:
        async with Streams.connect(settings) as streams:
            match options.action:
                case "list":
                    return await streams.list()
                case "describe":
                    return await streams.describe(options.name)
                case "create":
                    return await streams.create(
                        options.name, partitions=options.partitions, configs=options.set
                    )
                case _:
                    return await streams.delete(options.name)

    for line in asyncio.run(act()):
        print(line)
    return 0

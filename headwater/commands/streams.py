"""List, describe, create and delete streams on a cluster (Headwater's or Apache Kafka's).

headwater streams list
headwater streams describe NAME
headwater streams create NAME [--partitions N] [--set retention.ms=86400000]
headwater streams delete NAME
"""

from __future__ import annotations

import argparse
import asyncio

DEFAULT_CLUSTER = "kafka://127.0.0.1:9092"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--bootstrap",
        default=DEFAULT_CLUSTER,
        metavar="URL",
        help="kafka://HOST:PORT[,HOST:PORT…] (default: %(default)s)",
    )
    actions = parser.add_subparsers(dest="action", metavar="ACTION", required=True)
    actions.add_parser("list", help="every stream with its partitions and records")
    describe = actions.add_parser("describe", help="one stream, partition by partition")
    describe.add_argument("name")
    create = actions.add_parser("create", help="a new stream")
    create.add_argument("name")
    create.add_argument("--partitions", type=int, default=1, metavar="N")
    create.add_argument(
        "--set", action="append", default=[], metavar="KEY=VALUE", help="a topic configuration"
    )
    delete = actions.add_parser("delete", help="a stream and all its records on the cluster")
    delete.add_argument("name")


def run(options: argparse.Namespace) -> int:
    from ..cloud.streams import Streams
    from ..core.kafka.address import bootstrap_of

    async def act() -> list[str]:
        async with Streams.connect(bootstrap_of(options.bootstrap)) as streams:
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

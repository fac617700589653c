"""The whole river on this machine in under a minute: an edge, a cloud and a lake, killed twice, and proven.

Publishes real readings of this machine and those of a simulated fleet through real MQTT clients, kills the edge and the
cloud with SIGKILL, restarts them, and holds the lake against what the clients were told. Exit status 1 where they differ.
Loopback only, on free ports, in a temporary directory.
"""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--stay", action="store_true", help="keep it running, and say what to try")
    parser.add_argument(
        "--devices", type=int, default=100, metavar="N", help="simulated gauges (default: 100)"
    )
    parser.add_argument(
        "--seconds", type=float, default=22, help="how long to publish (default: 22)"
    )
    parser.add_argument("--dir", metavar="DIR", help="keep everything in this new directory")


def run(options: argparse.Namespace) -> int:
    from ..demo.story import run as tell

    return tell(options)

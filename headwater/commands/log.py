"""Look at an edge's journal on disk, open or closed, without changing it.

  headwater log dump DIR                 every segment, commit and batch, as a person reads them
  headwater log dump DIR --stream NAME   its records; `_connections` tells who came and who was refused
  headwater log verify DIR               whether what is on disk is whole; exit status 1 where it is not

DIR is the edge's data directory, or the journal's own (`log` inside it).
"""

from __future__ import annotations

import argparse
from pathlib import Path

JOURNAL = "log"


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("dump", "verify"))
    parser.add_argument("directory", metavar="DIR", type=Path)
    parser.add_argument("--stream", metavar="NAME", help="dump the records of this stream instead")


def run(options: argparse.Namespace) -> int:
    from ..core.disk import SystemDisk
    from ..core.journal.files import inspection

    inside = options.directory / JOURNAL
    directory = str(inside if inside.is_dir() else options.directory)
    disk = SystemDisk()
    if options.action == "dump":
        lines = (
            inspection.dump(directory, disk=disk)
            if options.stream is None
            else inspection.records(directory, options.stream, disk=disk)
        )
        for line in lines:
            print(line)
        return 0
    verification = inspection.verify(directory, disk=disk)
    for line in verification.lines():
        print(line)
    return 0 if verification.whole else 1

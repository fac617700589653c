"""Look at an edge's journal on disk, open or closed, without changing it.

headwater log dump DIR      every segment, commit and batch, as a person reads them
headwater log verify DIR    whether what is on disk is whole; exit status 1 where it is not
"""

from __future__ import annotations

import argparse


def configure(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("action", choices=("dump", "verify"))
    parser.add_argument("directory", metavar="DIR", help="the edge's data directory or its journal")


def run(options: argparse.Namespace) -> int:
    from ..core.journal.files import inspection

    if options.action == "dump":
        for line in inspection.dump(options.directory):
            print(line)
        return 0
    report = inspection.verify(options.directory)
    for line in report.lines():
        print(line)
    return 0 if report.whole else 1

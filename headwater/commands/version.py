"""Print the version."""

from __future__ import annotations

import argparse
import platform

from headwater import __version__


def configure(parser: argparse.ArgumentParser) -> None:
    del parser  # it has no flags


def run(options: argparse.Namespace) -> int:
    del options
    print(f"headwater {__version__} (Python {platform.python_version()}, {platform.machine()})")
    return 0

"""Settings of a daemon from `--config`, the environment and flags."""

from __future__ import annotations

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import TypeVar

import msgspec

from ..core import config

T = TypeVar("T", bound=msgspec.Struct)


def add_config_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--config", type=Path, metavar="FILE", help="TOML file with the settings")


def load(
    kind: type[T], section: str, options: argparse.Namespace, keys: Iterable[str]
) -> config.Loaded[T]:
    """`keys` are the settings that have a flag of the same name. Raises Misconfigured."""
    flags = {key: getattr(options, key.replace(".", "_"), None) for key in keys}
    return config.load(
        kind, section=section, file=options.config, environ=config.environment(), flags=flags
    )


def add_lake_flags(parser: argparse.ArgumentParser) -> None:
    add_config_flag(parser)
    parser.add_argument(
        "--lake", metavar="DIR|s3://…", help="where the tables are (default: that of [cloud])"
    )


def lake_of(options: argparse.Namespace) -> str:
    """The lake asked for, else the one that `headwater cloud` would write with the same settings."""
    from ..cloud.settings import CloudSettings

    return load(CloudSettings, "cloud", options, ("lake",)).value.lake

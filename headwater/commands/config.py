"""Show every setting: its value, and whether a flag, the environment, the file or the default gave it.

headwater config --show [--config FILE] [--section edge|cloud|sink]
headwater config --example    a complete headwater.toml with every default and what it means
"""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Iterator

import msgspec

from ..core import config
from ..core.errors import Misconfigured
from .settings import add_config_flag


def configure(parser: argparse.ArgumentParser) -> None:
    add_config_flag(parser)
    parser.add_argument("--section", choices=config.SECTIONS, help="only this one")
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--show", action="store_true", help="the values in force, with their origin")
    what.add_argument("--example", action="store_true", help="a commented file with the defaults")


def run(options: argparse.Namespace) -> int:
    sections = [options.section] if options.section else list(config.SECTIONS)
    for section in sections:
        kind = kind_of(section)
        lines = example(section, kind) if options.example else _show(section, kind, options)
        for line in lines:
            print(line)
    return 0


def kind_of(section: str) -> type[msgspec.Struct]:
    if section == "edge":
        from ..edge.settings import EdgeSettings

        return EdgeSettings
    if section == "cloud":
        from ..cloud.settings import CloudSettings

        return CloudSettings
    if section == "sink":
        from ..cloud.sink.settings import SinkSettings

        return SinkSettings
    raise Misconfigured(f"there is no section {section!r}")


def _show(section: str, kind: type[msgspec.Struct], options: argparse.Namespace) -> Iterator[str]:
    loaded = config.load(
        kind, section=section, file=options.config, environ=config.environment(), flags={}
    )
    for field in config.fields(kind):
        value = config.value_of(loaded.value, field.key)
        origin = loaded.origins.get(field.key, "default")
        yield f"{section}.{field.key} = {config.literal(value)}  # {origin}"


def example(section: str, kind: type[msgspec.Struct]) -> Iterator[str]:
    """A file that loads as it stands: defaults are comments, so that it does not pin them."""
    table = None
    for field in sorted(config.fields(kind), key=lambda field: field.key.rpartition(".")[0]):
        parent, _, name = field.key.rpartition(".")
        if table != parent:
            table = parent
            yield f"[{section}{'.' if parent else ''}{parent}]"
        for line in textwrap.wrap(" ".join(field.doc.split()), 96):
            yield f"# {line}"
        if field.default is None:
            yield f"# {name} ="
        else:
            yield f"# {name} = {config.literal(field.default)}"
        yield ""
    for field in config.fields(kind):
        item = config.item_of(field.type)
        if item is not None:
            yield from _example_item(f"{section}.{field.key}", item)


def _example_item(table: str, item: type[msgspec.Struct]) -> Iterator[str]:
    """One element of a list of tables, twice commented: take off both to declare one."""
    yield f"## [[{table}]]"
    for field in config.fields(item):
        for line in textwrap.wrap(" ".join(field.doc.split()), 96):
            yield f"## # {line}"
        given = field.default is not None and field.default is not msgspec.NODEFAULT
        yield f"## {field.key} = {config.literal(field.default) if given else '…'}"
    yield ""

"""The command line: one list of sub-commands, each in a file of its own under `commands/`.

Rule: a sub-command imports its room only when it runs, so `headwater edge` never loads what only the cloud needs.
Exit status: 0 done, 1 failed, 2 wrong usage, 78 wrong configuration (sysexits EX_CONFIG). What went wrong is one line
on standard error, with the command that helps where there is one.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Sequence

from headwater import __version__

from .core.errors import HeadwaterError, Misconfigured, Refused

EXIT_FAILED = 1
EXIT_CONFIG = 78

COMMANDS = {
    "edge": "run the broker on the device: MQTT in, a durable log, replication upward",
    "cloud": "run a node of the cloud cluster: the Kafka protocol over object storage, and the sink",
    "sink": "run the lake writer alone: from any Kafka-protocol cluster to any lake",
    "query": "ask the lake with SQL",
    "verify": "prove from metadata that the lake is complete, or say what is missing and why",
    "streams": "list, describe, create and delete streams on a cluster",
    "log": "look at an edge's journal on disk: dump it, verify it",
    "config": "show every setting, its value and where it was set",
    "demo": "the whole river on this machine in under a minute, killed twice, and proven",
    "version": "print the version",
}


def parser() -> argparse.ArgumentParser:
    top = argparse.ArgumentParser(
        prog="headwater",
        description="From a sensor's MQTT publish to a row in the lake.",
        epilog="`headwater COMMAND --help` describes each command.",
    )
    commands = top.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, summary in COMMANDS.items():
        commands.add_parser(name, help=summary, add_help=False)
    return top


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one sub-command and return its exit status."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    if given in (["--version"], ["-V"]):
        print(f"headwater {__version__}")
        return 0
    known, _ = parser().parse_known_args(given[:1] or ["--help"])
    module = importlib.import_module(f"headwater.commands.{known.command}")
    own = argparse.ArgumentParser(
        prog=f"headwater {known.command}",
        description=module.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.configure(own)
    options = own.parse_args(given[1:])
    try:
        return int(module.run(options))
    except Misconfigured as error:
        return _fail(error, EXIT_CONFIG)
    except HeadwaterError as error:
        return _fail(error, EXIT_FAILED)
    except PermissionError as error:  # the account's affair, whatever the command was about to do
        return _fail(Refused(f"{error.filename}: permission denied"), EXIT_FAILED)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # the reader of our output went away, as `| head` does: nothing to say, and nobody to say it to
        sys.stderr.close()
        return EXIT_FAILED


def _fail(error: HeadwaterError, status: int) -> int:
    print(f"headwater: {error}", file=sys.stderr)
    return status

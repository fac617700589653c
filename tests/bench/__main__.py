"""`python -m tests.bench`: measure, print, and write docs/benchmarks.md (and the figures as JSON below var/bench/).

--quick takes a few minutes and does not write the document, since its medians are of too little.
"""

from __future__ import annotations

import argparse
import datetime
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from headwater.demo.daemon import DaemonFailed

from . import delivery, fanin, flash, link, machine, report, slowdisk, tiers
from .contenders import CONTENDERS, install_mosquitto, mosquitto_version, nats_version

ROOT = Path(__file__).resolve().parent.parent.parent
DOCUMENT = ROOT / "docs" / "benchmarks.md"
WORK = ROOT / "var" / "bench"
PARTS = (
    *("fan-in", "fan-out", "memory", "idle", "wire", "upward"),
    *("retained", "flash", "slow-disk"),
)


def parser() -> argparse.ArgumentParser:
    flags = argparse.ArgumentParser(prog="python -m tests.bench", description=__doc__)
    flags.add_argument("--quick", action="store_true", help="few, short rounds; writes no document")
    flags.add_argument(
        "--only", choices=PARTS, action="append", help="only this; writes no document"
    )
    flags.add_argument("--against", action="append", help="only contenders of these names")
    flags.add_argument("--rounds", type=int, help="of each contender (default: 3)")
    flags.add_argument("--seconds", type=float, help="of each round (default: 3)")
    flags.add_argument("--records", type=int, help="of the backlog (default: 1500000)")
    return flags


def main() -> int:
    options = parser().parse_args()
    if len(os.sched_getaffinity(0)) < 2:
        print("two cores are needed: one for the broker, one for the load", file=sys.stderr)
        return 1
    WORK.mkdir(parents=True, exist_ok=True)
    try:
        run = measure(options)
    except DaemonFailed as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    text = report.render(run)
    print("\n" + text)
    (WORK / "benchmarks.json").write_text(json.dumps(_plain(run), indent=2) + "\n")
    if is_whole(options):
        write(run)
        print(f"wrote {DOCUMENT.relative_to(ROOT)}")
    else:
        print(f"{DOCUMENT.relative_to(ROOT)} is left as it was: this was not the whole benchmark")
    return 0


def measure(options: argparse.Namespace) -> report.Run:
    """Raises DaemonFailed."""
    install_mosquitto()
    parts = options.only or PARTS
    rounds = options.rounds or (1 if options.quick else 3)
    seconds = options.seconds or (1.5 if options.quick else 3.0)
    records = options.records or (60_000 if options.quick else 1_500_000)
    contenders = [
        each for each in CONTENDERS if not options.against or each.name in options.against
    ]
    about = machine.look(WORK)
    print(about.sentence(), flush=True)
    delivery.raise_descriptor_limit()
    run = report.Run(
        date=datetime.datetime.now(datetime.UTC).date().isoformat(),
        commit=_commit(),
        command=" ".join(["python", "-m", "tests.bench", *sys.argv[1:]]),
        machine=about,
        mosquitto=mosquitto_version(),
        nats=nats_version(),
        rounds=rounds,
        seconds=seconds,
    )
    few = max(1, rounds - 1)
    measures: dict[str, Callable[[], dict[str, Any]]] = {
        "fan-in": lambda: {
            "fan_in": fanin.measure(contenders, rounds=rounds, seconds=seconds, directory=WORK)
        },
        "fan-out": lambda: {
            "served": delivery.serve(contenders, rounds=few, seconds=seconds, directory=WORK)
        },
        "retained": lambda: {
            "retained": delivery.retained(
                contenders, topics=10_000 if options.quick else delivery.TOPICS, directory=WORK
            )
        },
        "idle": lambda: {
            "idle": delivery.idle(
                contenders,
                connections=1000 if options.quick else delivery.IDLE_CONNECTIONS,
                directory=WORK,
            )
        },
        "memory": lambda: {"memory": tiers.memory(WORK, seconds=seconds)},
        "slow-disk": lambda: {"slow": slowdisk.measure(contenders, directory=WORK)},
        "flash": lambda: {"written": flash.measure(seconds=5 * seconds, directory=WORK)},
        "wire": lambda: {"wire": _wire(seconds)},
        "upward": lambda: dict(zip(("drain", "sinking"), _upward(records), strict=True)),
    }
    for part in parts:
        run = run._replace(**measures[part]())
        if is_whole(options):
            write(run)  # a run that is cut short leaves what it had
    return run


def is_whole(options: argparse.Namespace) -> bool:
    return not (options.quick or options.only or options.against)


def write(run: report.Run) -> None:
    DOCUMENT.parent.mkdir(exist_ok=True)
    DOCUMENT.write_text(report.render(run))


def _wire(seconds: float) -> list[link.Wire] | None:
    why = link.possible()
    if why is not None:
        print(f"  bytes on the wire are not measured: {why}")
        return None
    return link.measure(seconds=5 * seconds, directory=WORK)


def _upward(records: int) -> tuple[tiers.Drain, tiers.Sinking]:
    directory = WORK / "upward"
    shutil.rmtree(directory, ignore_errors=True)
    directory.mkdir()
    backlog = tiers.Backlog(directory, records)
    try:
        filled = backlog.fill()
        print(f"  backlog of {filled:,} records", flush=True)
        drain = backlog.drain(filled)
        print(f"  drained at {drain.rate:,.0f} records/s", flush=True)
        sinking = backlog.sink(filled)
        print(f"  sunk at {sinking.rows_per_cpu_second:,.0f} rows per CPU second", flush=True)
    finally:
        backlog.close()
    shutil.rmtree(directory, ignore_errors=True)
    return drain, sinking


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty"], cwd=ROOT, capture_output=True, text=True
    )
    return done.stdout.strip() or "unknown"


def _plain(value: object) -> object:
    """Named tuples as JSON objects."""
    if isinstance(value, tuple) and hasattr(value, "_asdict"):
        return {name: _plain(each) for name, each in value._asdict().items()}
    if isinstance(value, dict):
        return {str(name): _plain(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    return value


if __name__ == "__main__":
    raise SystemExit(main())

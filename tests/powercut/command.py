"""`python -m tests.powercut`: record, replay, judge; write docs/durability.md."""

from __future__ import annotations

import argparse
import asyncio
import functools
import random
import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from . import headwater_edge, kernel, recording
from .crashes import Model, Record
from .headwater_edge import SCENARIOS, Scenario
from .recording import Recording
from .replay import replay
from .report import Run, page

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "durability.md"
KILLS = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """0: no violations. 1: violations, printed. 2: this machine cannot run it."""
    options = _parser().parse_args(arguments)
    absent = kernel.missing()
    if absent is not None:
        print(f"not here: {absent.reason}")
        return 2
    kernel.own_mounts()
    wanted = [each for each in SCENARIOS if not options.scenario or each.name in options.scenario]
    runs = []
    with tempfile.TemporaryDirectory(dir=recording.shared_memory(), prefix="powercut-") as scratch:
        for scenario in wanted:
            folder = Path(scratch, scenario.name)
            if options.replay is not None:
                shutil.copytree(options.replay, folder)
            else:
                folder.mkdir()
                _record(scenario, folder, options)
            run = _run(scenario, folder, options, options.states // len(wanted))
            runs.append(run)
            _tell(run)
            if run.result.failures and options.replay is None and not options.lying:
                _keep(folder, scenario.name)
    if not options.no_page:
        PAGE.write_text(page(runs, [], seed=options.seed), encoding="utf-8")
        print(f"wrote {PAGE.relative_to(REPOSITORY)}")
    return 1 if any(run.result.failures for run in runs) else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.powercut", description=__doc__)
    say = parser.add_argument
    say("--states", type=int, default=2000, help="crash states, over all recordings")
    say("--messages", type=int, default=12000, help="acknowledged in each recording")
    say("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    say("--model", action="append", choices=[*Model], help="device models; default: all, by lot")
    say("--scenario", action="append", choices=[each.name for each in SCENARIOS])
    say("--daemon-every", type=int, default=50, help="of so many states the daemon opens one")
    say("--lying", action="store_true", help="flushes do nothing: this must be condemned")
    say("--replay", type=Path, metavar="FOLDER", help="a kept recording (with --scenario)")
    say("--no-page", action="store_true", help="do not write docs/durability.md")
    return parser


def _record(scenario: Scenario, folder: Path, options: argparse.Namespace) -> None:
    asyncio.run(
        recording.make(
            folder,
            functools.partial(headwater_edge.edge, scenario),
            topics=scenario.topics,
            messages=int(options.messages * scenario.share),
            kills=KILLS,
            rng=random.Random(options.seed),
        )
    )


def _run(scenario: Scenario, folder: Path, options: argparse.Namespace, count: int) -> Run:
    began = time.monotonic()
    made = recording.load(scenario.name, folder)
    if options.lying:
        made = _without_flushes(made)
    models = [Model(each) for each in options.model or Model]
    states = made.record.states(count, models, random.Random(options.seed))
    result = replay(made, scenario, states, folder, daemon_every=options.daemon_every)
    log = (folder / "edge.log").read_text(encoding="utf-8", errors="replace")
    return Run(
        name=scenario.name,
        says=scenario.says,
        operations=len(made.record.operations),
        flushes=len(made.record.flushes),
        bytes=sum(len(each.data) for each in made.record.operations),
        acknowledged=sum(each.acked >= 0 for each in made.messages.values()),
        kills=KILLS,
        rolls=result.rolls,
        gaps=log.count("records lost and declared"),
        seconds=time.monotonic() - began,
        result=result,
    )


def _without_flushes(made: Recording) -> Recording:
    """Every flush a write of nothing: the record keeps its length, and nothing is ever safe."""
    idle = [each._replace(position=0) if each.is_flush else each for each in made.record.operations]
    return made._replace(record=Record(idle, made.record.whole_blocks))


def _tell(run: Run) -> None:
    result = run.result
    print(
        f"{run.name}: {run.operations} device operations, {run.flushes} flushes, {run.acknowledged} acknowledged; "
        f"{result.states} crash states in {run.seconds:.0f} s, {result.promises} promises looked for: "
        f"{len(result.failures)} violations"
    )
    for each in result.failures[:20]:
        print(f"  {each}")


def _keep(folder: Path, name: str) -> None:
    kept = Path(tempfile.mkdtemp(prefix=f"powercut-{name}-"))
    for file in ("base.img", "device.log", "messages.json", "edge.log"):
        shutil.copyfile(folder / file, kept / file)
    print(f"  kept: --scenario {name} --replay {kept}")

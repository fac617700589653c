"""`python -m tests.powercut`: record, replay, judge; write docs/durability.md."""

from __future__ import annotations

import argparse
import dataclasses
import functools
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec

from . import headwater_edge, kernel, peers, progress, publishers, recording, workers
from .crashes import Model, Record
from .defects import DEFECTS
from .headwater_edge import SCENARIOS, Scenario
from .publishers import Message
from .recording import Blow, Recording
from .replay import Result, replay
from .report import PeerRun, Run, Twin, accusation, page, with_peers, with_twins
from .workers import Task

REPOSITORY = Path(__file__).parents[2]
PAGE = REPOSITORY / "docs" / "durability.md"
TWIN_MESSAGES = 3000
# Whether a recording has the moments that show a defect is the scheduler's: one that shows nothing is made again.
TWIN_RECORDINGS = 3
# then it is condemned, and no more of its states are tried
TWIN_ACCUSATIONS = 10
# A broker of others that does not answer in time is asked once more, and then the page says so.
PEER_TRIES = 2


def main(arguments: Sequence[str] | None = None) -> int:
    """0: no violations. 1: violations, or what could not be tried; printed. 2: this machine cannot run it."""
    options = _parser().parse_args(arguments)
    absent = kernel.missing()
    if absent is not None:
        print(f"not here: {absent.reason}")
        return 2
    kernel.own_mounts()
    # so that SIGTERM too unwinds what is mounted and removes what was written
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    work = _work(options)
    with workers.scratch(recording.shared_memory()) as scratch:
        options.scratch = scratch
        done = _all(work, options)
    for name in done.failed:
        print(f"not done: {name}; nothing was written")
    for name in done.unmeasured:
        print(f"not measured: {name}")
    if done.failed:
        return 1
    runs = [run for found in done.runs for run in found]
    if not options.no_page:
        _write(runs, done, options)
    if not all(twin.accused for twin in done.twins):
        print("a broken twin was not condemned")
        return 1
    return 1 if any(run.result.failures for run in runs) else 0


class _Work(NamedTuple):
    """What is to be tried; all of it is begun in this order, `--jobs` at a time: what takes longest first."""

    scenarios: list[Scenario]
    twins: list[str]
    peers: list[peers.Peer]


class _Done(NamedTuple):
    runs: list[list[Run]]
    twins: list[Twin]
    peers: list[PeerRun]
    failed: list[str]
    unmeasured: list[str]


def _work(options: argparse.Namespace) -> _Work:
    only = options.peers_only or options.twins_only
    scenarios = [
        dataclasses.replace(each, blows=[Blow.KILL] * options.kills or each.blows)
        for each in SCENARIOS
        if not only and (not options.scenario or each.name in options.scenario)
    ]
    with_twins = options.twins_only or not (only or options.no_page or options.no_twins)
    twins = [n for n in DEFECTS if with_twins and (not options.twin or n in options.twin)]
    with_peers = options.peers_only or not (only or options.no_page or options.no_peers)
    return _Work(scenarios, twins, peers.present() if with_peers else [])


def _all(work: _Work, options: argparse.Namespace) -> _Done:
    share = options.states // max(1, len(work.scenarios))

    def scenario(each: Scenario) -> Task[list[Run]]:
        return Task(each.name, lambda: _tried(each, options, share))

    def twin(name: str) -> Task[Twin]:
        return Task(f"twin {name}", lambda: _twin(name, options))

    def peer(each: peers.Peer) -> Task[PeerRun]:
        return Task(_named(each), lambda: _measured(each, options), tries=PEER_TRIES)

    tried = {each.name: scenario(each) for each in work.scenarios}
    twins = [twin(name) for name in work.twins]
    measured = [peer(each) for each in work.peers]
    # those with clients that come back take longest
    order = sorted(work.scenarios, key=lambda each: each.clients is None)
    tasks: list[Task[Any]] = [*(tried[each.name] for each in order), *twins, *measured]
    workers.run(tasks, options.jobs, _planned(work, options))
    return _Done(
        [each.result for each in tried.values() if each.results],
        [each.result for each in twins if each.results],
        [each.result for each in measured if each.results],
        [_why(each) for each in tasks if each.failure and each not in measured],
        [each.name for each in measured if each.failure],
    )


def _named(peer: peers.Peer) -> str:
    return f"{peer.name}, {peer.setting}"


def _why(task: Task[Any]) -> str:
    return f"{task.name}: {task.failure.partition(chr(10))[0]}"


def _planned(work: _Work, options: argparse.Namespace) -> dict[str, int]:
    """How many steps of each kind."""
    planned: Counter[str] = Counter()
    share = options.states // max(1, len(work.scenarios))
    for scenario in work.scenarios:
        every = _every(scenario, options)
        starts = share // every if every else 0
        again = 0 if options.replay is not None else options.second_lives
        planned[progress.START] += starts
        planned[progress.STATE] += share - starts + again * _again(options)
        planned[progress.RECORDING] += (options.replay is None) + again
    planned[progress.RECORDING] += len(work.twins) + len(work.peers)
    planned[progress.START] += len(work.twins) * options.twin_states
    planned[progress.PEER] += len(work.peers) * options.peer_states
    return {kind: count for kind, count in planned.items() if count}


def _every(scenario: Scenario, options: argparse.Namespace) -> int:
    """Of so many states the daemon opens one; 0: none."""
    if scenario.clients is not None and options.daemon_every:
        return max(1, min(int(options.daemon_every), int(options.resume_every)))
    return int(options.daemon_every)


def _again(options: argparse.Namespace) -> int:
    """States of each second life."""
    return max(1, int(options.states) // 80)


def _write(runs: Sequence[Run], done: _Done, options: argparse.Namespace) -> None:
    """The page; or that part of it which was tried."""
    if options.peers_only:
        before = PAGE.read_text(encoding="utf-8")
        text = with_peers(before, done.peers, peers.versions(), done.unmeasured)
    elif options.twins_only:
        text = with_twins(PAGE.read_text(encoding="utf-8"), done.twins)
    else:
        versions = peers.versions()
        text = page(
            *(runs, done.twins, done.peers, done.unmeasured),
            peer_versions=versions,
            seed=options.seed,
        )
    options.page.write_text(text, encoding="utf-8")
    print(f"wrote {options.page}")


def _tried(scenario: Scenario, options: argparse.Namespace, states: int) -> list[Run]:
    """One scenario, recorded and replayed, and its second lives. In a process of its own, where there are `--jobs`."""
    runs = []
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        folder = Path(scratch, scenario.name)
        if options.replay is not None:
            shutil.copytree(options.replay, folder)
        else:
            folder.mkdir()
            _record(scenario, folder, options)
        runs.append(_run(scenario, folder, options, states))
        _tell(runs[0])
        if options.second_lives and options.replay is None:
            runs.append(_second_lives(scenario, folder, options))
            _tell(runs[-1])
        if runs[0].result.failures and options.replay is None and not options.lying:
            _keep(folder, scenario.name)
    return runs


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.powercut", description=__doc__)
    say = parser.add_argument
    say("--states", type=int, default=4000, help="crash states, over all recordings")
    say("--messages", type=int, default=5000, help="acknowledged in each recording")
    say("--seed", type=int, default=random.SystemRandom().randrange(1_000_000))
    say("--model", action="append", choices=[*Model], help="device models; default: all, by lot")
    say("--scenario", action="append", choices=[each.name for each in SCENARIOS])
    say("--second-lives", type=int, default=8, help="crash states to live on from, per recording")
    say(
        "--kills",
        type=int,
        default=0,
        help="SIGKILLs while recording; default: as the recording is",
    )
    say("--daemon-every", type=int, default=50, help="of so many states the daemon opens one")
    say("--resume-every", type=int, default=10, help="where clients come back: of so many states")
    say("--defect", default="", choices=["", *DEFECTS], help="a broken twin: must be condemned")
    say("--jobs", type=int, default=4, help="at a time; half of each one's time is waiting")
    say("--page", type=Path, default=PAGE, help="where the page is written")
    say("--no-twins", action="store_true", help="a page without the broken twins")
    say("--peer-messages", type=int, default=2000, help="acknowledged in each of their recordings")
    say("--twins-only", action="store_true", help="only the broken twins of the daemon")
    say("--twin", action="append", choices=[*DEFECTS], help="of them only these")
    say("--twin-states", type=int, default=50, help="crash states of each; clients return to all")
    say("--lying", action="store_true", help="flushes do nothing: this must be condemned")
    say("--replay", type=Path, metavar="FOLDER", help="a kept recording (with --scenario)")
    say("--peers-only", action="store_true", help="measure Mosquitto and NATS alone anew")
    say("--no-peers", action="store_true", help="a page without Mosquitto and NATS")
    say("--peer-states", type=int, default=100, help="crash states of each of their settings")
    say("--no-page", action="store_true", help="do not write docs/durability.md")
    return parser


def _record(
    scenario: Scenario, folder: Path, options: argparse.Namespace, base: bytes | None = None
) -> None:
    """A first life with kills; or, on a medium that a power cut left, a second one."""
    messages = int(options.messages * scenario.share)
    with progress.step(progress.RECORDING, f"the recording of {scenario.name}"):
        recording.make(
            folder,
            functools.partial(headwater_edge.edge, scenario, defect=options.defect),
            crowd=scenario.crowd,
            messages=messages if base is None else messages // 20,
            blows=scenario.blows if base is None else (),
            rng=random.Random(options.seed),
            prefix="c" if base is None else "d",
            base=base,
        )


def _run(
    scenario: Scenario,
    folder: Path,
    options: argparse.Namespace,
    count: int,
    enough: Callable[[Sequence[str]], bool] = lambda failures: False,
) -> Run:
    began = time.monotonic()
    made = recording.load(scenario.name, folder)
    if options.lying:
        made = _without_flushes(made)
    states = made.record.states(count, _models(options), random.Random(options.seed))
    every = _every(scenario, options)
    result = replay(
        *(made, scenario, states, folder),
        daemon_every=every,
        defect=options.defect,
        enough=enough,
    )
    kills = scenario.blows.count(recording.Blow.KILL)
    run = Run(name=scenario.name, says=scenario.says, result=result, kills=kills)
    _count(run, made, folder)
    run.seconds = time.monotonic() - began
    return run


def _second_lives(scenario: Scenario, folder: Path, options: argparse.Namespace) -> Run:
    """From some crash states the daemon starts and works on, recorded again, and the power fails a second time."""
    began = time.monotonic()
    first = recording.load(scenario.name, folder)
    rng = random.Random(options.seed + 1)
    lives = first.record.states(options.second_lives * 4, [Model.BLOCKS, Model.SECTORS], rng)
    says = (
        f"power fails a second time, while the daemon recovers from a cut of *{scenario.name}* or works on; "
        f"{options.second_lives} such second lives"
    )
    run = Run(name=f"{scenario.name}, again", says=says, result=Result(), kills=0)
    for number, life in enumerate(rng.sample(lives, options.second_lives)):
        second = folder / f"life{number}"
        second.mkdir()
        _record(scenario, second, options, base=first.record.image(first.base, life))
        made = recording.load(run.name, second, first.record.whole_blocks)
        made = made._replace(messages={**_inherited(first, life.cut), **made.messages})
        publishers.save(list(made.messages.values()), second / "messages.json")
        states = made.record.states(_again(options), _models(options), rng)
        result = replay(made, scenario, states, second, daemon_every=0)
        if result.failures:
            _keep(second, scenario.name)
        run.result += result
        _count(run, made, second)
        shutil.rmtree(second / "replay")
        (second / "crash.img").unlink()
    run.seconds = time.monotonic() - began
    return run


def _inherited(first: Recording, cut: int) -> dict[str, Message]:
    """The first life's messages as the second begins: sent and promised before its first operation."""
    return {
        name: msgspec.structs.replace(each, sent=0, acked=0 if 0 <= each.acked <= cut else -1)
        for name, each in first.messages.items()
        if each.sent <= cut
    }


def _models(options: argparse.Namespace) -> list[Model]:
    return [Model(each) for each in options.model or Model]


def _count(run: Run, made: Recording, folder: Path) -> None:
    log = (folder / "edge.log").read_text(encoding="utf-8", errors="replace")
    run.operations += len(made.record.operations)
    run.flushes += len(made.record.flushes)
    run.bytes += sum(len(each.data) for each in made.record.operations)
    run.acknowledged += sum(each.acked > 0 for each in made.messages.values())
    run.gaps += log.count("records lost and declared")


def _measured(peer: peers.Peer, options: argparse.Namespace) -> PeerRun:
    with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
        run = peers.measure(
            peer,
            Path(scratch),
            states=options.peer_states,
            messages=options.peer_messages,
            seed=options.seed,
        )
    print(
        f"{run.name}, {run.setting}: {run.losing} of {run.states} crash states lose acknowledged messages, "
        f"{run.lost_total} of {run.promises}, at worst {run.lost_worst}; not started {run.not_started}",
        flush=True,
    )
    return run


def _twin(name: str, options: argparse.Namespace) -> Twin:
    """A broken twin of the daemon, recorded and replayed: does a judge say so, and in the right words?"""
    defect = DEFECTS[name]
    (scenario,) = (each for each in SCENARIOS if each.name == defect.scenario)

    def accusations(failures: Sequence[str]) -> int:
        return sum(accusation(each) in defect.caught for each in failures)

    own = argparse.Namespace(**vars(options))
    own.defect, own.messages, own.states = name, TWIN_MESSAGES, options.twin_states
    own.resume_every = own.daemon_every = 1
    for _ in range(TWIN_RECORDINGS):
        with tempfile.TemporaryDirectory(dir=options.scratch) as scratch:
            _record(scenario, Path(scratch), own)
            run = _run(
                *(scenario, Path(scratch), own, options.twin_states),
                enough=lambda failures: accusations(failures) >= TWIN_ACCUSATIONS,
            )
        if accusations(run.result.failures):
            break
        own.seed += 1
    words = Counter(accusation(each) for each in run.result.failures)
    accused = accusations(run.result.failures)
    print(f"twin {name}: {accused} of {'/'.join(defect.caught)}; {dict(words)}", flush=True)
    return Twin(defect.says, defect.caught, run.result.states, run.result.resumed, accused)


def _without_flushes(made: Recording) -> Recording:
    """Every flush a write of nothing: the record keeps its length, and nothing is ever safe."""
    idle = [each._replace(position=0) if each.is_flush else each for each in made.record.operations]
    return made._replace(record=Record(idle, made.record.whole_blocks))


def _tell(run: Run) -> None:
    result = run.result
    print(
        f"{run.name}: {run.operations} device operations, {run.flushes} flushes, {run.acknowledged} acknowledged; "
        f"{result.states} crash states in {run.seconds:.0f} s, {result.promises} promises looked for: "
        f"{len(result.failures)} violations",
        flush=True,
    )
    for each in result.failures[:20]:
        print(f"  {each}")


def _keep(folder: Path, name: str) -> None:
    kept = Path(tempfile.mkdtemp(prefix=f"powercut-{name}-"))
    for file in ("base.img", "device.log", "messages.json", "story.json", "served", "edge.log"):
        shutil.copyfile(folder / file, kept / file)
    print(f"  kept: --scenario {name} --replay {kept}")

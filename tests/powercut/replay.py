"""Crash states, one after the other: laid out on an image in memory, mounted, opened, judged, wiped away.

States come in the order of their cuts, so the flushed part of the record is written once; what a state adds, and what
mounting and recovery change, is undone by copying the flushed image over it (32 MiB: a few milliseconds).
"""

from __future__ import annotations

import mmap
import socket
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass, field, fields
from pathlib import Path

from headwater.core.errors import HeadwaterError
from headwater.demo.daemon import headwater_command
from tests.bench import wire

from . import headwater_edge, kernel, progress, resuming
from .crashes import Record, State
from .headwater_edge import Scenario
from .oracle import Judge
from .promises import Promises
from .publishers import name_of
from .recording import Recording, Subject, check_file_system
from .resuming import World
from .view import PROBE

VERIFY_SECONDS = 120.0


class Unmountable(Exception):
    """ext4 refuses the image and e2fsck cannot repair it."""


class Medium:
    """The image as crash states have it."""

    def __init__(self, base: bytes, record: Record, folder: Path) -> None:
        self._record = record
        self._flushed = bytearray(base)
        self._to = 0
        self._image = folder / "crash.img"
        self._place = folder / "crash"
        self._place.mkdir(exist_ok=True)
        self._image.write_bytes(base)
        with self._image.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), len(base))
        self.repaired = 0

    def after(self, state: State) -> AbstractContextManager[Path]:
        """The file system mounted as it is after that power cut. Raises Unmountable."""
        flushed = self._record.flushed(state.cut)
        assert flushed >= self._to, "states come in order"
        for each in self._record.operations[self._to : flushed]:
            if not each.is_flush:
                self._flushed[each.position : each.position + len(each.data)] = each.data
        self._to = flushed
        self._map[:] = self._flushed
        for position, data in self._record.patches(state):
            self._map[position : position + len(data)] = data
        return self._mount()

    @contextmanager
    def _mount(self) -> Iterator[Path]:
        with ExitStack() as stack:
            progress.awaiting("the mount")
            try:
                stack.enter_context(kernel.mounted(self._image, self._place))
            except OSError as error:
                if not check_file_system(self._image):
                    raise Unmountable(str(error)) from error
                self.repaired += 1
                stack.enter_context(kernel.mounted(self._image, self._place))
            progress.awaiting("")
            yield self._place
            progress.awaiting("the unmount")


@dataclass
class Result:
    """Counts over the states of one recording; `+=` adds those of another."""

    states: int = 0
    models: Counter[str] = field(default_factory=Counter)
    fates: Counter[str] = field(default_factory=Counter)
    pending: int = 0
    promises: int = 0
    torn: int = 0
    declared: int = 0
    quarantined: int = 0
    retired: int = 0
    repaired: int = 0
    daemons: int = 0
    rolls: int = 0
    resumed: int = 0
    claims: Counter[str] = field(default_factory=Counter)
    failures: list[str] = field(default_factory=list)

    def __iadd__(self, other: Result) -> Result:
        self.rolls = max(self.rolls, other.rolls)
        for name in _SUMMED:
            setattr(self, name, getattr(self, name) + getattr(other, name))
        return self


_SUMMED = [each.name for each in fields(Result) if each.name != "rolls"]


def replay(
    recording: Recording,
    scenario: Scenario,
    states: Sequence[State],
    folder: Path,
    *,
    daemon_every: int,
    defect: str = "",
    enough: Callable[[Sequence[str]], bool] = lambda failures: False,
) -> Result:
    """`defect`: of the daemon that is started on some states. `enough`: of what is found no more is needed."""
    (folder / "replay").mkdir(exist_ok=True)
    trial = _Trial(recording, scenario, folder / "replay", defect)
    medium = Medium(recording.base, recording.record, folder)
    result = trial.result
    for index, state in enumerate(states):
        with_daemon = daemon_every > 0 and index % daemon_every == daemon_every - 1
        kind = progress.START if with_daemon else progress.STATE
        name = f"state {index + 1} of {len(states)} of {recording.name}, {state}"
        with progress.step(kind, name):
            broken = _broken(trial, medium, state, with_daemon=with_daemon)
        result.states += 1
        result.models[state.model] += 1
        result.fates[state.fate] += 1
        result.pending += recording.record.flushed(state.cut) < state.cut
        result.failures += [f"{recording.name} {state}: {each}" for each in broken]
        if broken and not defect:
            print(f"  {recording.name} {state}: {broken[0]}", flush=True)  # not only at the end
        if enough(result.failures):
            break
    result.promises += trial.judge.checked
    result.claims += trial.judge.claims
    result.repaired = medium.repaired
    return result


def _broken(trial: _Trial, medium: Medium, state: State, *, with_daemon: bool) -> list[str]:
    try:
        with medium.after(state) as mount:
            return trial.judged(mount, state, with_daemon=with_daemon)
    except Unmountable as error:
        return [f"unmountable: {error}"]
    except (HeadwaterError, AssertionError, OSError) as error:
        return [f"refused: {error!r}"]


class _Trial:
    """One recording before its judges."""

    def __init__(self, recording: Recording, scenario: Scenario, folder: Path, defect: str) -> None:
        self._recording = recording
        self._scenario = scenario
        self._folder = folder
        self._defect = defect
        self.judge = Judge(recording.messages, scenario.policy)
        said = recording.story.complaints
        self.result = Result(failures=[f"{recording.name}: {each}" for each in said])

    def judged(self, mount: Path, state: State, *, with_daemon: bool) -> list[str]:
        scenario, result = self._scenario, self.result
        if not with_daemon:
            return _by_recovery(mount, scenario, self.judge, state, result)
        result.daemons += 1
        subject = headwater_edge.edge(scenario, self._folder, mount, defect=self._defect, warm=True)
        if scenario.clients is not None:
            return self._by_clients(mount, subject, state)
        broken = _by_daemon(mount, subject)
        return broken + _by_recovery(mount, scenario, self.judge, state, result)

    def _by_clients(self, mount: Path, subject: Subject, state: State) -> list[str]:
        """The daemon goes on from there, and so do its clients; then the log is judged."""
        story, cut, result = self._recording.story, state.cut, self.result
        scenario = self._scenario
        world = World(story, self._recording.messages, cut)
        met, messages, broken = resuming.resume(
            subject, world, scenario.markers, is_twin=bool(self._defect)
        )
        lived = self.judge.lived_on(messages, cut)
        broken += _by_recovery(mount, scenario, lived, state, result)
        promises = Promises(story, messages, cut, lived.present, scenario.policy.dropped)
        broken += promises.violations(met)
        result.resumed += 1
        result.promises += lived.checked
        result.claims += promises.claims + lived.claims
        return broken


def _by_recovery(
    mount: Path, scenario: Scenario, judge: Judge, state: State, result: Result
) -> list[str]:
    journal = headwater_edge.open_journal(mount, scenario.settings)
    try:
        seen = headwater_edge.view(journal)
        broken = judge.violations(seen, state.cut)
        result.torn += seen.torn_bytes > 0
        result.declared += bool(seen.losses)
        result.quarantined += seen.quarantined
        result.rolls = max(result.rolls, journal.end_position.segment)
        result.retired += any(start for start, _ in seen.bounds.values())
        probes = headwater_edge.append_probe(journal)
    finally:
        journal.close()
    if not seen.losses:
        broken += [f"verify: {each}" for each in headwater_edge.damage(mount)]
    again = headwater_edge.open_journal(mount, scenario.settings)
    try:
        second = headwater_edge.view(again)
    finally:
        again.close()
    for partition, records in seen.records.items():
        later = second.records.get(partition, [])
        if later[: len(records)] != records:
            broken.append(f"recovered twice, {partition} differs")
    for partition, offset in probes.items():
        last = second.records.get(partition, [])[-1:]
        if [(o, name_of(p)) for o, p in last] != [(offset, PROBE)]:
            broken.append(f"what was appended after recovery to {partition} is not there: {last}")
        given = [loss.last + 1 for loss in seen.volatile if loss.partition == partition]
        if partition in seen.bounds and offset != max(*given, seen.bounds[partition][1], 0):
            broken.append(f"{partition} went on at {offset}, not {seen.bounds[partition][1]}")
    return broken


def _by_daemon(mount: Path, subject: Subject) -> list[str]:
    """Start the daemon there, have one publish acknowledged, stop it, and let the command line verify."""
    try:
        subject.daemon.start()
        subject.ready()
        _publish_one(subject)
        status = subject.daemon.stop()
    finally:
        subject.daemon.close()
    broken = [f"the daemon stopped with {status}"] if status else []
    command = headwater_command("log", "verify", str(headwater_edge.data_directory(mount)))
    verified = subprocess.run(command, capture_output=True, text=True, timeout=VERIFY_SECONDS)
    if verified.returncode:
        broken.append(f"log verify: {verified.stdout}{verified.stderr}")
    return broken


def _publish_one(subject: Subject) -> None:
    with socket.create_connection(("127.0.0.1", subject.port), timeout=10) as connection:
        connection.sendall(wire.connect("after"))
        reader = wire.PacketReader()
        payload = PROBE.encode()
        connection.sendall(wire.publish("other/a", payload, 1))
        while True:
            data = connection.recv(4096)
            assert data, "the edge closed a publisher's connection"
            if any(packet.kind == wire.PUBACK for packet in reader.feed(data)):
                return

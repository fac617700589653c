"""The same power cuts for Mosquitto and NATS: what their PUBACK is worth, by the same device and the same witness.

Rule: a subscriber with a lasting session subscribed (QoS 1) before the first publish and went away. After a cut the broker
starts on what is left, the subscriber returns, and each message acknowledged before the cut must reach it, once or more.
Cuts are while the broker serves; its orderly exit, at which Mosquitto writes its database, is not among the states.
Every wait has a bound. A broker that after a cut does not start, or that does not serve its returning subscriber, is told
and counted as not started; one that never comes to an end of what it sends is an error of the measurement.
"""

from __future__ import annotations

import contextlib
import random
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from headwater.demo.daemon import HOST, Daemon, DaemonFailed, free_port
from tests.bench import wire

from . import progress, recording
from .crashes import Model, Record, State
from .publishers import Pace, name_of
from .recording import WITH_US, Recording, Subject
from .replay import Medium, Unmountable
from .report import PeerRun

SUBSCRIBER = "subscriber"
TOPICS = ("t/a", "t/b", "t/c", "t/d")
START_SECONDS = 30.0  # a store is recovered; on a machine that has other work to do
# slow, for several seconds, so that what brokers and kernels do every few seconds is among the record
PACE = Pace(share=1.0, seconds=2.5)
# nothing for so long after the last message: there is no more to come
QUIET_SECONDS = 1.5
# of a subscriber's return altogether
RECEIVE_SECONDS = 60.0
TOOL_SECONDS = 10.0
_SUBSCRIBE = wire.packet(0x82, (1).to_bytes(2, "big") + wire.text("t/#") + b"\x01")
_SUBACK = 9


class Peer(NamedTuple):
    name: str
    setting: str
    subject: Callable[[Path, Path], Subject]


def present() -> list[Peer]:
    """Those that are installed here."""
    found = []
    if shutil.which("mosquitto", path=_PATHS) is not None:
        found += [
            Peer("Mosquitto", says, _mosquitto(lines))
            for says, lines in (
                ("`persistence true` (autosave every 30 minutes, its default)", ()),
                ("`autosave_interval 1`", ("autosave_interval 1",)),
                (
                    "`autosave_on_changes true`, `autosave_interval 1`",
                    ("autosave_on_changes true", "autosave_interval 1"),
                ),
            )
        ]
    if _nats() is not None:
        found += [
            Peer("NATS JetStream", "default (`sync_interval: 2m`)", _nats_subject("")),
            Peer(
                "NATS JetStream", "`sync_interval: always`", _nats_subject("sync_interval: always")
            ),
        ]
    return found


_PATHS = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def _nats() -> str | None:
    beside = Path(sys.executable).with_name("nats-server")
    return str(beside) if beside.exists() else shutil.which("nats-server")


def versions() -> str:
    said = []
    if (mosquitto := shutil.which("mosquitto", path=_PATHS)) is not None:
        output = _output(mosquitto, "-h")
        said.append(output.partition("\n")[0].replace("mosquitto version", "Mosquitto"))
    if (nats := _nats()) is not None:
        said.append(_output(nats, "--version").strip().replace("nats-server: v", "NATS "))
    return ", ".join(said)


def _output(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, timeout=TOOL_SECONDS).stdout


def _mosquitto(extra: tuple[str, ...]) -> Callable[[Path, Path], Subject]:
    def subject(folder: Path, mount: Path) -> Subject:
        port = free_port()
        lines = [
            f"listener {port} {HOST}",
            "allow_anonymous true",
            "user root",
            "log_dest stderr",
            "persistence true",
            f"persistence_location {mount}/",
            # else it drops what a subscriber that is away has not taken, beyond a thousand
            "max_queued_messages 0",
            *extra,
        ]
        config = folder / "mosquitto.conf"
        config.write_text("\n".join(lines) + "\n")
        program = shutil.which("mosquitto", path=_PATHS)
        assert program is not None
        command = [*WITH_US, program, "-c", str(config)]
        return _listening(Daemon("mosquitto", command, log=folder / "mosquitto.log"), port)

    return subject


def _nats_subject(extra: str) -> Callable[[Path, Path], Subject]:
    def subject(folder: Path, mount: Path) -> Subject:
        port = free_port()
        config = folder / "nats.conf"
        config.write_text(
            f'server_name: powercut\nlisten: "{HOST}:{free_port()}"\n'
            f'jetstream {{ store_dir: "{mount}/nats", max_file_store: 20MB, {extra} }}\n'
            f'mqtt {{ listen: "{HOST}:{port}" }}\n'
        )
        program = _nats()
        assert program is not None
        command = [*WITH_US, program, "-c", str(config)]
        return _listening(Daemon("nats-server", command, log=folder / "nats.log"), port)

    return subject


def _listening(daemon: Daemon, port: int) -> Subject:
    """Ready is: a client is accepted."""

    def ready() -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline and daemon.running:
            with contextlib.suppress(OSError), _session(port, "probe", clean=True):
                return
            time.sleep(0.02)
        raise DaemonFailed(
            f"{daemon.name} accepted no client in {START_SECONDS:g} s\n{daemon.log_tail()}"
        )

    return Subject(daemon, port, ready)


def measure(peer: Peer, folder: Path, *, states: int, messages: int, seed: int) -> PeerRun:
    began = time.monotonic()
    name = f"{peer.name}, {peer.setting}"
    with progress.step(progress.RECORDING, f"the recording of {name}"):
        recording.make(
            folder,
            peer.subject,
            crowd=recording.plain(TOPICS, PACE),
            messages=messages,
            rng=random.Random(seed),
            prepare=_subscribe,
        )
    seconds = time.monotonic() - began
    made = recording.load(peer.name, folder)
    (folder / "replay").mkdir()
    medium = Medium(made.base, made.record, folder)
    lost, promises, not_started = [], 0, 0
    serving = _serving(made, states, seed)
    for number, state in enumerate(serving, 1):
        which = f"state {number} of {len(serving)} of {name}, {state}"
        promised = {m.name for m in made.messages.values() if 0 <= m.acked <= state.cut}
        promises += len(promised)
        try:
            with progress.step(progress.PEER, which), medium.after(state) as mount:
                received = _received(peer, folder / "replay", mount, promised)
        except (DaemonFailed, Unmountable) as error:
            print(f"  {which}: {str(error)[:300]}", flush=True)
            received, not_started = set(), not_started + 1
        lost.append(len(promised - received))
    return PeerRun(
        name=peer.name,
        setting=peer.setting,
        seconds=seconds,
        acknowledged=sum(each.acked >= 0 for each in made.messages.values()),
        states=len(lost),
        losing=sum(count > 0 for count in lost),
        lost_worst=max(lost),
        lost_total=sum(lost),
        promises=promises,
        not_started=not_started,
    )


def _serving(made: Recording, count: int, seed: int) -> list[State]:
    """States between the first acknowledgement and the stop."""
    first = min(each.acked for each in made.messages.values() if each.acked >= 0)
    rng = random.Random(seed)
    serving = Record(made.record.operations[: made.served], made.record.whole_blocks)
    models = [Model.BLOCKS, Model.SECTORS]
    drawn = serving.states(count * 4, models, rng)
    late = [state for state in drawn if state.cut >= first]
    return sorted(rng.sample(late, count)) if len(late) > count else late


def _subscribe(port: int) -> None:
    with _session(port, SUBSCRIBER, clean=False) as (connection, reader):
        connection.sendall(_SUBSCRIBE)
        deadline = time.monotonic() + START_SECONDS
        granted = False
        while not granted:
            data = connection.recv(4096)
            if not data or time.monotonic() > deadline:
                raise DaemonFailed("the subscriber's connection ended before its SUBACK came")
            granted = any(packet.kind == _SUBACK for packet in reader.feed(data))
        connection.sendall(wire.DISCONNECT_PACKET)


def _received(peer: Peer, folder: Path, mount: Path, promised: set[str]) -> set[str]:
    """The names of the messages that reach the subscriber when it returns. Raises DaemonFailed where it is not let in."""
    daemon, port, ready, _ = peer.subject(folder, mount)
    received: set[str] = set()
    try:
        progress.awaiting(f"{daemon.name} to accept clients")
        daemon.start()
        ready()
        progress.awaiting("the CONNACK of the subscriber")
        with contextlib.ExitStack() as stack:
            try:
                session = _session(port, SUBSCRIBER, clean=False)
                connection, reader = stack.enter_context(session)
            except OSError as error:
                raise DaemonFailed(
                    f"no CONNACK for the subscriber: {error}\n{daemon.log_tail()}"
                ) from error
            progress.awaiting(f"the {len(promised)} messages owed")
            for name in _deliveries(connection, reader):
                received.add(name)
                if promised <= received:
                    break
        progress.awaiting(f"{daemon.name} to end")
        daemon.kill()
    finally:
        daemon.close()
    return received


def _deliveries(connection: socket.socket, reader: wire.PacketReader) -> Iterator[str]:
    """Each message's name, acknowledged; until nothing comes any more. Raises TimeoutError where there is no end."""
    connection.settimeout(QUIET_SECONDS)
    deadline, count = time.monotonic() + RECEIVE_SECONDS, 0
    while True:
        try:
            data = connection.recv(65536)
        except (TimeoutError, ConnectionError):
            return
        if not data:
            return
        for packet in reader.feed(data):
            if packet.kind == wire.PUBLISH:
                length = int.from_bytes(packet.body[:2], "big")
                identifier = packet.body[2 + length : 4 + length]
                with contextlib.suppress(OSError):  # then the next read says that it is gone
                    connection.sendall(wire.packet(wire.PUBACK << 4, identifier))
                count += 1
                yield name_of(packet.body[4 + length :])
        if time.monotonic() > deadline:
            raise TimeoutError(f"still being sent messages after {RECEIVE_SECONDS:g} s: {count}")


@contextlib.contextmanager
def _session(
    port: int, client: str, *, clean: bool
) -> Iterator[tuple[socket.socket, wire.PacketReader]]:
    """A connection after its CONNACK."""
    with socket.create_connection((HOST, port), timeout=START_SECONDS) as connection:
        connection.sendall(wire.connect(client, clean=clean))
        head = b""
        while len(head) < 4:
            data = connection.recv(4 - len(head))
            if not data:
                raise ConnectionResetError("closed before CONNACK")
            head += data
        if head[0] >> 4 != wire.CONNACK or head[3] != 0:
            raise ConnectionRefusedError(f"CONNACK {head.hex()}")
        yield connection, wire.PacketReader()

"""The witness: a process of its own that publishes and writes down what the edge promised, before anything else happens.

Rule: the ledger line of an acknowledgement is written when it was read from the socket, unbuffered, to a file opened for
append; so is each send. Nothing of it is believed because the edge or the lake says so. A line is

    S device sequence     about to be published for the first time
    R device sequence     about to be published again: DUP, same packet identifier, same session
    A device sequence     acknowledged: PUBACK at QoS 1, PUBREC at QoS 2 (from then on the edge answers for it)

Three kinds of device, told by the first letter of their name:

    f…  QoS 1, clean session: what was in flight when the connection broke is never sent again (it may be there once)
    s…  QoS 1, lasting session: it is sent again as DUP (at-least-once: a copy for each time it was sent, at the most)
    x…  QoS 2, lasting session: it is sent again as DUP, and must be there once

Devices with a lasting session break their own connection now and then, with publishes in flight: the edge remembers the
session, so that they must send again. So does one that was killed: a session whose CONNACK was read once is present on every
later connection, or the device says so and ends, and with it the witness.

Sequences of a device grow by one; each is published in order on one connection. Runs until SIGTERM, then waits for what
is in flight, so that the ledger ends with few doubts.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import random
import signal
from pathlib import Path

from tests.bench import wire

TICK_SECONDS = 0.02
RECONNECT_SECONDS = 0.05
FINISH_SECONDS = 20.0
# of the ticks of a device with a lasting session: once in two seconds or so
BREAK_SHARE = 0.01


class Ledger:
    def __init__(self, path: Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o644)

    def write(self, mark: str, device: str, sequence: int) -> None:
        os.write(self._file, f"{mark} {device} {sequence}\n".encode())


class Device(asyncio.Protocol):
    """One MQTT client through all its connections."""

    def __init__(self, name: str, ledger: Ledger, window: int, rng: random.Random) -> None:
        self.name = name
        self._rng = rng
        self._ledger = ledger
        self._window = window
        self._qos = 2 if name.startswith("x") else 1
        self._clean = name.startswith("f")
        self._next = 0
        self._packet_id = 0
        self._in_flight: dict[int, int] = {}  # packet identifier → sequence, not acknowledged
        self._releasing: set[int] = set()  # QoS 2: PUBREC came, PUBCOMP did not
        self._transport: asyncio.Transport | None = None
        self._reader = wire.PacketReader()
        self._accepted = False
        self._promised = False  # a CONNACK of its session was read
        self.finishing = False
        self.gone = asyncio.Event()
        self.done = asyncio.Event()

    @property
    def settled(self) -> bool:
        return not self._in_flight and not self._releasing

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.Transport), "TCP"
        self._transport = transport
        self._reader = wire.PacketReader()
        self.gone.clear()
        transport.write(wire.connect(self.name, clean=self._clean))

    def connection_lost(self, error: Exception | None) -> None:
        self._transport, self._accepted = None, False
        self.gone.set()

    def data_received(self, data: bytes) -> None:
        for packet in self._reader.feed(data):
            if packet.kind == wire.CONNACK:
                assert packet.body[1] == 0, f"{self.name} was refused: {packet.body!r}"
                self._resume(session_present=bool(packet.body[0] & 1))
            elif packet.kind == wire.PUBACK:
                self._ledger.write("A", self.name, self._in_flight.pop(packet.packet_id))
            elif packet.kind == wire.PUBREC:
                self._received(packet.packet_id)
            elif packet.kind == wire.PUBCOMP:
                self._releasing.discard(packet.packet_id)
            else:
                raise AssertionError(f"{self.name}: unexpected packet {packet}")
        if self.finishing and self.settled:
            self.done.set()

    def tick(self) -> None:
        """Publish until the window is full: `window / TICK_SECONDS` messages a second at the most."""
        while (
            self._transport is not None
            and self._accepted
            and not self.finishing
            and len(self._in_flight) + len(self._releasing) < self._window
        ):
            self._packet_id = self._packet_id % 0xFFFF + 1
            self._in_flight[self._packet_id] = self._next
            self._ledger.write("S", self.name, self._next)
            self._transport.write(self._publish(self._packet_id, dup=False))
            self._next += 1
        if self._accepted and not self._clean and self._rng.random() < BREAK_SHARE:
            assert self._transport is not None, "accepted means connected"
            self._accepted = False
            self._transport.close()  # what was written goes out; what would be answered is not heard

    def finish(self) -> None:
        """Publish nothing new; `done` when nothing is in flight."""
        self.finishing = True
        if self.settled:
            self.done.set()

    def _resume(self, *, session_present: bool) -> None:
        self._accepted = True
        assert self._transport is not None, "it has just spoken"
        if self._promised and not self._clean and not session_present:
            print(f"{self.name}: its session was forgotten", flush=True)
            os._exit(1)
        self._promised = True
        if not session_present:
            # nobody remembers these packet identifiers: what was in flight is in doubt for ever
            self._in_flight.clear()
            self._releasing.clear()
            if self.finishing:
                self.done.set()
            return
        for packet_id, sequence in self._in_flight.items():
            self._ledger.write("R", self.name, sequence)
            self._transport.write(self._publish(packet_id, dup=True))
        for packet_id in sorted(self._releasing):
            self._transport.write(wire.pubrel(packet_id))

    def _received(self, packet_id: int) -> None:
        sequence = self._in_flight.pop(packet_id, None)
        if sequence is not None:
            self._ledger.write("A", self.name, sequence)
            self._releasing.add(packet_id)
        assert self._transport is not None, "it has just spoken"
        self._transport.write(wire.pubrel(packet_id))

    def _publish(self, packet_id: int, *, dup: bool) -> bytes:
        reading = {"device": self.name, "sequence": self._in_flight[packet_id], "value": 21.5}
        payload = json.dumps(reading).encode()
        return wire.publish(f"site/{self.name}/reading", payload, packet_id, qos=self._qos, dup=dup)


async def live(device: Device, port: int) -> None:
    """Connect, and again whenever the connection goes."""
    loop = asyncio.get_running_loop()
    while not (device.finishing and device.settled):
        with contextlib.suppress(OSError):
            await loop.create_connection(lambda: device, "127.0.0.1", port)
            await device.gone.wait()
        await asyncio.sleep(RECONNECT_SECONDS)


async def beat(device: Device, phase: float) -> None:
    """Publish at a steady pace, out of step with the others: at most moments somebody waits for an acknowledgement."""
    await asyncio.sleep(phase)
    while True:
        device.tick()
        await asyncio.sleep(TICK_SECONDS)


async def run(options: argparse.Namespace) -> None:
    ledger = Ledger(options.ledger)
    names = options.devices.split(",")
    devices = [
        Device(name, ledger, options.window, random.Random(f"{options.seed} {name}"))
        for name in names
    ]
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    lives = [asyncio.create_task(live(device, options.port)) for device in devices]
    beats = [
        asyncio.create_task(beat(device, index * TICK_SECONDS / len(devices)))
        for index, device in enumerate(devices)
    ]
    await stop.wait()
    for task in beats:
        task.cancel()
    for device in devices:
        device.finish()
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(FINISH_SECONDS):
            for device in devices:
                await device.done.wait()
    for task in lives:
        task.cancel()
    await asyncio.gather(*lives, *beats, return_exceptions=True)


def main() -> None:
    flags = argparse.ArgumentParser(prog="tests.crash.witness", description=__doc__)
    flags.add_argument("--port", type=int, required=True)
    flags.add_argument("--ledger", type=Path, required=True)
    flags.add_argument("--devices", required=True, metavar="NAME,…")
    flags.add_argument("--seed", type=int, default=0)
    flags.add_argument("--window", type=int, default=2)
    asyncio.run(run(flags.parse_args()))


if __name__ == "__main__":
    main()

"""What publishes in the demo: this machine's own readings, and a simulated fleet, each device a real MQTT client.

Rule: the account is kept here, by the clients, and nowhere else. A message counts as acknowledged when its PUBACK came; one
that was in flight when the connection broke is in doubt for ever: it is not sent again, and the device goes on with its
next number. (A client with a lasting session would send it again; here each promise is counted once.)

Each device has a topic of its own and numbers its messages, so the lake can be held against the account.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import math
import random
from collections.abc import Iterator

import aiomqtt
import msgspec
from paho.mqtt.client import MQTT_ERR_NO_CONN

from ..core.clock import Clock
from ..hardware.sysroot import SysRoot
from ..hardware.system import SystemReader
from .daemon import HOST
from .judging import Account

RECONNECT_SECONDS = 0.2
# an edge that syncs answers in milliseconds; a client that was not told of a broken connection must not wait for ever
ACK_SECONDS_MAX = 4.0
MACHINE_SECONDS = 0.5
DEVICE_SECONDS = 0.2
SITES = ("weir", "gauge", "pump", "well", "spring")

# the clients' own chatter about connections that we break on purpose
_QUIET = logging.getLogger("headwater.demo.mqtt")
_QUIET.addHandler(logging.NullHandler())
_QUIET.propagate = False

Reading = dict[str, object]


class Publisher:
    """One MQTT client through all its connections: publishes one message at a time and keeps the account."""

    def __init__(self, name: str, port: int, account: Account) -> None:
        self._name = name
        self._port = port
        self._account = account
        self._numbers: dict[str, int] = {}
        self._client: aiomqtt.Client | None = None
        self._connection = contextlib.AsyncExitStack()

    async def publish(self, topic: str, reading: Reading) -> bool:
        """True when acknowledged; False when it is in doubt, or could not be sent at all."""
        try:
            client = await self._connected()
        except aiomqtt.MqttError:
            await asyncio.sleep(RECONNECT_SECONDS)
            return False
        number = self._numbers.get(topic, 0)
        self._numbers[topic] = number + 1
        self._account.sent[topic, number] += 1
        payload = json.dumps({"number": number, **reading})
        try:
            await client.publish(topic, payload, qos=1, timeout=ACK_SECONDS_MAX)
        except aiomqtt.MqttError as error:
            if isinstance(error, aiomqtt.MqttCodeError) and error.rc == MQTT_ERR_NO_CONN:
                # the connection was known to be gone: nothing left this client, so nothing is in doubt
                del self._account.sent[topic, number]
                self._numbers[topic] = number
            await self.close()
            return False
        self._account.acknowledged.add((topic, number))
        return True

    async def close(self) -> None:
        self._client = None
        with contextlib.suppress(aiomqtt.MqttError):
            await self._connection.aclose()

    async def _connected(self) -> aiomqtt.Client:
        if self._client is None:
            client = aiomqtt.Client(HOST, self._port, identifier=self._name, logger=_QUIET)
            entering = asyncio.ensure_future(self._connection.enter_async_context(client))
            try:
                self._client = await asyncio.shield(entering)
            except asyncio.CancelledError:
                # a client cancelled while it connects leaves its socket and a task behind; `close` can end a whole one
                with contextlib.suppress(aiomqtt.MqttError):
                    await entering
                raise
        return self._client


class Fleet:
    """Publishes while `run` runs; the same fleet may run again and goes on where it stopped."""

    def __init__(self, devices: int, *, port: int, clock: Clock, rng: random.Random) -> None:
        self.account = Account()
        self._clock = clock
        self._rng = rng
        self._machine = Publisher("demo-machine", port, self.account)
        self._reader = SystemReader(root=SysRoot(), clock=clock)
        self._devices = [
            (
                f"site/{SITES[index % len(SITES)]}/{index:03d}",
                Publisher(f"demo-{index:03d}", port, self.account),
            )
            for index in range(devices)
        ]

    async def run(self, stop: asyncio.Event) -> None:
        """Until `stop`; every publish that was begun is acknowledged or in doubt when this returns."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._read_machine(stop))
            for topic, publisher in self._devices:
                tasks.create_task(self._simulate(topic, publisher, stop))

    async def _read_machine(self, stop: asyncio.Event) -> None:
        try:
            while not stop.is_set():
                for sample in self._reader.read():
                    reading = msgspec.to_builtins(sample)
                    if not await self._machine.publish(f"machine/{sample.name}", reading):
                        break
                await _pause(stop, MACHINE_SECONDS)
        finally:
            await self._machine.close()

    async def _simulate(self, topic: str, publisher: Publisher, stop: asyncio.Event) -> None:
        try:
            await _pause(stop, self._rng.uniform(0, DEVICE_SECONDS))
            for reading in _water(self._rng):
                if stop.is_set():
                    break
                await publisher.publish(topic, reading)
                await _pause(stop, DEVICE_SECONDS)
        finally:
            await publisher.close()


def _water(rng: random.Random) -> Iterator[Reading]:
    """A gauge in a stream: a level that swells and falls, a temperature that drifts, a battery that empties."""
    level, phase, battery = rng.uniform(0.5, 2.0), rng.uniform(0, math.tau), rng.uniform(3.6, 4.1)
    temperature = rng.uniform(8, 14)
    while True:
        phase += 0.05
        temperature += rng.gauss(0, 0.02)
        battery -= 1e-5
        yield {
            "level_m": round(level + 0.2 * math.sin(phase) + rng.gauss(0, 0.005), 3),
            "temperature_c": round(temperature, 2),
            "battery_v": round(battery, 3),
        }


async def _pause(stop: asyncio.Event, seconds: float) -> None:
    # not wait_for: before Python 3.12 it may take a cancellation for its own timeout, and we would never end
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await stop.wait()

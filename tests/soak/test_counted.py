"""A counted device gives each sequence to one message, whatever happens to the connection: it judges others by that."""

from __future__ import annotations

import asyncio
import random

import pytest

from headwater.edge.mqtt.packets import Packet, Publish, Version

from .client import Client, Gone, Place
from .counted import Account, Device


class Wire(Client):
    """Says nothing; over from the `last` packet on."""

    def __init__(self, last: int) -> None:
        self.version = Version.V311
        self.sent: list[Publish] = []
        self._last = last

    def send(self, *packets: Packet) -> None:
        if len(self.sent) == self._last:
            raise Gone("lost")
        self.sent += [each for each in packets if isinstance(each, Publish)]

    async def drain(self) -> None:
        pass


@pytest.mark.parametrize("last", range(4))
def test_a_connection_lost_while_it_publishes_gives_no_sequence_twice(last: int) -> None:
    account = Account("s0", "telemetry")
    device = Device(
        *(Place(0), "s0", "site/s0/reading", account),
        qos=1,
        version=Version.V311,
        kept=True,
        rate=1e6,
        size=1,
        rng=random.Random(1),
    )

    async def live() -> None:
        reading = asyncio.create_task(asyncio.sleep(60))
        with pytest.raises(Gone):
            await device._publish(Wire(last), reading)
        reading.cancel()

    asyncio.run(live())
    assert sorted(device._flying.values()) == list(range(account.sent))

"""The broker on a real socket of the loopback interface, with a journal in memory that syncs when the loop is idle."""

from __future__ import annotations

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from headwater.core.clock import SystemClock
from headwater.edge.broker.broker import Broker
from headwater.edge.broker.listening.listeners import Listeners
from headwater.edge.broker.listening.settings import ListenerSettings
from headwater.edge.broker.settings import MqttSettings
from headwater.edge.streams import StreamTable

from .harness import MemoryJournal, MemorySource


class LoopJournal(MemoryJournal):
    """Durable at the next turn of the loop."""

    def request(self) -> None:
        super().request()
        asyncio.get_running_loop().call_soon(self._sync)

    def _sync(self) -> None:
        if len(self.stored) > self._synced or self.noted:
            self._synced = len(self.stored)
            self.complete(self.seal())

    _synced = 0


class Served:
    def __init__(self, broker: Broker, listener: Listeners, journal: LoopJournal) -> None:
        self.broker = broker
        self.listener = listener
        self.journal = journal
        self.host, self.port = listener.address


def open_listener(broker: Broker, *, host: str = "127.0.0.1", port: int = 0) -> Listeners:
    """One address, with nobody asked who they are."""
    return Listeners(broker, (ListenerSettings(address=f"{host}:{port}", anonymous=True),))


@asynccontextmanager
async def served(settings: MqttSettings | None = None) -> AsyncIterator[Served]:
    journal = LoopJournal()
    source = MemorySource(journal)
    broker = Broker(
        journal,
        journal,
        source=source,
        streams=StreamTable(()),
        settings=settings or MqttSettings(),
        clock=SystemClock(),
        rng=random.Random(1),
    )
    listener = open_listener(broker)
    await listener.start()
    try:
        yield Served(broker, listener, journal)
    finally:
        await listener.stop_accepting()
        broker.stop_reading()
        broker.close()
        await listener.close()

"""A client with a publish rate: who sends faster is not read until its debt is paid. Nothing is lost or refused by it.

Only listeners that set a rate have such clients, so nobody else pays for the counting. One read may exceed the rate by
as much as the kernel gave; that is the debt, and it is waited for in whole ticks, so the mean is what was set.
"""

from __future__ import annotations

from ...mqtt.connection import Run
from ...mqtt.packets import Publish
from ..broker import Broker
from ..client import Client
from ..transport import Pause
from .door import Bucket, Door, Visitor


class RatedClient(Client):
    __slots__ = ("_bytes", "_door", "_messages", "_taken")

    def __init__(self, broker: Broker, visitor: Visitor) -> None:
        super().__init__(broker, visitor)
        settings = visitor.door.settings
        now = broker.clock.monotonic()
        self._door: Door = visitor.door
        self._taken = 0
        # a second's worth at once: devices send in bursts
        self._messages = (
            Bucket(settings.publish_rate, max(1.0, settings.publish_rate), now)
            if settings.publish_rate
            else None
        )
        rate = float(settings.publish_bytes_rate)
        self._bytes = Bucket(rate, rate, now) if rate else None

    def data_received(self, data: bytes) -> None:
        super().data_received(data)
        if self.transport is None:
            return
        now = self._broker.clock.monotonic()
        wait_s = 0.0
        if self._bytes is not None:
            wait_s = self._bytes.take(len(data), now)
        if self._messages is not None:
            wait_s = max(wait_s, self._messages.take(self._taken, now))
            self._taken = 0
        if wait_s > 0:
            self._door.slowed += 1
            self.pause(Pause.RATE)
            self._broker.deadlines.at(now + wait_s, lambda _: self.resume(Pause.RATE))

    def _take_plain(self, data: bytes) -> int:
        return 0  # counted packet by packet

    def _take_run(self, run: Run) -> None:
        self._taken += len(run)
        super()._take_run(run)

    def _take_publish(self, packet: Publish) -> None:
        self._taken += 1
        super()._take_publish(packet)

"""What all clients hold of packets that have not wholly arrived: one memory for all, because ten thousand clients may each
begin a packet of a mebibyte and never end it.

Below `SMALL_BYTES` nothing is counted: a reading comes in one read. Whoever begins a larger packet reserves all of it, in
the order of asking; who gets no room is not read until others are done. So memory is bounded by

    gather_memory_max              reserved (or one packet, if that alone is larger)
  + gather_memory_max              of those that wait: what one read brought; beyond it the newest is closed
  + SMALL_BYTES per connection

While somebody waits, a holder must go on: one that brought less than `PROGRESS_BYTES` in `PROGRESS_S` is closed, so that
slow senders cannot keep the room from others. Where nobody waits they may take their time.

Knows of a client how much of its packet came, whether it could be heard, and how to stop it.
"""

from __future__ import annotations

from typing import Protocol

from ..mqtt.reasons import Reason
from .transport import Pause

SMALL_BYTES = 4096
# 3.3 kbit/s: slower than any radio over which packets of this size are worth sending.
PROGRESS_BYTES = 4096
PROGRESS_S = 10.0


class Gatherer(Protocol):
    @property
    def gathered(self) -> int:
        """Bytes of the unfinished packet that are there."""

    @property
    def stopped(self) -> bool:
        """We do not read it, for whatever reason."""

    def pause(self, why: int) -> None: ...
    def resume(self, why: int) -> None: ...
    def close(self, reason: Reason, detail: str) -> None: ...


class Gathering:
    __slots__ = (
        "_looked_at",
        "_parked",
        "_reserved",
        "_seen",
        "_waiting",
        "bytes_max",
        "reserved",
        "waits",
    )

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.reserved = 0  # bytes
        self.waits = 0  # times that a client had to wait
        self._reserved: dict[Gatherer, int] = {}
        # in the order of asking: (what each will reserve, what it holds)
        self._waiting: dict[Gatherer, tuple[int, int]] = {}
        self._parked = 0  # bytes that those hold
        self._seen: dict[Gatherer, int] = {}  # of a holder: what had come at the last look
        self._looked_at = 0.0

    def __contains__(self, client: Gatherer) -> bool:
        return client in self._reserved or client in self._waiting

    def ask(self, client: Gatherer, size: int) -> None:
        """The packet it has begun will have `size` bytes. Again for each next packet; 0, and when it is gone: none."""
        self._give_back(client)
        if size > SMALL_BYTES:
            if not self._waiting and self._fits(size):
                self._take(client, size)
            elif self._parked + (holds := client.gathered) > self.bytes_max:
                client.close(Reason.SERVER_BUSY, "too many large packets at once")
            else:
                self.waits += 1
                self._waiting[client] = (size, holds)
                self._parked += holds
                client.pause(Pause.GATHERING)
        self._serve()

    def tick(self, now: float) -> None:
        """Close holders that do not go on while others wait."""
        if now - self._looked_at < PROGRESS_S:
            return
        self._looked_at = now
        if not self._waiting:
            self._seen.clear()
            return
        before, self._seen = self._seen, {each: each.gathered for each in self._reserved}
        for client, gathered in tuple(self._seen.items()):
            if (
                client in before
                and not client.stopped
                and gathered - before[client] < PROGRESS_BYTES
            ):
                client.close(
                    Reason.QUOTA_EXCEEDED, "a large packet comes too slowly, and others wait"
                )

    def _fits(self, size: int) -> bool:
        return not self.reserved or self.reserved + size <= self.bytes_max

    def _take(self, client: Gatherer, size: int) -> None:
        self._reserved[client] = size
        self.reserved += size

    def _give_back(self, client: Gatherer) -> None:
        self.reserved -= self._reserved.pop(client, 0)
        self._seen.pop(client, None)
        waited = self._waiting.pop(client, None)
        if waited is not None:
            self._parked -= waited[1]
            client.resume(Pause.GATHERING)

    def _serve(self) -> None:
        while self._waiting:
            client, (size, holds) = next(iter(self._waiting.items()))
            if not self._fits(size):
                return
            del self._waiting[client]
            self._parked -= holds
            self._take(client, size)
            client.resume(Pause.GATHERING)

"""What all clients hold of bytes that were written to them and that they do not read: one memory for all.

How much of what we write lies unsent is for the peers to decide, so each may hold `write_buffer_max` only while few do. The
rule, in the order in which it bites:

  half of `unsent_memory_max` is shared out equally among the connections that have anything unsent, the other half among
      those over TLS that have (none gets less than a TLS record). Who holds more than its part, or more than
      `write_buffer_max`, is not written to: QoS 0 is dropped, QoS 1 and 2 stay offsets in the log, and it is not read.
      (The sockets keep this part of the rule: it costs nothing where the kernel takes what is written.)
  beyond all of it the greatest holders are cut off, without a word that they would not read, until three quarters are
      left: first those that we are closing anyway, then the others. Their sessions stay; wills are published.

The parts shrink as more come, and who held more before keeps it; that is why the second half of the rule is needed.
Checked whenever what gathered has been written, and `GATHERED_BYTES` are written at the latest; so memory is bounded by
`unsent_memory_max` + `GATHERED_BYTES` + one packet, whatever the number of connections. A buffer's own slack comes beside.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ...core.units import MIB
from .transport import Transport

# What may be gathered for all clients before it is written.
GATHERED_BYTES = 4 * MIB


class Wires(Protocol):
    """All connections of the edge in the clear, as `edge/sockets` counts them."""

    read_bytes: int
    share: int

    @property
    def unsent(self) -> int: ...


class EncryptedWires(Protocol):
    """All over TLS (listening/overtls.py): `unsent` is of the last `look`, and since then grows only."""

    unsent: int
    share: int

    def look(self) -> None: ...


class Holder(Protocol):
    transport: Transport | None

    def cut_off(self) -> None: ...


class Unsent:
    __slots__ = ("_encrypted", "_leaving", "_read_bytes", "_wires", "bytes_max", "cut")

    def __init__(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        self.cut = 0  # connections cut off for it
        self._wires: Wires | None = None
        self._encrypted: EncryptedWires | None = None
        self._read_bytes = 0  # of one read, as usual
        self._leaving: dict[Transport, None] = {}  # closed by us, with last words still unsent

    def attach(self, wires: Wires, encrypted: EncryptedWires | None = None) -> None:
        self._wires = wires
        self._encrypted = encrypted
        self._read_bytes = wires.read_bytes  # of one read, as usual
        self.change(self.bytes_max)

    def change(self, bytes_max: int) -> None:
        self.bytes_max = bytes_max
        for each in (self._wires, self._encrypted):
            if each is not None:
                each.share = bytes_max // 2

    @property
    def bytes(self) -> int:
        clear, encrypted = self._wires, self._encrypted
        return (0 if clear is None else clear.unsent) + (
            0 if encrypted is None else encrypted.unsent
        )

    def look(self) -> None:
        if self._encrypted is not None:
            self._encrypted.look()

    def read_at_most(self, size: int | None) -> None:
        """Of one connection at a time; None: as usual."""
        if self._wires is not None:
            self._wires.read_bytes = self._read_bytes if size is None else size

    def leaves(self, transport: Transport) -> None:
        """Closed, and what was written is still to be sent."""
        self._leaving[transport] = None

    def left(self, transport: Transport) -> None:
        self._leaving.pop(transport, None)

    def review(self, clients: Iterable[Holder]) -> None:
        """After writing. Aborts transports and nothing else: each client hears of it from the top of the loop."""
        if self.bytes <= self.bytes_max:
            return
        self.look()
        if self.bytes <= self.bytes_max:
            return
        enough = self.bytes_max // 4 * 3
        for transport in sorted(self._leaving, key=_held, reverse=True):
            if self.bytes <= enough:
                return
            transport.reset()
            self.left(transport)
        holders = [
            (each.transport.get_write_buffer_size(), each) for each in clients if each.transport
        ]
        for held, client in sorted(holders, key=lambda each: each[0], reverse=True):
            if self.bytes <= enough or not held:
                return
            self.cut += 1
            client.cut_off()


def _held(transport: Transport) -> int:
    return transport.get_write_buffer_size()

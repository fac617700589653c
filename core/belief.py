"""What a machine believes the time to be: wall = boot time + offset, and how far that is to be trusted.

A *belief* holds from one change of the clock to the next. Everything stamped under it can be told apart from its boot time
and back again without loss, because the wall time was made from the boot time by adding `offset_ms`:

    boot time of a record = its timestamp − offset         exact to the millisecond, however wrong the timestamp is

So a record needs no clock of its own. Its belief travels as a *mark*, in two shapes:
- in the edge's journal: in the 14 bytes that Kafka's batch header has for a producer, of which a journal has none
  (producer id = offset, epoch = trust, base sequence = the boot's first 32 bits; epoch −1: no mark). A commit is
  stamped under one belief alone: beliefs change between commits;
- on the way up: in the header `hw.time` of each record, `<8 hex of the boot id>/<trust>/<offset ms>`.
  A record that has this header already keeps it: it is older than the commit that it lies in.
"""

from __future__ import annotations

import enum
import re
from typing import NamedTuple

from .errors import Refused

# One per boot: random, so 32 bits tell a device's boots apart (one chance in a million at ninety of them).
BOOT_ID_BYTES = 4
_MARK = re.compile(rb"([0-9a-f]{8})/([0-9])/(-?[0-9]{1,16})")


class Trust(enum.IntEnum):
    """How the wall time came about. The numbers are part of the format."""

    NONE = 0  # the system's clock, which nothing has set in this boot as far as we know: perhaps a good RTC, perhaps not
    FLOOR = 1  # the system's clock was impossible; counting goes on from the floor
    SYNCHRONISED = (
        2  # set by something that knows: NTP by way of the kernel, or whoever called `learn`
    )


class Mark(NamedTuple):
    """Which clock stamped a record. `boot`: 8 hex digits; `offset_ms`: wall − boot."""

    boot: str
    trust: Trust
    offset_ms: int

    def encode(self) -> bytes:
        return b"%b/%d/%d" % (self.boot.encode(), self.trust, self.offset_ms)

    @classmethod
    def decode(cls, text: bytes) -> Mark:
        """Raises Refused where the header was not written by an edge."""
        found = _MARK.fullmatch(text)
        if found is None:
            raise Refused(f"not a time mark: {text[:80]!r}")
        boot, trust, offset = found.groups()
        try:
            return cls(boot.decode(), Trust(int(trust)), int(offset))
        except ValueError:
            raise Refused(f"not a time mark: {text[:80]!r}") from None

    def producer(self) -> Stamp:
        boot = int.from_bytes(bytes.fromhex(self.boot), "big", signed=True)
        return Stamp(self.offset_ms, int(self.trust), boot)


class Stamp(NamedTuple):
    """A mark in a batch header: the fields that an idempotent producer would fill."""

    producer_id: int
    producer_epoch: int
    base_sequence: int

    def mark(self) -> Mark | None:
        """None where the batch was written without one, by an earlier version."""
        try:
            trust = Trust(self.producer_epoch)
        except ValueError:
            return None
        boot = self.base_sequence.to_bytes(BOOT_ID_BYTES, "big", signed=True).hex()
        return Mark(boot, trust, self.producer_id)


NO_STAMP = Stamp(-1, -1, -1)

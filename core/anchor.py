"""An anchor: one moment of an edge's clock, written down. Boot time, wall time, and how far they are to be trusted together.

Anchors are records of the stream `_time` in the same journal, so they replicate like everything else and reach the lake.
One is written before anything is stamped under a new belief (at the start, at synchronisation, at a step), every so often,
and at an orderly stop. From them `core/timeline.py` repairs the times of all other records; they need not be near.
"""

from __future__ import annotations

import enum

import msgspec

from .belief import Trust
from .errors import Corrupt
from .record import TIME_STREAM, Record, TopicPartition

TIME_PARTITION = TopicPartition(TIME_STREAM, 0)


class AnchorReason(enum.StrEnum):
    START = "start"  # of the daemon; of the machine where the boot is another
    CHANGE = "change"  # the clock became known, or changed hands, without a jump
    STEP = "step"  # wall − boot jumped
    TICK = "tick"  # nothing happened: how far the clock had come, and how exactly it was known
    STOP = "stop"  # an orderly end


class Anchor(msgspec.Struct, frozen=True, kw_only=True):
    """`boot`: 8 hex digits. `error_ms`: the most that `wall_ms` may be off, where `trust` is synchronised."""

    edge: str
    log: str
    boot: str
    boot_ms: int
    wall_ms: int
    trust: str
    error_ms: int
    source: str
    reason: AnchorReason

    @property
    def offset_ms(self) -> int:
        return self.wall_ms - self.boot_ms

    @property
    def is_fix(self) -> bool:
        """Something knew the time then."""
        return self.trust == trust_name(Trust.SYNCHRONISED)

    def record(self) -> Record:
        return Record(self.wall_ms, self.edge.encode(), msgspec.json.encode(self))

    @classmethod
    def decode(cls, value: bytes) -> Anchor:
        try:
            return msgspec.json.decode(value, type=cls)
        except msgspec.MsgspecError as error:
            raise Corrupt(f"not an anchor: {error}") from error


def trust_name(trust: Trust) -> str:
    return trust.name.lower()

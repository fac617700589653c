"""A gap record: the written-down loss of a range of offsets.

Rule: nothing that had an address disappears without one. Gaps are records of the stream `_gaps`, appended to the same
journal *before* the loss is carried out (retention) or as soon as it is found (damage), so they travel to the lake
like everything else and `headwater verify` can subtract them.
"""

from __future__ import annotations

import enum

import msgspec

from .errors import Corrupt
from .record import GAPS_STREAM, Record, TopicPartition


class GapReason(enum.StrEnum):
    RETENTION = "retention"  # unsent data retired, by the stream's declared policy
    DAMAGE = "damage"  # stored bytes were not those written; the file is in quarantine
    VOLATILE = "volatile"  # acknowledged early, by the stream's declared durability, and not on disk at a power cut; at most
    THINNED = (
        "thinned"  # unsent records replaced by summaries of them, by the stream's declared policy
    )
    REFUSED = "refused"  # the cloud will never take this record (for example: too large)


class Gap(msgspec.Struct, frozen=True, kw_only=True):
    """Offsets `first` to `last`, both included, of one partition of one edge are gone."""

    edge: str
    log: str
    stream: str
    partition: int
    first: int
    last: int
    reason: GapReason
    detail: str = ""

    @property
    def count(self) -> int:
        return self.last - self.first + 1

    def record(self, now_ms: int) -> Record:
        return Record(
            now_ms,
            f"{self.edge}/{self.stream}/{self.partition}".encode(),
            msgspec.json.encode(self),
        )

    @classmethod
    def decode(cls, value: bytes) -> Gap:
        try:
            return msgspec.json.decode(value, type=cls)
        except msgspec.MsgspecError as error:
            raise Corrupt(f"not a gap record: {error}") from error


GAPS_PARTITION = TopicPartition(GAPS_STREAM, 0)

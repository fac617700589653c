"""[edge.wear]: how much may be written to the flash, in bytes a day or as a time that it must last."""

from __future__ import annotations

import msgspec

from ...core.errors import Misconfigured
from ...core.units import ByteSize, Duration

# Cards that write a thousandfold of what they are given do not exist; a slip of the pen does.
CARD_FACTOR_MAX = 1000


class WearSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    bytes_per_day: ByteSize | None = None
    """Budget of the whole device, whoever writes. None and no card_lasts: nothing is traded, all is still shown."""
    card_lasts: Duration | None = None
    """5y: what is left of the device's endurance, spread over what is left of this time since the edge first ran."""
    capacity: ByteSize | None = None
    """None: as the kernel tells it."""
    cycles: int = 500
    """Times that each cell bears writing: consumer TLC cards are sold for about 500 to 1,000, industrial MLC for 3,000,
    pSLC for 20,000 and more. The data sheet knows."""
    card_factor: float = 3.0
    """What the card itself writes per byte handed to it (moving blocks, tables of its own). Nobody outside can measure it;
    3 is a guess for sequential writing of 4 KiB and more."""
    endurance: ByteSize | None = None
    """Bytes that may be handed to the device in its life ("TBW" of a data sheet). None: capacity x cycles / card_factor."""
    interval_max: Duration = Duration(5)
    """Acknowledgements never wait longer than this for the budget's sake; beyond it the budget is overrun, and that is
    shown. Below the usual keep-alive and retry times of clients (10 s and more)."""

    def check(self) -> None:
        """Raises Misconfigured."""
        if self.bytes_per_day is not None and self.card_lasts is not None:
            raise Misconfigured(
                "edge.wear: give bytes_per_day or card_lasts, not both: they would contradict"
            )
        if self.bytes_per_day is not None and self.bytes_per_day < 1:
            raise Misconfigured("edge.wear.bytes_per_day must be at least 1B")
        if self.card_lasts is not None and self.card_lasts < 86_400:
            raise Misconfigured("edge.wear.card_lasts must be at least 1d")
        if self.cycles < 1 or not 1 <= self.card_factor <= CARD_FACTOR_MAX:
            raise Misconfigured(
                f"edge.wear.cycles must be 1 or more, and card_factor 1 to {CARD_FACTOR_MAX}"
            )
        if self.endurance == 0 or self.capacity == 0:
            raise Misconfigured("edge.wear.endurance and capacity must be above 0")
        if not 0 < self.interval_max <= 60:
            raise Misconfigured("edge.wear.interval_max must be above 0 and at most 60s")

    @property
    def has_budget(self) -> bool:
        return self.bytes_per_day is not None or self.card_lasts is not None

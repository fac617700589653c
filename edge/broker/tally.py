"""What happened, counted: plain integers, because the hot path adds to them and a scrape reads them.

`edge/metrics.py` turns them into Prometheus metrics when asked.
"""

from __future__ import annotations

from collections import Counter

from .plain import Counts


class Tally(Counts):
    __slots__ = (
        "accepted",
        "closed",
        "crashes",
        "delivered",
        "delivery_dropped",
        "early",
        "paused",
        "refused",
        "repeated",
        "replayed",
        "rested",
        "wills",
    )

    def __init__(self) -> None:
        super().__init__()
        self.accepted = 0  # TCP connections
        # of `acknowledged`, PUBACKs that did not wait for their commit, by their stream's declared durability
        self.early = 0
        self.repeated = 0  # publishes that were in the journal already and were not stored again
        self.rested = 0  # clients that waited after subscriptions that were costly to serve
        self.delivered = [0, 0, 0]  # PUBLISH packets to subscribers, by QoS
        self.replayed = 0  # messages read from the journal again for a subscriber
        self.wills = 0  # wills published
        self.paused = 0  # times that no publish was taken, for the disk's sake
        self.crashes = 0  # connections closed for a defect of ours
        self.refused: Counter[str] = Counter()  # publishes not taken, by reason
        self.closed: Counter[str] = Counter()  # connections closed by us, by reason
        self.delivery_dropped: Counter[str] = Counter()  # deliveries given up, by cause

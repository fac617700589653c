"""What happened, counted: plain integers, because the hot path adds to them and a scrape reads them.

`edge/metrics.py` turns them into Prometheus metrics when asked.
"""

from __future__ import annotations

from collections import Counter


class Tally:
    __slots__ = (
        "accepted",
        "acknowledged",
        "bytes_received",
        "closed",
        "crashes",
        "delivered",
        "delivery_dropped",
        "early",
        "paused",
        "published",
        "refused",
        "repeated",
        "replayed",
        "rested",
        "wills",
    )

    def __init__(self) -> None:
        self.accepted = 0  # TCP connections
        self.bytes_received = 0  # of payload-bearing reads
        self.published = [0, 0, 0]  # PUBLISH packets taken into the journal, by QoS
        self.acknowledged = 0  # PUBACK and PUBREC written after their commit
        self.early = (
            0  # … of which PUBACK that did not wait for it, by their stream's declared durability
        )
        self.repeated = 0  # publishes that were in the journal already and were not stored again
        self.rested = 0  # clients that waited after subscriptions that were costly to serve
        self.delivered = [0, 0, 0]  # PUBLISH packets to subscribers, by QoS
        self.replayed = 0  # messages read from the journal again for a subscriber
        self.wills = 0  # wills published
        self.paused = 0  # times that reading was paused for the disk's sake
        self.crashes = 0  # connections closed for a defect of ours
        self.refused: Counter[str] = Counter()  # publishes not taken, by reason
        self.closed: Counter[str] = Counter()  # connections closed by us, by reason
        self.delivery_dropped: Counter[str] = Counter()  # deliveries given up, by cause

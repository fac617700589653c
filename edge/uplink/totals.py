"""What went up, counted over the life of the process."""

from __future__ import annotations


class LinkTotals:
    """Of all links together."""

    def __init__(self) -> None:
        self.requests = 0
        self.batches = 0
        self.bytes = 0
        self.records = 0
        self.by_stream: dict[str, tuple[int, int]] = {}
        """(records, bytes) of batches sent."""
        self.failures = 0
        self.refused = 0

    def sent(self, stream: str, records: int, size: int) -> None:
        self.records += records
        self.bytes += size
        before = self.by_stream.get(stream, (0, 0))
        self.by_stream[stream] = (before[0] + records, before[1] + size)

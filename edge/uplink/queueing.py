"""How much may stand in the queue before the link, so that a batch handed over now is through in `latency`.

A slow link with a deep queue makes everything late: at 64 kbit/s half a megabyte is a minute, and the newest reading waits
behind it, in the kernel or in the modem, where no priority reaches. So no more is handed over than the link carries in
that time. Its rate is measured: what the peer's kernel acknowledged while the queue was never empty. The cloud's own
delay (a flush, an object store) does not enter, as it would if answers were timed.

Sans-I/O: fed with the kernel's counts before each batch. Without counts nothing is held back.
"""

from __future__ import annotations

# At hand before anything is known, and always: two seconds at 64 kbit/s, one small flight elsewhere.
BYTES_MIN = 16_384
BATCH_BYTES_MIN = 4_096
# A slow link acknowledges in lumps; a shorter look would see none or two.
_LOOK_S = 0.25
_SOON_S = 0.02
_SHARE = 0.5  # of the newest look in the rate


class LinkQueue:
    """Of one link. Asked in this order: `observe`, `room`, `handed`."""

    def __init__(self, latency_s: float) -> None:
        self.bytes_per_second = 0.0
        self._latency_s = latency_s
        self._unacked = 0
        self._last_acked = 0
        self._busy_since: float | None = None
        self._busy_acked = 0

    def connected(self) -> None:
        """A new connection: its counts begin at nothing; the rate is as good a guess as any."""
        self._unacked = self._last_acked = 0
        self._busy_since = None

    def observe(self, acked: int, unacked: int, now: float) -> None:
        """The kernel's counts, in bytes since the connection began."""
        self._last_acked, self._unacked = acked, unacked
        if self._busy_since is None:
            return
        elapsed = now - self._busy_since
        if unacked == 0:
            # it ran dry somewhere in between: the link carries at least this
            seen = (acked - self._busy_acked) / max(elapsed, 1e-3)
            self.bytes_per_second = max(self.bytes_per_second, seen)
            self._busy_since = None
        elif elapsed >= _LOOK_S:
            seen = (acked - self._busy_acked) / elapsed
            share = _SHARE if self.bytes_per_second else 1.0
            self.bytes_per_second += share * (seen - self.bytes_per_second)
            self._busy_since, self._busy_acked = now, acked

    def handed(self, size: int, now: float) -> None:
        """A batch joined the queue; where that was empty, a look at the rate begins."""
        self._unacked += size
        if self._busy_since is None:
            self._busy_since, self._busy_acked = now, self._last_acked

    @property
    def bytes_max(self) -> int:
        return max(BYTES_MIN, int(self.bytes_per_second * self._latency_s))

    @property
    def room(self) -> int:
        """Bytes that may still be handed over; 0: wait."""
        return max(0, self.bytes_max - self._unacked)

    @property
    def batch_bytes(self) -> int:
        """A good size for a batch on the wire: several in the time, so that priorities have a say in between."""
        return max(BATCH_BYTES_MIN, self.bytes_max // 4)

    def room_in(self) -> float:
        """Seconds after which it is worth looking again."""
        over = self._unacked - self.bytes_max + BATCH_BYTES_MIN
        wait = over / self.bytes_per_second if self.bytes_per_second else _SOON_S
        return min(_LOOK_S, max(_SOON_S, wait))

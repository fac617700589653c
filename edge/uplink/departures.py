"""When little leaves: together with what else is little, and not too often.

A request costs some 500 bytes on the wire (frames, acknowledgements, the answer, a batch's header) however little is in it.
So what is at hand and less than `enough_bytes` leaves when `linger_s` is over *and* `pause_s` has passed since the last time
that little left: the first reading after a silence goes almost at once, a trickle goes every `pause_s`, and lanes of all
streams become due at the same moment, so they share a request. Nobody waits longer than `pause_s`, whatever others do. While
full batches leave (a backlog fills in), requests go anyway, and live data go along without a pause.

Sans-I/O; one `Departures` is shared by all lanes of an uplink. Urgent lanes (a pause of 0) neither wait nor make others
wait.
"""

from __future__ import annotations

from typing import NamedTuple

_LONG_AGO = float("-inf")


class Patience(NamedTuple):
    """Of one lane over the present link, in seconds; `enough_bytes` before compression."""

    linger_s: float
    pause_s: float = 0.0
    enough_bytes: int = 0


class Departures:
    def __init__(self) -> None:
        self._last = _LONG_AGO
        self._full_at = _LONG_AGO

    def due(self, since: float, size: int, patience: Patience) -> float:
        """When `size` bytes leave, the first of which came at `since`."""
        soonest = since + patience.linger_s
        if size >= patience.enough_bytes or patience.pause_s <= patience.linger_s:
            return soonest
        if since < self._full_at + patience.pause_s:
            return soonest
        return min(max(soonest, self._last + patience.pause_s), since + patience.pause_s)

    def leaves(self, size: int, since: float, patience: Patience) -> None:
        """`size` bytes that were due at `since` go now."""
        if size < patience.enough_bytes and patience.pause_s > patience.linger_s:
            self._last = max(self._last, since)

    def full(self, now: float) -> None:
        """A batch as large as it may be goes."""
        self._full_at = max(self._full_at, now)

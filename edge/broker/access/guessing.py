"""Who guesses passwords is slowed, by address: a network that was wrong too often is told to come back later.

Counted is each password that had to be verified and was wrong. What is remembered as wrong is not verified again, so a site
whose devices still have an old password uses up one guess for each of them, once while it is remembered. What is
remembered as right is let in all the same. Addresses of IPv6 are counted by /64, which is what one subscriber has.
Loopback is not counted: there a proxy puts all the world behind one address, and who is on this machine has other ways.

Bounded: `NETWORKS_MAX` networks; beyond it the one whose last mistake is longest ago is forgotten.
"""

from __future__ import annotations

import ipaddress

from ....core.clock import Clock
from ..listening.door import Bucket

# About 300 bytes each.
NETWORKS_MAX = 4096


class Guesses:
    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._per_minute = 0
        self._buckets: dict[str, Bucket] = {}

    def change(self, per_minute: int) -> None:
        """Other limits from now on; 0: none."""
        if per_minute != self._per_minute:
            self._buckets.clear()
        self._per_minute = per_minute

    def are_too_many(self, host: str) -> bool:
        bucket = self._buckets.get(network(host))
        return bucket is not None and bucket.take(0, self._clock.monotonic()) > 0

    def count(self, host: str) -> None:
        """One that was wrong."""
        name = network(host)
        if not name or not self._per_minute:
            return
        now = self._clock.monotonic()
        bucket = self._buckets.pop(name, None)
        if bucket is None:
            bucket = Bucket(self._per_minute / 60, self._per_minute, now)
        self._buckets[name] = bucket  # the newest stand last
        if len(self._buckets) > NETWORKS_MAX:
            del self._buckets[next(iter(self._buckets))]
        bucket.take(1, now)


def network(host: str) -> str:
    """Of an address as a visitor has it, brackets and all; nothing for who is on this machine."""
    try:
        address = ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:  # a unix socket has none
        return ""
    if isinstance(address, ipaddress.IPv6Address):
        if address.ipv4_mapped is None:
            return (
                ""
                if address.is_loopback
                else str(ipaddress.ip_network((address, 64), strict=False))
            )
        address = address.ipv4_mapped
    return "" if address.is_loopback else str(address)

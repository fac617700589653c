"""Settings of shaping: [edge.uplink_options.shaping]. Values only; what they do stands in shaping.py."""

from __future__ import annotations

import enum

import msgspec

from ...core.errors import Misconfigured
from ...core.units import KIB, ByteSize, Duration
from .windows import Windows

PRIORITY_MAX = 9


class LinkClass(enum.StrEnum):
    ETHERNET = "ethernet"
    WIFI = "wifi"
    METERED = "metered"


class Zone(enum.StrEnum):
    UTC = "utc"
    LOCAL = "local"


class WithoutClock(enum.StrEnum):
    CLOSED = "closed"
    OPEN = "open"


class ShapingSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    rate: ByteSize = ByteSize(0)
    """Bytes a second sent over the link, headers included; 0: as fast as it goes. For a link that others share."""
    burst: ByteSize = ByteSize(64 * KIB)
    """What may go at once after a silence, under `rate`: a few batches of readings, so that a trickle never waits."""
    budget_ethernet: ByteSize = ByteSize(0)
    """Bytes a day, both directions, over a cable; 0: unlimited."""
    budget_wifi: ByteSize = ByteSize(0)
    """The same over wireless LAN."""
    budget_metered: ByteSize = ByteSize(0)
    """The same over a modem (wwan, ppp, and what `metered` names): what the SIM's contract allows, divided by days."""
    metered: tuple[str, ...] = ()
    """Interfaces that cost money though the kernel cannot know, as patterns: a USB modem shows itself as "usb0"."""
    reserve: float = 0.2
    """The last part of a budget that only streams of `reserve_priority` and above may spend: alarms at 23:00."""
    reserve_priority: int = 7
    """See `reserve`; streams have 4 unless they say otherwise."""
    window: str = ""
    """When streams below `window_priority` may send, as "01:00-05:00,13:00-14:00"; empty: always."""
    window_priority: int = 4
    """Streams below this wait for the window. The default stream's 4 is the first that does not."""
    zone: Zone = Zone.LOCAL
    """Whose midnight and whose 01:00: local (the device's time zone) or utc."""
    without_clock: WithoutClock = WithoutClock.CLOSED
    """Is the window closed or open while nobody knows the time? Closed: it waits, and the status says why."""
    latency: Duration = Duration(2)
    """What may be under way is kept so small that it is answered in this time: else live data stand behind a backlog
    in the modem's buffer for minutes. Above twice a cloud's flush and store, below what a person calls live."""

    def __post_init__(self) -> None:
        Windows.parse(self.window, key="edge.uplink_options.shaping.window")
        if not 0 <= self.reserve <= 1:
            raise Misconfigured("edge.uplink_options.shaping.reserve must be 0 to 1")
        if self.burst < 2 * KIB:
            raise Misconfigured("edge.uplink_options.shaping.burst must be 2 KiB or more")
        if not (0 <= self.reserve_priority <= 10 and 0 <= self.window_priority <= 10):
            raise Misconfigured(
                "edge.uplink_options.shaping.reserve_priority and window_priority must be 0 to 10 (10: no stream)"
            )
        if self.latency <= 0:
            raise Misconfigured("edge.uplink_options.shaping.latency must be above 0")

    def budget(self, link: LinkClass) -> int:
        """Bytes a day; 0: unlimited."""
        match link:
            case LinkClass.ETHERNET:
                return int(self.budget_ethernet)
            case LinkClass.WIFI:
                return int(self.budget_wifi)
            case LinkClass.METERED:
                return int(self.budget_metered)

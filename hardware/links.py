"""Which interface carries packets to a host, and what kind of link that is: from /proc/net and /sys/class/net.

The route is found as the kernel finds it in its main table: the longest prefix, then the lowest metric. Policy routing and
VRFs are not followed; what they would say differently has to be named by whoever set them up. A tunnel is a cable
here: what lies beneath it is not ours to see.
"""

from __future__ import annotations

import enum
import ipaddress
from collections.abc import Iterator
from typing import NamedTuple

from ..core.errors import HeadwaterError
from .sysroot import SysRoot

# Of a routing table: several thousand routes, far more than a device has.
_TABLE_BYTES_MAX = 1024 * 1024
_UP, _REJECT = 0x0001, 0x0200  # include/uapi/linux/route.h
_PPP, _RAW_IP = 512, 519  # include/uapi/linux/if_arp.h: modems with and without PPP

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class Medium(enum.Enum):
    CABLE = "cable"
    WIRELESS = "wireless"
    MODEM = "modem"


class _Route(NamedTuple):
    prefix: int
    metric: int
    interface: str


def interface_to(root: SysRoot, host: str) -> str:
    """The interface that packets to this numeric address leave by; empty where there is no route."""
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return ""
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        address = address.ipv4_mapped
    if address.is_loopback:
        return "lo"
    routes = _routes4(root, address) if address.version == 4 else _routes6(root, address)
    best = min(routes, key=lambda route: (-route.prefix, route.metric), default=None)
    return best.interface if best else ""


def medium_of(root: SysRoot, interface: str) -> Medium:
    """As far as the kernel knows: a modem that shows itself as a USB network card is a cable."""
    base = f"/sys/class/net/{interface}"
    if root.entries(f"{base}/wireless") or root.path(f"{base}/phy80211").exists():
        return Medium.WIRELESS
    try:
        kind = root.integer(f"{base}/type")
    except HeadwaterError:
        kind = 0
    try:
        lines = root.text(f"{base}/uevent").splitlines()
    except HeadwaterError:
        lines = []
    if "DEVTYPE=wlan" in lines:
        return Medium.WIRELESS
    if kind in {_PPP, _RAW_IP} or "DEVTYPE=wwan" in lines:
        return Medium.MODEM
    return Medium.CABLE


def _routes4(root: SysRoot, address: Address) -> Iterator[_Route]:
    """/proc/net/route: numbers in hexadecimal, addresses as the machine holds them (little-endian)."""
    for fields in _table(root, "/proc/net/route"):
        try:
            interface, destination, _, flags, _, _, metric, mask = fields[:8]
            target, bits = _swapped(destination), _swapped(mask)
            is_usable = int(flags, 16) & _UP and not int(flags, 16) & _REJECT
            if is_usable and int(address) & bits == target:
                yield _Route(bits.bit_count(), int(metric), interface)
        except ValueError:  # the heading, or a line cut off
            continue


def _routes6(root: SysRoot, address: Address) -> Iterator[_Route]:
    """/proc/net/ipv6_route: destination, prefix length, source, its length, next hop, metric, two counts, flags, device."""
    for fields in _table(root, "/proc/net/ipv6_route"):
        try:
            destination, length, _, _, _, metric, _, _, flags, interface = fields[:10]
            prefix, flag_bits = int(length, 16), int(flags, 16)
            if not flag_bits & _UP or flag_bits & _REJECT or interface == "lo":
                continue
            shift = 128 - prefix
            if int(address) >> shift == int(destination, 16) >> shift:
                yield _Route(prefix, int(metric, 16), interface)
        except ValueError:
            continue


def _table(root: SysRoot, path: str) -> Iterator[list[str]]:
    try:
        with root.path(path).open("rb") as file:
            text = file.read(_TABLE_BYTES_MAX).decode("ascii", "replace")
    except OSError:
        return
    for line in text.splitlines():
        yield line.split()


def _swapped(number: str) -> int:
    return int.from_bytes(bytes.fromhex(number), "little")

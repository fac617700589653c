"""What carries the link: the interface from the routing table, its class from the kernel or from the owner's word."""

from __future__ import annotations

import fnmatch

from ...hardware.links import Medium, interface_to, medium_of
from ...hardware.sysroot import SysRoot
from .limits import LinkClass

_CLASSES = {
    Medium.CABLE: LinkClass.ETHERNET,
    Medium.WIRELESS: LinkClass.WIFI,
    Medium.MODEM: LinkClass.METERED,
}


class KernelCarrier:
    """Implements `books.Carrier`. `metered`: patterns of interfaces that cost money."""

    def __init__(self, root: SysRoot, metered: tuple[str, ...] = ()) -> None:
        self._root = root
        self._metered = metered

    def __call__(self, peer_host: str) -> tuple[str, LinkClass]:
        interface = interface_to(self._root, peer_host)
        if any(fnmatch.fnmatchcase(interface, pattern) for pattern in self._metered):
            return interface, LinkClass.METERED
        return interface, _CLASSES[medium_of(self._root, interface)]

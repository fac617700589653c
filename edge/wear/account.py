"""What was written to the device since this edge first ran on it, over reboots and restarts.

The kernel counts from boot. The account adds what came since it last looked; after a reboot, all that was counted since.
It is a small file, written once an hour and at an orderly stop: what a power cut costs is an hour of *counting*, and the
counter of the same boot gives that back. Another device (a new card) begins a new account.
"""

from __future__ import annotations

import msgspec

from ...core.disk import Disk, read_whole, replace_whole
from ...core.errors import HeadwaterError

SAVE_S = 3600.0


class Account(msgspec.Struct, kw_only=True):
    """`total` and `ours` in bytes since `since_ms`; `seen` is the kernel's counter of boot `boot` when it was last read."""

    device: str = ""
    size: int = 0
    since_ms: int = 0
    total: int = 0
    payload: int = 0
    boot: str = ""
    seen: int = 0
    credit: float = 0.0

    def observe(self, boot: str, counter: int) -> int:
        """Bytes written since the last look; the first look of all counts nothing."""
        if not self.boot:
            written = 0
        elif boot != self.boot or counter < self.seen:
            written = counter
        else:
            written = counter - self.seen
        self.boot, self.seen = boot, counter
        self.total += written
        return written


def load(disk: Disk, path: str, *, device: str, size: int, now_ms: int) -> Account:
    """The account of this device; a fresh one where there is none, or another device's."""
    try:
        found = msgspec.json.decode(read_whole(disk, path), type=Account)
        if (found.device, found.size) == (device, size):
            found.since_ms = min(found.since_ms, now_ms) or now_ms
            return found
    except (HeadwaterError, msgspec.MsgspecError):
        pass
    return Account(device=device, size=size, since_ms=now_ms)


def store(disk: Disk, path: str, account: Account) -> None:
    """Raises Unavailable."""
    replace_whole(disk, path, msgspec.json.encode(account))

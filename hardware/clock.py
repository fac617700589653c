"""This machine's clock: which boot it is, and whether anything that knows the time has set it.

The kernel says (adjtimex): STA_UNSYNC is set at boot, cleared by whoever disciplines the clock (systemd-timesyncd, ntpd,
chrony with `rtcsync`, which Debian's file has), and set again when nobody did for so long that the error may be 16 s.
Where a sandbox forbids the call (systemd's `ProtectClock=`, `@system-service` without `adjtimex`), the file that
systemd-timesyncd touches at its first synchronisation says as much, without an error bound.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable

from ..core.belief import BOOT_ID_BYTES
from ..core.errors import HeadwaterError
from ..core.timekeeper import UNDISCIPLINED, Discipline
from .sysroot import SysRoot

BOOT_ID = "/proc/sys/kernel/random/boot_id"
TIMESYNC = "/run/systemd/timesync"
_SYNCHRONISED = "synchronized"
# What the kernel allows before it calls the clock unsynchronised (NTP_PHASE_LIMIT): all that the file alone says.
UNSTATED_ERROR_MS = 16_000

_STA_UNSYNC = 0x0040
_TIME_ERROR = 5


class _Timex(ctypes.Structure):
    """struct timex of <sys/timex.h> on 64-bit Linux: 208 bytes; only the head matters here."""

    _fields_ = (
        ("modes", ctypes.c_uint),
        ("offset", ctypes.c_long),
        ("freq", ctypes.c_long),
        ("maxerror", ctypes.c_long),  # microseconds
        ("esterror", ctypes.c_long),
        ("status", ctypes.c_int),
        ("rest", ctypes.c_byte * 256),
    )


class ClockReader:
    """`adjtimex` may be given by tests: returns (state, status bits, maxerror in µs), or None where it is forbidden."""

    def __init__(
        self, root: SysRoot, adjtimex: Callable[[], tuple[int, int, int] | None] | None = None
    ) -> None:
        self._root = root
        self._adjtimex = adjtimex or _Kernel().ask

    def boot(self) -> str | None:
        """The first 8 hex digits of this boot's identity; None where /proc does not show it (`ProcSubset=pid`)."""
        try:
            text = self._root.text(BOOT_ID).replace("-", "").lower()
            bytes.fromhex(text)
        except (HeadwaterError, ValueError):
            return None
        return text[: BOOT_ID_BYTES * 2] if len(text) == 32 else None

    def look(self) -> Discipline:
        """Who set the clock, if anybody did."""
        answer = self._adjtimex()
        if answer is not None:
            state, status, error_us = answer
            if state != _TIME_ERROR and not status & _STA_UNSYNC:
                return Discipline(True, -(-error_us // 1000), "kernel")
            return UNDISCIPLINED
        if _SYNCHRONISED in self._root.entries(TIMESYNC):
            return Discipline(True, UNSTATED_ERROR_MS, "timesyncd")
        return UNDISCIPLINED


class _Kernel:
    def __init__(self) -> None:
        libc = ctypes.CDLL(None, use_errno=True)
        self._call: Callable[..., int] = libc.adjtimex

    def ask(self) -> tuple[int, int, int] | None:
        timex = _Timex()
        state = self._call(ctypes.byref(timex))
        return None if state < 0 else (state, timex.status, timex.maxerror)

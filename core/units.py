"""Sizes and durations as people write them: the only parser of "64MiB" and "250ms".

Settings are written with a unit and carried as `ByteSize` (an int, bytes) and `Duration` (a float, seconds). What `parse`
lets in is a quantity that every user of it can bear: no truth value, no NaN, nothing negative, nothing without end.
"""

from __future__ import annotations

import re

from .errors import Refused

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

_SIZE_UNITS = {
    "": 1, "b": 1,
    "kb": 1000, "mb": 1000**2, "gb": 1000**3, "tb": 1000**4,
    "kib": KIB, "mib": MIB, "gib": GIB, "tib": 1024 * GIB,
}  # fmt: skip
# without a unit: seconds, as a plain number in TOML is
_TIME_UNITS = {
    "": 1.0,
    "ms": 0.001,
    "s": 1.0,
    "m": 60.0,
    "min": 60.0,
    "h": 3600.0,
    "d": 86400.0,
    "y": 365.25 * 86400.0,
}
# What a 64-bit file offset can say; and what a timer of the kernel and a date can.
BYTES_MAX = 2**63 - 1
SECONDS_MAX = 1000 * _TIME_UNITS["y"]
_QUANTITY = re.compile(r"\s*(\d+(?:\.\d+)?)\s*([a-zA-Z]*)\s*\Z")


class ByteSize(int):
    """A number of bytes."""

    @classmethod
    def parse(cls, text: str | int) -> ByteSize:
        if isinstance(text, str):
            match = _QUANTITY.match(text)
            if match is None or (unit := _SIZE_UNITS.get(match[2].lower())) is None:
                raise Refused(f"{text!r} is not a size such as 512KiB, 64MiB or 2GB")
            number = float(match[1]) * unit
        elif isinstance(text, bool):
            raise Refused("true and false are not sizes such as 512KiB, 64MiB or 2GB")
        else:
            number = text
        if not 0 <= number <= BYTES_MAX:
            raise Refused(f"{text} is not a size from 0B to 8388607TiB")
        return cls(round(number))

    def __str__(self) -> str:
        for unit, name in ((GIB, "GiB"), (MIB, "MiB"), (KIB, "KiB")):
            if self and self % unit == 0:
                return f"{int(self) // unit}{name}"
        return f"{int(self)}B"


class Duration(float):
    """A number of seconds."""

    @classmethod
    def parse(cls, text: str | float) -> Duration:
        if isinstance(text, str):
            match = _QUANTITY.match(text)
            if match is None or (unit := _TIME_UNITS.get(match[2].lower())) is None:
                raise Refused(f"{text!r} is not a duration such as 250ms, 10s, 5m, 12h, 7d or 5y")
            seconds = float(match[1]) * unit
        elif isinstance(text, bool):
            raise Refused("true and false are not durations such as 250ms, 10s, 5m, 12h, 7d or 5y")
        else:
            seconds = text
        if not 0 <= seconds <= SECONDS_MAX:  # NaN is neither
            raise Refused(f"{text} is not a duration from 0s to 1000y")
        return cls(seconds)

    def __str__(self) -> str:
        seconds = float(self)
        for unit, name in ((31_557_600, "y"), (86400, "d"), (3600, "h"), (60, "m"), (1, "s")):
            if seconds and seconds % unit == 0:
                return f"{int(seconds // unit)}{name}"
        return f"{seconds * 1000:g}ms"

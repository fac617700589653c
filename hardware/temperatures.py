"""Thermometers that the kernel knows: hwmon chips and thermal zones.

Rule: a sensor's name outlives a reboot. `hwmonN` and `thermal_zoneN` are numbered in probe order, so the name is made of
the driver's `name` (or the zone's `type`), the device's bus address where it has one, and the channel's label. Where two
sensors still answer to one name, both say so and are *uncertain*.

The kernel registers most thermal zones as hwmon chips too; such a zone is read once, as hwmon.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from typing import NamedTuple

from ..core.errors import HeadwaterError
from .sample import Quality, Sample, topic_part
from .sysroot import SysRoot

HWMON = "/sys/class/hwmon"
THERMAL = "/sys/class/thermal"
UNIT = "celsius"
# Silicon works between these; what lies outside is a floating input or a wrong scale.
CELSIUS_MIN = -55.0
CELSIUS_MAX = 150.0

_CHANNEL = re.compile(r"temp(\d+)_input\Z")


class Reading(NamedTuple):
    """What one attribute gave, before names are known to be unique."""

    name: str
    value: float | None
    doubt: str


def read_temperatures(root: SysRoot, captured_ms: int) -> list[Sample]:
    """Every thermometer of this machine. One that fails spoils only its own sample."""
    found = [*_hwmon(root), *_zones(root)]
    if not found:
        reason = f"absent: no thermometer below {HWMON} or {THERMAL} (a virtual machine?)"
        return [_sample(Reading("temperature", None, reason), Quality.BAD, captured_ms)]
    shared = {
        name for name, count in Counter(reading.name for reading in found).items() if count > 1
    }
    return [_judged(reading, reading.name in shared, captured_ms) for reading in found]


def _judged(reading: Reading, shared: bool, captured_ms: int) -> Sample:
    value = reading.value
    if reading.doubt:
        return _sample(reading, Quality.BAD, captured_ms)
    assert value is not None, "a reading without a value has a doubt"
    if not CELSIUS_MIN <= value <= CELSIUS_MAX:
        doubt = f"out of range: {value:g} is not between {CELSIUS_MIN:g} and {CELSIUS_MAX:g}"
        return _sample(reading._replace(doubt=doubt), Quality.BAD, captured_ms)
    if shared:
        doubt = "ambiguous: two sensors answer to this name"
        return _sample(reading._replace(doubt=doubt), Quality.UNCERTAIN, captured_ms)
    return _sample(reading, Quality.GOOD, captured_ms)


def _sample(reading: Reading, quality: Quality, captured_ms: int) -> Sample:
    return Sample(
        name=reading.name,
        value=reading.value,
        unit=UNIT,
        quality=quality,
        reason=reading.doubt,
        captured_ms=captured_ms,
    )


def _hwmon(root: SysRoot) -> Iterator[Reading]:
    for entry in root.entries(HWMON):
        chip = f"{HWMON}/{entry}"
        channels = sorted(
            int(match[1]) for name in root.entries(chip) if (match := _CHANNEL.match(name))
        )
        if not channels:
            continue
        name = _chip_name(root, chip)
        for channel in channels:
            label = _text(root, f"{chip}/temp{channel}_label") or str(channel)
            full = f"temperature/{name}/{topic_part(label)}"
            if _text(root, f"{chip}/temp{channel}_fault") == "1":
                yield Reading(full, None, "fault: the driver reports the sensor as open or shorted")
            else:
                yield _celsius(root, full, f"{chip}/temp{channel}_input")


def _zones(root: SysRoot) -> Iterator[Reading]:
    # hwmon names may not contain dashes: the kernel turns the zone's type `cpu-thermal` into `cpu_thermal`
    known = {_text(root, f"{HWMON}/{entry}/name") for entry in root.entries(HWMON)}
    for entry in root.entries(THERMAL):
        zone = f"{THERMAL}/{entry}"
        if not entry.startswith("thermal_zone"):
            continue
        kind = _text(root, f"{zone}/type")
        if kind.replace("-", "_") not in known or not kind:
            yield _celsius(root, f"temperature/{topic_part(kind or 'zone')}", f"{zone}/temp")


def _chip_name(root: SysRoot, chip: str) -> str:
    name = topic_part(_text(root, f"{chip}/name") or "hwmon")
    device = root.link_name(f"{chip}/device")
    if device is None or device.startswith("thermal_zone"):
        return name
    return f"{name}@{topic_part(device)}"


def _celsius(root: SysRoot, name: str, path: str) -> Reading:
    try:
        return Reading(name, root.integer(path) / 1000, "")
    except HeadwaterError as error:
        return Reading(name, None, str(error))


def _text(root: SysRoot, path: str) -> str:
    """A label that need not be there, nor be readable."""
    try:
        return root.text(path)
    except HeadwaterError:
        return ""

"""The figures that were promised, each beside what this run measured: reached or not, said in one table."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple

from .contenders import HEADWATER, MOSQUITTO, NATS_ALWAYS
from .delivery import FAN_OUT_0, FAN_OUT_1
from .fanin import ONE, TWENTY, median_of, ratio
from .flash import CLASSES
from .link import BRIDGE, UPLINK_METERED

if TYPE_CHECKING:
    from .report import Run

MIB = 1024 * 1024


class Target(NamedTuple):
    what: str
    wanted: str
    measured: str
    reached: bool | None  # None: nothing was promised


def targets(run: Run) -> Iterator[Target]:
    for part in (_fan_in, _fan_out, _memory, _drain, _wire, _flash):
        yield from part(run)


def table(run: Run) -> str:
    lines = ["## Promised and measured", "", "| | promised | measured | |", "|---|--:|--:|---|"]
    words = {True: "reached", False: "NOT reached", None: ""}
    lines += [
        f"| {each.what} | {each.wanted} | {each.measured} | {words[each.reached]} |"
        for each in targets(run)
    ]
    return "\n".join([*lines, ""]) if len(lines) > 4 else ""


def _at_most(what: str, value: float, limit: float, unit: str = "") -> Target:
    return Target(what, f"at most {limit:g}{unit}", f"{value:.2f}{unit}", value <= limit)


def _at_least(what: str, value: float, limit: float, unit: str = "") -> Target:
    return Target(what, f"at least {limit:,g}{unit}", f"{value:,.2f}{unit}", value >= limit)


def _fan_in(run: Run) -> Iterator[Target]:
    if not run.fan_in:
        return
    for name, limit in ((ONE, 1.0), (TWENTY, 1 / 3)):
        share = ratio(run.fan_in, name, "cpu_us")
        if share:
            what = f"{name}: CPU per durable acknowledgement against Mosquitto's undurable"
            yield _at_most(what, share.value, round(limit, 2), "×")
    for name in (ONE, TWENTY):
        share = ratio(run.fan_in, name, "rate", NATS_ALWAYS)
        if share:
            yield _at_least(f"{name}: rate against NATS, sync always", share.value, 10, "×")


def _fan_out(run: Run) -> Iterator[Target]:
    for name in (FAN_OUT_0, FAN_OUT_1):
        rounds = (run.served or {}).get(name, {})
        if HEADWATER.name in rounds and MOSQUITTO.name in rounds:
            shares = [
                a.rate / b.rate
                for a, b in zip(rounds[HEADWATER.name], rounds[MOSQUITTO.name], strict=True)
            ]
            yield _at_least(f"{name}: rate against Mosquitto", median_of(shares).value, 1, "×")


def _memory(run: Run) -> Iterator[Target]:
    if run.idle and HEADWATER.name in run.idle:
        idle = run.idle[HEADWATER.name]
        what = f"resident per idle connection, of {idle.connections:,}"
        yield _at_most(what, idle.bytes_per_connection / 1024, 8, " KiB")
    if run.memory:
        yield _at_most("edge idle, resident", run.memory.idle_rss_bytes / MIB, 40, " MiB")
        yield _at_most("edge loaded, resident", run.memory.loaded_rss_bytes / MIB, 80, " MiB")
    if run.drain:
        what = f"edge with a backlog of {run.drain.records:,} records going up, resident"
        yield _at_most(what, run.drain.rss_bytes / MIB, 80, " MiB")


def _drain(run: Run) -> Iterator[Target]:
    if run.drain:
        yield _at_least("backlog drained, records/s of one core", run.drain.rate, 100_000)


def _wire(run: Run) -> Iterator[Target]:
    by_rate: dict[int, dict[str, float]] = {}
    for each in run.wire or ():
        by_rate.setdefault(each.rate, {})[each.name] = each.bytes_per_reading
    for rate, names in by_rate.items():
        theirs = names.pop(BRIDGE, None)
        for name, ours in names.items():
            if theirs:
                link = "/s, metered link" if name == UPLINK_METERED else "/s"
                what = f"bytes on the wire for a 100-byte reading against a Mosquitto bridge, {rate}{link}"
                yield _at_most(what, ours / theirs, 0.2, "×")


def _flash(run: Run) -> Iterator[Target]:
    unpromised: Callable[[float], str] = "{:.2f}".format
    for each in run.written or ():
        if each.name in CLASSES:
            what = f"bytes to the device per payload byte, {each.name.removeprefix('Headwater, ')}"
            yield Target(what, "", unpromised(each.per_payload_byte), None)

"""The sections of docs/benchmarks.md beyond fan-in: one function for each, tables of what was measured."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .delivery import Idle, Retained, Served
from .fanin import PAYLOAD_BYTES, median_of
from .flash import RATE, Written
from .link import Wire
from .slowdisk import Slow

MIB = 1024 * 1024


def served(found: Mapping[str, Mapping[str, Sequence[Served]]]) -> str:
    lines = [
        f"## Subscribers: fan-out and request/response, {PAYLOAD_BYTES} B payloads",
        "",
        "Closed loop: a message is published when every subscriber has had all but the last few. Rates are deliveries, or",
        "round trips; a trip is four packets through the broker. Median over the rounds (lowest to highest).",
        "",
        "| scenario | broker | per second | CPU µs each | p50 ms | p99 ms |",
        "|---|---|--:|--:|--:|--:|",
    ]
    for scenario, contenders in found.items():
        for name, rounds in contenders.items():
            rate, cpu = median_of([r.rate for r in rounds]), median_of([r.cpu_us for r in rounds])
            p50, p99 = (
                f"{median_of(values).value:.2f}" if values else ""
                for values in (
                    [r.p50_ms for r in rounds if r.p50_ms is not None],
                    [r.p99_ms for r in rounds if r.p99_ms is not None],
                )
            )
            lines.append(
                f"| {scenario} | {name} | {rate.value:,.0f} ({rate.low:,.0f} to {rate.high:,.0f}) "
                f"| {cpu.value:.2f} ({cpu.low:.2f} to {cpu.high:.2f}) | {p50} | {p99} |"
            )
    return "\n".join([*lines, ""])


def retained(found: Mapping[str, Retained]) -> str:
    lines = [
        "## Retained: a hundred thousand topics",
        "",
        "Published at QoS 1, an orderly stop, a start (until it answers a CONNECT), then one newcomer subscribes to all.",
        "",
        "| broker | published | CPU µs each | restart s | received | in s | CPU µs each | resident MiB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for name, each in found.items():
        lines.append(
            f"| {name} | {each.published:,} | {each.publish_cpu_us:.2f} | {each.restart_seconds:.2f} "
            f"| {each.received:,} | {each.receive_seconds:.2f} | {each.receive_cpu_us:.2f} "
            f"| {each.rss_bytes / MIB:.1f} |"
        )
    return "\n".join([*lines, ""])


def idle(found: Mapping[str, Idle]) -> str:
    lines = [
        "## Idle connections",
        "",
        "| broker | connections | resident KiB each | resident MiB in all |",
        "|---|--:|--:|--:|",
    ]
    for name, each in found.items():
        lines.append(
            f"| {name} | {each.connections:,} | {each.bytes_per_connection / 1024:.2f} "
            f"| {each.rss_bytes / MIB:.1f} |"
        )
    return "\n".join([*lines, ""])


def slow(found: Sequence[Slow]) -> str:
    lines = [
        "## A slow disk",
        "",
        "Every fsync and fdatasync returns so much later (strace's delay_exit; it slows both brokers a little)",
        "as SD cards do. 100 connections. Only those that sync before they acknowledge.",
        "",
        "| sync + | in flight each | broker | acknowledged/s | p50 ms | p99 ms |",
        "|--:|--:|---|--:|--:|--:|",
    ]
    lines += [
        f"| {each.delay_ms} ms | {each.window} | {each.contender} | {each.rate:,.0f} "
        f"| {each.p50_ms:.1f} | {each.p99_ms:.1f} |"
        if each.rate
        else f"| {each.delay_ms} ms | {each.window} | {each.contender} | none in {each.seconds:.0f} s | | |"
        for each in found
    ]
    return "\n".join([*lines, ""])


def wire(found: Sequence[Wire]) -> str:
    lines = [
        "## Bytes on the wire",
        "",
        "100-byte JSON readings of ten sensors, each different, at a steady pace; all bytes of all frames on a virtual",
        "Ethernet link, both ways, headers and acknowledgements included. No TLS. A Mosquitto bridge at QoS 1 beside it.",
        "On a metered link a trickle is gathered longer (docs/uplink.md says what that costs in time).",
        "",
        "| readings/s | by | readings | bytes per reading |",
        "|--:|---|--:|--:|",
    ]
    lines += [
        f"| {each.rate:,} | {each.name} | {each.readings:,} | {each.bytes_per_reading:.1f} |"
        for each in sorted(found, key=lambda each: each.rate)
    ]
    return "\n".join([*lines, ""])


def written(found: Sequence[Written]) -> str:
    lines = [
        "## Bytes that reach the device",
        "",
        f"{RATE} readings of 100 B a second from ten sensors, QoS 1, on an ext4 of their own: the block device's count,",
        "the file system's journal included, after a `sync` at the end. Mosquitto writes its store at exit, NATS syncs",
        "every two minutes unless told `always`: what Mosquitto has not written by then is not counted, and would be lost.",
        "Headwater's log has been filled before: until then each segment is zero-filled first, twice the bytes, once.",
        "",
        "| | readings | bytes to the device per payload byte |",
        "|---|--:|--:|",
    ]
    lines += [
        f"| {each.name} | {each.readings:,} | {each.per_payload_byte:.2f} |" for each in found
    ]
    return "\n".join([*lines, ""])

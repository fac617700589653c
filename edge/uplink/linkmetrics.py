"""What holds the link back, for Prometheus: state, budgets, window, rate, waits, bytes on the wire, time to empty by stream.

Collected when asked, from the same overview as `/status`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Protocol

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from .shaping import ShapingStatus
from .status import LinkOverview, LinkState


class Overseen(Protocol):
    def overview(self) -> LinkOverview: ...


class LinkMetrics:
    """Registers itself; made once per uplink."""

    def __init__(self, uplink: Overseen, registry: CollectorRegistry) -> None:
        self._uplink = uplink
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        found = self._uplink.overview()
        state = GaugeMetricFamily("headwater_link_state", "1 for the present one", labels=["state"])
        for each in LinkState:
            state.add_metric([each.value], float(each is found.state))
        yield state
        left = GaugeMetricFamily(
            "headwater_link_stream_seconds_to_empty",
            "At the present pace and rules; absent where nobody can say",
            labels=["stream"],
        )
        waits = GaugeMetricFamily(
            "headwater_link_stream_waits",
            "1 while the stream is not sent, by reason",
            labels=["stream", "reason"],
        )
        for stream in found.streams:
            if stream.seconds_to_empty is not None:
                left.add_metric([stream.stream], stream.seconds_to_empty)
            if stream.waits:
                waits.add_metric([stream.stream, stream.waits], 1.0)
        yield from (left, waits)
        wire = CounterMetricFamily(
            "headwater_link_wire_bytes",
            "On the wire as the kernel counts them, headers, TLS and retransmissions included",
            labels=["direction"],
        )
        wire.add_metric(["sent"], found.wire.sent_bytes)
        wire.add_metric(["received"], found.wire.received_bytes)
        yield wire
        yield from _gauges(found)
        yield from _shaping(found.shaping)


def _gauges(found: LinkOverview) -> Iterator[Metric]:
    for name, text, value in (
        ("connections", "To brokers", found.wire.connections),
        ("queued_bytes", "Handed to the kernel and not yet sent", found.wire.queued_bytes),
        (
            "bytes_per_second",
            "Sent while there was something to send",
            found.wire.bytes_per_second,
        ),
    ):
        if value is not None:
            gauge = GaugeMetricFamily(f"headwater_link_{name}", text)
            gauge.add_metric([], float(value))
            yield gauge


def _shaping(shaping: ShapingStatus) -> Iterator[Metric]:
    spent = GaugeMetricFamily(
        "headwater_link_spent_bytes", "Today, both directions", labels=["link"]
    )
    left = GaugeMetricFamily(
        "headwater_link_budget_left_bytes", "Today; absent without a budget", labels=["link"]
    )
    for budget in shaping.budgets:
        spent.add_metric([budget.link.value], budget.spent)
        if budget.left is not None:
            left.add_metric([budget.link.value], budget.left)
    yield from (spent, left)
    for name, text, value in (
        ("window_open", "1 while low priorities may send", shaping.window_open),
        ("clock_trusted", "1 while windows and days go by the clock", shaping.clock_trusted),
        ("throttled_seconds", "How long the cluster wants silence yet", shaping.throttled_s),
    ):
        gauge = GaugeMetricFamily(f"headwater_link_{name}", text)
        gauge.add_metric([], float(value))
        yield gauge

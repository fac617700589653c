"""The edge for Prometheus, collected when asked: the broker counts in plain integers, and a scrape reads them.

Imported only where there is an HTTP port to be scraped at.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric

from ..core.journal.files.committer import Committer
from ..core.journal.files.journal import FileJournal
from .broker.backlog import Backlog
from .broker.broker import Broker
from .entrance import Entrance
from .gaps import GapLedger
from .keeping import Keeping
from .timekeeping import Anchoring


class BrokerMetrics:
    """Registers itself; made once per broker."""

    def __init__(self, broker: Broker, registry: CollectorRegistry) -> None:
        self._broker = broker
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        yield from self._gauges()
        tally = self._broker.tally
        for name, text, value in (
            ("connections", "TCP connections accepted", tally.accepted),
            ("received_bytes", "Bytes read from clients", tally.bytes_received),
            ("acknowledged", "PUBACK and PUBREC sent", tally.acknowledged),
            (
                "acknowledged_early",
                "PUBACK among them that did not wait, for streams that are not sync",
                tally.early,
            ),
            ("repeated", "Publishes recognised as repeats and not stored again", tally.repeated),
            ("rested", "Clients that waited after costly subscriptions", tally.rested),
            ("replayed", "Messages read from the log again for a subscriber", tally.replayed),
            ("wills", "Wills published", tally.wills),
            (
                "gathering_waits",
                "Times that a client waited for room for a large packet",
                self._broker.gathering.waits,
            ),
            (
                "cut_off",
                "Connections cut off, because all held too much unread",
                self._broker.unsent.cut,
            ),
            ("pauses", "Times that no publish was taken, for the disk's sake", tally.paused),
            ("internal_errors", "Connections closed for a defect of ours", tally.crashes),
        ):
            counter = CounterMetricFamily(f"headwater_mqtt_{name}", text)
            counter.add_metric([], value)
            yield counter
        yield _by_qos("published", "Publishes taken into the log", tally.published)
        yield _by_qos("delivered", "Publishes sent to subscribers", tally.delivered)
        yield _by_reason("refused", "Publishes not taken", tally.refused)
        yield _by_reason("closed", "Connections closed by the broker", tally.closed)
        yield _by_reason("undelivered", "Deliveries given up", tally.delivery_dropped)

    def _gauges(self) -> Iterator[Metric]:
        broker = self._broker
        for name, text, value in (
            ("clients", "Connections open", len(broker.clients)),
            ("sessions", "Sessions, connected or not", len(broker.sessions)),
            ("subscriptions", "Subscriptions of all sessions", broker.subscriptions.count),
            ("retained_messages", "Topics with a retained message", len(broker.fanout.retained)),
            ("retained_bytes", "Their topics and payloads", broker.fanout.retained.bytes_held),
            ("queued_messages", "Waiting for subscribers in memory", _queued(broker)),
            ("behind_messages", "Waiting for subscribers in the log alone", _behind(broker)),
            ("replaying", "Sessions and groups reading the log", broker.departures.replaying),
            ("replay_memory_bytes", "Bursts and chunks in memory", broker.departures.memory),
            ("unsent_bytes", "Written and not taken by the clients", broker.unsent.bytes),
            (
                "waiting_for_disk",
                "Clients of which something is held",
                len(broker.held) + len(broker.knocking),
            ),
            (
                "paused",
                "1 while no publish is taken, for the disk's sake",
                broker.paused is not None,
            ),
        ):
            gauge = GaugeMetricFamily(f"headwater_mqtt_{name}", text)
            gauge.add_metric([], float(value))
            yield gauge


class EntranceMetrics:
    """Listeners, who was turned away and why, passwords verified: by listener, where there is one."""

    def __init__(self, entrance: Entrance, registry: CollectorRegistry) -> None:
        self._entrance = entrance
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        entrance = self._entrance
        doors = [listener.door for listener in entrance.listeners.all]
        current = GaugeMetricFamily(
            "headwater_listener_connections", "Connections open", labels=["listener"]
        )
        accepted = CounterMetricFamily(
            "headwater_listener_accepted", "Connections let in at the door", labels=["listener"]
        )
        slowed = CounterMetricFamily(
            "headwater_listener_slowed",
            "Times that a client was not read for its publish rate",
            labels=["listener"],
        )
        refused = CounterMetricFamily(
            "headwater_listener_turned_away",
            "Connections closed at the door or in the handshake",
            labels=["listener", "reason"],
        )
        for door in doors:
            current.add_metric([door.label], door.open)
            accepted.add_metric([door.label], door.accepted)
            slowed.add_metric([door.label], door.slowed)
            for reason, count in sorted(door.refused.items()):
                refused.add_metric([door.label, reason], count)
        yield from (current, accepted, slowed, refused)
        access = entrance.access
        verified = CounterMetricFamily(
            "headwater_access_verifications", "Passwords verified, not answered from memory"
        )
        verified.add_metric([], access.verifications)
        waiting = GaugeMetricFamily("headwater_access_waiting", "Clients waiting for that")
        waiting.add_metric([], access.waiting)
        lost = CounterMetricFamily(
            "headwater_visits_lost", "Comings and goings that the log had no room for"
        )
        lost.add_metric([], entrance.visits.lost)
        yield from (verified, waiting, lost)


def _queued(broker: Broker) -> int:
    return sum(each.queued for each in _backlogs(broker))


def _behind(broker: Broker) -> int:
    return sum(each.behind for each in _backlogs(broker))


def _backlogs(broker: Broker) -> Iterator[Backlog]:
    for session in broker.sessions.values():
        yield session.outbound.backlog
    for group in broker.subscriptions.groups():
        yield group.backlog


def _by_qos(name: str, text: str, values: Sequence[int]) -> Metric:
    counter = CounterMetricFamily(f"headwater_mqtt_{name}", text, labels=["qos"])
    for qos, value in enumerate(values):
        counter.add_metric([str(qos)], value)
    return counter


def _by_reason(name: str, text: str, values: Mapping[str, int]) -> Metric:
    counter = CounterMetricFamily(f"headwater_mqtt_{name}", text, labels=["reason"])
    for reason, value in sorted(values.items()):
        counter.add_metric([reason], value)
    return counter


class StateMetrics:
    """Sessions and retained messages on disk: notes, checkpoints, and whether they can be written."""

    def __init__(self, broker: Broker, keeping: Keeping, registry: CollectorRegistry) -> None:
        self._broker = broker
        self._keeping = keeping
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        keeping, checkpoints = self._keeping, self._keeping.checkpoints
        if checkpoints is None:
            return
        for name, text, value in (
            ("notes", "Changes of kept sessions noted in the log", self._broker.book.said),
            ("checkpoints", "Checkpoints written", checkpoints.rounds),
            ("checkpoint_rows", "Rows written by them", checkpoints.rows),
            ("checkpoint_failures", "Checkpoints that could not be written", checkpoints.failures),
            ("unpinned", "Times that notes were let go without one", checkpoints.forsaken),
            ("losses", "What the last start could not restore", len(keeping.restored.losses)),
        ):
            counter = CounterMetricFamily(f"headwater_state_{name}", text)
            counter.add_metric([], float(value))
            yield counter
        for name, text, gauge_value in (
            (
                "failing",
                "1 while the checkpoint cannot be written",
                checkpoints.trouble is not None,
            ),
            ("restore_seconds", "How long the last start read state", keeping.restore_s),
        ):
            gauge = GaugeMetricFamily(f"headwater_state_{name}", text)
            gauge.add_metric([], float(gauge_value))
            yield gauge


class JournalMetrics:
    """The log under the broker: commits, syncs, bytes, what waits, and why it stalls."""

    def __init__(
        self,
        journal: FileJournal,
        committer: Committer,
        gaps: GapLedger,
        registry: CollectorRegistry,
    ) -> None:
        self._gaps = gaps
        self._journal = journal
        self._committer = committer
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        journal = self._journal
        counters = journal.counters
        for name, text, value in (
            ("commits", "Group commits", counters.commits),
            ("syncs", "fdatasync calls", counters.syncs),
            ("records", "Records made durable", counters.records),
            (
                "bytes_written",
                "Bytes handed to the device, padding included",
                counters.bytes_written,
            ),
            ("payload_bytes", "Bytes of record batches among them", counters.payload_bytes),
            ("padding_bytes", "Bytes of padding among them", counters.padding_bytes),
            ("sync_seconds", "Time spent in fdatasync", counters.sync_seconds),
            ("write_failures", "Writes and syncs that the disk refused", counters.write_failures),
            ("segments_abandoned", "Segments given up after that", counters.segments_abandoned),
            (
                "segments_compacted",
                "Segments rewritten without what was given up of them",
                counters.segments_compacted,
            ),
            ("compacted_bytes", "Bytes written by that", counters.compacted_bytes),
            ("records_lost", "Records declared lost in gap records", self._gaps.records_lost),
        ):
            counter = CounterMetricFamily(f"headwater_journal_{name}", text)
            counter.add_metric([], float(value))
            yield counter
        for name, text, gauge_value in (
            ("pending_bytes", "Appended and not yet durable", journal.pending_bytes),
            ("used_bytes", "Segments and spares", journal.used_bytes),
            ("limit_bytes", "What they may take", journal.bytes_limit),
            ("full", "1 while new records are refused for want of room", journal.full is not None),
            ("stalled", "1 while the disk refuses", self._committer.stalled is not None),
            ("last_sync_seconds", "The latest fdatasync", counters.last_sync_s),
            (
                "tail_bytes",
                "Records of memory streams that are in memory only",
                sum(writer.tail_bytes for writer in journal.volatile.values()),
            ),
        ):
            gauge = GaugeMetricFamily(f"headwater_journal_{name}", text)
            gauge.add_metric([], float(gauge_value))
            yield gauge
        ends = CounterMetricFamily(
            "headwater_journal_end_offset",
            "One past the newest durable record",
            labels=["stream", "partition"],
        )
        for tp in journal.partitions():
            ends.add_metric([tp.topic, str(tp.partition)], journal.bounds(tp).end)
        yield ends


class TimeMetrics:
    """What the edge believes the time to be, and how its clock has fared."""

    def __init__(self, anchoring: Anchoring, registry: CollectorRegistry) -> None:
        self._anchoring = anchoring
        registry.register(self)

    def collect(self) -> Iterable[Metric]:
        keeper = self._anchoring.keeper
        reading = keeper.reading()
        for name, text, value in (
            (
                "trust",
                "0 nobody set the clock, 1 counted from the floor, 2 synchronised",
                reading.mark.trust,
            ),
            (
                "error_seconds",
                "The most it may be off, where it is synchronised",
                reading.error_ms / 1000,
            ),
            (
                "source_refused",
                "1 while a synchronised clock is below the floor",
                keeper.refused is not None,
            ),
        ):
            gauge = GaugeMetricFamily(f"headwater_clock_{name}", text)
            gauge.add_metric([], float(value))
            yield gauge
        for name, text, count in (
            ("steps", "Jumps of the wall clock", keeper.steps),
            ("anchors", "Anchors written", self._anchoring.anchors),
        ):
            counter = CounterMetricFamily(f"headwater_clock_{name}", text)
            counter.add_metric([], count)
            yield counter

"""Headwater as the subject: the scenarios that are recorded, the real daemon over a directory, the journal read back."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from headwater.core.batch import decode_batch
from headwater.core.clock import SystemClock
from headwater.core.disk import SystemDisk
from headwater.core.gap import GAPS_PARTITION, Gap
from headwater.core.journal.files import FileJournal, FileJournalSettings
from headwater.core.journal.files.inspection import verify
from headwater.core.record import Record, TopicPartition
from headwater.core.units import KIB, MIB, ByteSize
from headwater.demo.daemon import Daemon, free_port, headwater_command

from . import company, defects, lasting
from .recording import WITH_US, Blow, Crowd, Subject, plain
from .view import PROBE, Policy, View
from .warm import WarmDaemon

SEGMENT_BYTES = 64 * KIB
BOUNDED_BYTES = 512 * KIB
BRIEF_BYTES = 128 * KIB

_CONFIG = """
[edge]
name = "powercut"
uplink = "none"
retention_interval = "1s"

[edge.mqtt_limits]
packet_bytes_max = "16KiB"

[edge.journal]
segment_bytes = "64KiB"
record_bytes_max = "32KiB"
commit_bytes_max = "32KiB"
bytes_max = "{bytes_max}"
"""
_RECYCLING_STREAMS = f"""
[[edge.streams]]
name = "bounded"
filters = ["bounded/#"]
partitions = 2
retention = {{ bytes = "{BOUNDED_BYTES // KIB}KiB" }}

[[edge.streams]]
name = "brief"
filters = ["brief/#"]
retention = {{ bytes = "{BRIEF_BYTES // KIB}KiB" }}
"""
_DROPPING_STREAMS = """
[[edge.streams]]
name = "dropped"
filters = ["dropped/#"]
partitions = 2
when_full = "drop-oldest"
"""
_CROWDED_STREAMS = f"""{_DROPPING_STREAMS}
[[edge.streams]]
name = "alarms"
filters = ["alarms/#"]
priority = 9
"""
_SESSIONS_STREAMS = """
[[edge.streams]]
name = "kept"
filters = ["kept/#"]
partitions = 3

[[edge.streams]]
name = "exact"
filters = ["exact/#"]

[[edge.streams]]
name = "retained"
filters = ["retained/#"]

[[edge.streams]]
name = "soon"
filters = ["soon/#"]
partitions = 2
durability = "interval"
interval = "300ms"

[[edge.streams]]
name = "brisk"
filters = ["brisk/#"]
durability = "memory"
interval = "1s"
memory_bytes = "64KiB"
"""
_COMPANY_STREAMS = """
[[edge.streams]]
name = "shared"
filters = ["shared/#"]
partitions = 2

[[edge.streams]]
name = "exact"
filters = ["exact/#"]
partitions = 2

[[edge.streams]]
name = "wills"
filters = ["wills/#"]

[[edge.streams]]
name = "brief"
filters = ["brief/#"]

[[edge.streams]]
name = "up"
filters = ["up/#"]

[[edge.sources.mqtt]]
name = "plant"
address = "127.0.0.1:{upstream}"
filters = ["up/#"]
receive_maximum = 8
retry_max = "100ms"
"""
_ROLLING_STREAMS = """
[[edge.streams]]
name = "kept"
filters = ["kept/#"]
partitions = 3
"""


@dataclass(frozen=True)
class Scenario:
    """`bounded`: streams that keep so many bytes of theirs; `dropped`: that give way, with gap records; `early`: that
    are acknowledged before they are on disk, as their owner declared."""

    name: str
    says: str
    streams: str
    topics: Sequence[str]
    journal_bytes: int
    bounded: dict[str, int] = field(default_factory=dict)
    dropped: frozenset[str] = frozenset()
    early: frozenset[str] = frozenset()
    share: float = 1.0  # of the messages that a run records; a full log takes them slowly
    # the publishers' kind, where they do not just publish; the topics that those who come back read to the end of
    clients: Crowd | None = None
    markers: Sequence[str] = ()
    # what happens to the daemon on the way
    blows: Sequence[Blow] = (Blow.KILL, Blow.KILL)

    @property
    def policy(self) -> Policy:
        return Policy(self.bounded, self.dropped, self.early)

    @property
    def crowd(self) -> Crowd:
        return self.clients or plain(self.topics)

    def config(self, upstream: int) -> str:
        head = _CONFIG.format(bytes_max=f"{self.journal_bytes // KIB}KiB")
        return head + self.streams.replace("{upstream}", str(upstream))

    @property
    def settings(self) -> FileJournalSettings:
        """The daemon's own, with room for one more record where the log was full."""
        return FileJournalSettings(
            segment_bytes=ByteSize(SEGMENT_BYTES),
            record_bytes_max=ByteSize(32 * KIB),
            commit_bytes_max=ByteSize(32 * KIB),
            bytes_max=ByteSize(self.journal_bytes + MIB),
        )


ROLLING = Scenario(
    name="rolling",
    says="nothing is given up; a segment every few dozen commits",
    streams=_ROLLING_STREAMS,
    topics=[*(f"kept/{n}" for n in range(6)), "other/a"],
    journal_bytes=20 * MIB,
)
RECYCLING = Scenario(
    name="recycling",
    says="two streams bounded by size: their segments are retired and overwritten all the time",
    streams=_RECYCLING_STREAMS,
    topics=["bounded/a", "bounded/b", "bounded/c", "brief/a", "brief/b"],
    journal_bytes=12 * MIB,
    bounded={"bounded": BOUNDED_BYTES, "brief": BRIEF_BYTES},
)
DROPPING = Scenario(
    name="dropping",
    says="a small log that is full and drops its oldest: gap records are written, later written again united, then "
    "segments overwritten",
    streams=_DROPPING_STREAMS,
    topics=["dropped/a", "dropped/b", "dropped/c"],
    journal_bytes=896 * KIB,
    dropped=frozenset({"dropped"}),
    share=0.4,
)
SESSIONS = Scenario(
    name="sessions",
    says="clients with lasting sessions that repeat what was not acknowledged, QoS 2, receipts, retained messages, "
    "subscribers that come and go, streams of durability `interval` and `memory`; two orderly restarts beside the kills",
    streams=_SESSIONS_STREAMS,
    topics=["kept/0"],
    journal_bytes=12 * MIB,
    early=frozenset({"soon", "brisk"}),
    clients=lasting.crowd,
    markers=("kept/0", "kept/1", "kept/2", "kept/3", "exact/0", "exact/1"),
    blows=(Blow.STOP, Blow.KILL, Blow.STOP, Blow.KILL),
)
COMPANY = Scenario(
    name="company",
    says="wills (at once, delayed, retained, withdrawn, at their session's end), shared subscriptions whose members come, "
    "go and stay away, messages that expire, topic aliases both ways, messages of another broker (`sources.mqtt`)",
    streams=_COMPANY_STREAMS,
    topics=["shared/0"],
    journal_bytes=16 * MIB,
    share=0.6,
    clients=company.crowd,
    markers=(
        *("shared/0", "shared/1", "shared/2", "exact/0", "exact/1", "exact/2"),
        *("wills/x", "brief/0", "brief/1"),
    ),
    blows=(Blow.KILL, Blow.STOP, Blow.KILL),
)
CROWDED = Scenario(
    name="crowded",
    says="a small log that is full and drops its oldest, beside sessions whose cursors and flights point into what goes, "
    "and rare alarms that may not go: what must stay of old segments is rewritten",
    streams=_CROWDED_STREAMS,
    topics=["dropped/0"],
    journal_bytes=896 * KIB,
    dropped=frozenset({"dropped"}),
    share=0.3,
    clients=company.crowded,
    markers=("dropped/0", "dropped/1", "dropped/2"),
)
SCENARIOS = (ROLLING, RECYCLING, DROPPING, SESSIONS, COMPANY, CROWDED)


def data_directory(mount: Path) -> Path:
    return mount / "edge"


def log_directory(mount: Path) -> Path:
    return data_directory(mount) / "log"


def edge(
    scenario: Scenario, folder: Path, mount: Path, *, defect: str = "", warm: bool = False
) -> Subject:
    """`defect`: a broken twin of the daemon (defects.py). `warm`: forked, not started (warm.py)."""
    config = folder / "edge.toml"
    mqtt, http, upstream = free_port(), free_port(), free_port()
    config.write_text(scenario.config(upstream), encoding="utf-8")
    arguments = ["edge", "--config", str(config), "--data-dir", str(data_directory(mount))]
    arguments += ["--mqtt", f"127.0.0.1:{mqtt}", "--http", f"127.0.0.1:{http}"]
    log = folder / "edge.log"
    if warm:
        daemon: Daemon = WarmDaemon(arguments, log=log, http_port=http, defect=defect)
    else:
        command = (defects.command(defect) if defect else headwater_command)(*arguments)
        daemon = Daemon("edge", [*WITH_US, *command], log=log, http_port=http)

    def ready() -> None:
        daemon.wait_ready()

    return Subject(daemon, mqtt, ready, upstream)


def open_journal(mount: Path, settings: FileJournalSettings) -> FileJournal:
    return FileJournal.open(
        str(log_directory(mount)),
        disk=SystemDisk(),
        clock=SystemClock(),
        settings=settings,
        rng=random.Random(0),
    )


def view(journal: FileJournal) -> View:
    seen = View()
    for partition in journal.partitions():
        start, end = journal.bounds(partition)
        seen.bounds[partition] = (start, end)
        found = seen.records[partition] = []
        offset = start
        while offset < end:
            batches = journal.read_sync(partition, offset, bytes_max=MIB)
            if not batches:
                break
            for batch in batches:
                header, records = decode_batch(batch)
                offset = header.next_offset
                found += [(r.offset, r.value or b"") for r in records if r.offset >= start]
    seen.losses = [*journal.recovery.losses, *journal.take_losses()]
    seen.volatile = list(journal.recovery.volatile)
    seen.gaps = [Gap.decode(value) for _, value in seen.records.pop(GAPS_PARTITION, [])]
    seen.quarantined = len(journal.recovery.quarantined)
    seen.torn_bytes = journal.recovery.torn_bytes
    return seen


def append_probe(journal: FileJournal) -> dict[TopicPartition, int]:
    """One record to each partition, made durable. Returns their offsets."""
    probes = {}
    for partition in [*journal.partitions(), TopicPartition("other", 0)]:
        if not partition.topic.startswith("_"):
            probes[partition] = journal.append(partition, Record(0, None, PROBE.encode(), ()))
    commit = journal.seal()
    if commit is not None:
        commit.write()
        journal.complete(commit)
    return probes


def damage(mount: Path) -> list[str]:
    """What `headwater log verify` finds wrong."""
    return verify(str(log_directory(mount)), disk=SystemDisk()).damage

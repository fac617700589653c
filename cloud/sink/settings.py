"""What a user tunes about the sink. Values only."""

from __future__ import annotations

import enum

import msgspec

from ...core.kafka.credentials import SaslSettings, TlsSettings
from ...core.units import MIB, ByteSize, Duration


class PayloadFormat(enum.StrEnum):
    """How a stream's payloads are decoded into columns (cloud/sink/payloads.py)."""

    AUTO = "auto"
    JSON = "json"
    TEXT = "text"
    RAW = "raw"


class SinkSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    bootstrap: str = "kafka://127.0.0.1:9092"
    """Where the cluster is: kafka://HOST:PORT[,HOST:PORT…], or kafkas://… over TLS. Any broker of it; the rest is learnt."""

    tls: TlsSettings = TlsSettings()
    """For kafkas://HOST:PORT."""

    sasl: SaslSettings = SaslSettings()
    """For a cluster that asks who its clients are."""

    lake: str = "./headwater-data/lake"
    """A directory or s3://bucket/prefix. Below it each stream has a Delta table of its name."""

    interval: Duration = Duration(10)
    """At most this long from fetch to commit. Ten seconds: fresh enough to look at, 8,640 files a stream and day."""

    commit_bytes: ByteSize = ByteSize(16 * MIB)
    """Commit earlier when a table has this much fetched, compressed as it travels: readings shrink tenfold, so a commit of
    16 MiB is a million rows and more, and takes most of a gigabyte while it is built."""

    memory_bytes: ByteSize = ByteSize(64 * MIB)
    """Fetched and not yet committed, compressed, over all tables; fetching stops above."""

    fetch_bytes: ByteSize = ByteSize(8 * MIB)
    """One answer of one broker: large enough to amortise the round trip, small against memory_bytes."""

    partition_bytes: ByteSize = ByteSize(1 * MIB)
    """One partition's share of it, so that a partition far behind does not starve the others."""

    fetch_wait: Duration = Duration(0.5)
    """How long a broker holds an empty fetch open. Bounds the time to notice a stop, too."""

    discovery: Duration = Duration(5)
    """How often new streams and partitions are looked for."""

    include: tuple[str, ...] = ("*",)
    """Streams to follow, as shell patterns."""

    exclude: tuple[str, ...] = ("__*",)
    """Streams not to follow: by default a Kafka cluster's internal topics. Headwater's own `_gaps` is followed."""

    formats: dict[str, PayloadFormat] = {}
    """Per stream: auto, json, text or raw. Auto decodes JSON objects and plain numbers and keeps everything else as text."""

    columns_max: int = 200
    """Decoded columns per table (device names as keys would make one each); what comes later goes to `_extra`."""

    zstd_level: int = 3
    """Of Parquet pages. Three: within 3 % of the size of nine at a fifth of the time on sensor readings."""

    commits_at_once: int = 4
    """Tables that commit at the same time; a commit is mostly waiting for the store."""

    drain: Duration = Duration(20)
    """After SIGTERM, how long to try committing what was fetched. It is in the log anyway: only freshness is at stake."""

    http: str = ""
    """HOST:PORT of /healthz, /readyz and /metrics; empty: none."""

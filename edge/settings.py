"""Everything that may be set about an edge: the section [edge] of the TOML file. Values only.

Each part keeps its own settings beside its code; this file composes them and checks them against each other.
"""

from __future__ import annotations

import msgspec

from ..core.address import optional_address, split_address
from ..core.errors import Misconfigured, Refused
from ..core.journal.files.settings import FileJournalSettings
from ..core.record import check_name
from ..core.units import Duration
from .broker.settings import MqttSettings
from .streams import StreamSettings, StreamTable
from .uplink.settings import UplinkSettings

KAFKA_SCHEME = "kafka://"
NONE = "none"


class EdgeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str = ""
    """Part of every record's address, so it must be unique among the edges of one cloud. Empty: the host's name."""
    data_dir: str = "./headwater-data/edge"
    """The log and the edge's small state. On a device: a directory on the largest, best card."""
    mqtt: str = "127.0.0.1:1883"
    """HOST:PORT. Loopback by default, because clients are not asked who they are."""
    uplink: str = NONE
    """kafka://HOST:PORT[,HOST:PORT…]: Headwater's cloud or any Kafka cluster; none: keep everything here."""
    http: str = "127.0.0.1:9464"
    """HOST:PORT of /readyz, /healthz and /metrics, or none. Loopback: metrics are for the machine's own agent."""
    streams: tuple[StreamSettings, ...] = ()
    """[[edge.streams]]: the first whose filter matches a topic takes the message."""
    default_stream: str = "default"
    """Takes what no other stream's filters match; declare a stream of this name to set more than its name."""
    retention_interval: Duration = Duration(10)
    """How often limits are enforced. The log holds reserve segments, so seconds do not matter; flash does."""
    drain_timeout: Duration = Duration(10)
    """At SIGTERM: how long what is pending may take to reach the disk. Below systemd's 90 s, above any healthy sync."""
    mqtt_limits: MqttSettings = MqttSettings()
    journal: FileJournalSettings = FileJournalSettings()
    uplink_options: UplinkSettings = UplinkSettings()

    def check(self) -> StreamTable:
        """Every rule between settings. Raises Misconfigured."""
        if self.name:
            try:
                check_name(self.name, what="edge name")
            except Refused as error:
                raise Misconfigured(f"edge.name: {error}") from None
        self.mqtt_limits.check()
        _ = self.bootstrap
        split_address(self.mqtt, key="edge.mqtt")
        optional_address(self.http, key="edge.http")
        largest = self.journal.record_bytes_max
        if self.mqtt_limits.packet_bytes_max > largest:
            raise Misconfigured(
                f"edge.mqtt_limits.packet_bytes_max {self.mqtt_limits.packet_bytes_max} is above "
                f"edge.journal.record_bytes_max {largest}: such a publish could not be stored"
            )
        return StreamTable(self.streams, default=self.default_stream)

    @property
    def bootstrap(self) -> tuple[tuple[str, int], ...]:
        """The cluster's first addresses; empty without an uplink. Raises Misconfigured."""
        if self.uplink == NONE:
            return ()
        if not self.uplink.startswith(KAFKA_SCHEME):
            raise Misconfigured(
                f"edge.uplink must be kafka://HOST:PORT[,HOST:PORT…] or none, not {self.uplink!r}"
            )
        return tuple(
            split_address(part, key="edge.uplink")
            for part in self.uplink.removeprefix(KAFKA_SCHEME).split(",")
        )

"""Everything that may be set about an edge: the section [edge] of the TOML file. Values only.

Each part keeps its own settings beside its code; this file composes them and checks them against each other.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from ..core.address import optional_address, split_address
from ..core.errors import Misconfigured, Refused
from ..core.journal.files.settings import FileJournalSettings
from ..core.record import check_name
from ..core.units import Duration
from .broker.access.settings import AccessSettings
from .broker.listening.settings import SIMPLE, ListenerSettings, check_listeners
from .broker.settings import MqttSettings
from .sources.settings import SourcesSettings
from .streams import StreamSettings, StreamTable
from .timekeeping import TimeSettings
from .uplink.settings import UplinkSettings
from .visits import VisitSettings
from .wear.settings import WearSettings

KAFKA_SCHEME = "kafka://"
KAFKA_TLS_SCHEME = "kafkas://"
NONE = "none"


class EdgeSettings(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    name: str = ""
    """Part of every record's address, so it must be unique among the edges of one cloud. Empty: the host's name."""
    data_dir: str = "./headwater-data/edge"
    """The log and the edge's small state. On a device: a directory on the largest, best card."""
    mqtt: str = "127.0.0.1:1883"
    """HOST:PORT of plain MQTT, or none. Loopback by default: there anonymous clients are taken, elsewhere not."""
    anonymous: bool = False
    """Take anonymous clients on edge.mqtt also where other machines reach it: for a network that you trust."""
    plain_passwords: bool = False
    """Take passwords on edge.mqtt, which has no TLS, also where other machines reach it: the same."""
    uplink: str = NONE
    """kafkas://HOST:PORT[,HOST:PORT…] over TLS, kafka://… in the clear: Headwater's cloud or any Kafka cluster; none: keep
    everything here."""
    http: str = "127.0.0.1:9464"
    """HOST:PORT of /readyz, /healthz and /metrics, or none. Loopback: metrics are for the machine's own agent."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """debug shows every client that comes and goes; changed live by SIGHUP."""
    sys_interval: Duration = Duration(10)
    """How often $SYS topics are told to who subscribes to them (to nobody else they cost nothing); 0: there are none."""
    listeners: tuple[ListenerSettings, ...] = ()
    """[[edge.listeners]]: others beside edge.mqtt, with TLS, over WebSocket, with limits of their own."""
    access: AccessSettings = AccessSettings()
    connections: VisitSettings = VisitSettings()
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
    wear: WearSettings = WearSettings()
    time: TimeSettings = TimeSettings()
    sources: SourcesSettings = SourcesSettings()
    uplink_options: UplinkSettings = UplinkSettings()

    def check(self) -> StreamTable:
        """Every rule between settings. Raises Misconfigured."""
        if self.name:
            try:
                check_name(self.name, what="edge name")
            except Refused as error:
                raise Misconfigured(f"edge.name: {error}") from None
        if not self.data_dir:
            raise Misconfigured("edge.data_dir must name a directory; . is the current one")
        self.mqtt_limits.check()
        self.connections.check()
        self.time.check()
        self.wear.check()
        self.sources.check()
        if self.bootstrap:
            self.uplink_options.sasl.check("edge.uplink_options.sasl", is_tls=self.uplink_is_tls)
        optional_address(self.mqtt, key="edge.mqtt")
        self.access.check()
        check_listeners(self.all_listeners, has_passwords=bool(self.access.password_file))
        optional_address(self.http, key="edge.http")
        largest = self.journal.record_bytes_max
        if self.mqtt_limits.packet_bytes_max > largest:
            raise Misconfigured(
                f"edge.mqtt_limits.packet_bytes_max {self.mqtt_limits.packet_bytes_max} is above "
                f"edge.journal.record_bytes_max {largest}: such a publish could not be stored"
            )
        return StreamTable(self.streams, default=self.default_stream)

    @property
    def all_listeners(self) -> tuple[ListenerSettings, ...]:
        """edge.mqtt as a listener like the others, and first."""
        if optional_address(self.mqtt, key="edge.mqtt") is None:
            return self.listeners
        simple = ListenerSettings(
            address=self.mqtt,
            name=SIMPLE,
            anonymous=True if self.anonymous else None,
            plain_passwords=self.plain_passwords,
        )
        return (simple, *self.listeners)

    @property
    def bootstrap(self) -> tuple[tuple[str, int], ...]:
        """The cluster's first addresses; empty without an uplink. Raises Misconfigured."""
        if self.uplink == NONE:
            return ()
        if not self.uplink.startswith((KAFKA_SCHEME, KAFKA_TLS_SCHEME)):
            raise Misconfigured(
                "edge.uplink must be kafkas://HOST:PORT[,HOST:PORT…], kafka://… or none, "
                f"not {self.uplink!r}"
            )
        return tuple(
            split_address(part, key="edge.uplink")
            for part in self.uplink.partition("://")[2].split(",")
        )

    @property
    def uplink_is_tls(self) -> bool:
        return self.uplink.startswith(KAFKA_TLS_SCHEME)
